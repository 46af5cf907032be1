# Everything sets itself up: a virtual environment in .venv, from the pinned requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LIGHT := .venv-bench
OTHERS := .venv-landscape

# An environment in $(1).
define venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12"; exit 2; }
	$(1)/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(1)
endef

.PHONY: help setup reproduce plan test test-bench test-landscape test-portable test-slow docs check-gpu bench-kernels bench-threads bench-workers bench bench-full lint graph lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

setup: $(READY)  ## set up .venv (the other targets do it too)

$(READY): requirements.lock pyproject.toml
	$(call venv,$(VENV))
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

reproduce: setup  ## run the default profile, print its tables and whether they are the published ones
	$(BIN)/safs-bench run
	@$(BIN)/safs-bench verify || test $$? -ne 2  # another result is still a result

plan: setup  ## say what the default profile trains, and how long that takes here
	$(BIN)/safs-bench plan

test: setup lint  ## lint, types and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow and not bench" --numprocesses auto --dist loadfile --no-loadscope-reorder

test-bench: $(LIGHT)/.ready  ## the tests of bench/ in an environment of their own, without torch
	$(LIGHT)/bin/python -m pytest tests/bench -m "not slow and not bench and not browser" --numprocesses auto --dist loadfile --no-loadscope-reorder

$(LIGHT)/.ready: requirements.lock pyproject.toml
	$(call venv,$(LIGHT))
	$(LIGHT)/bin/python -m pip install --quiet --no-compile --constraint requirements.lock --editable '.[test-bench]'
	touch $@

test-landscape: $(OTHERS)/.ready  ## the landscape behind CARP-S and Syne Tune, in an environment with these
	$(OTHERS)/bin/python -m pytest tests/bench/test_landscape_adapters.py

$(OTHERS)/.ready: requirements.lock pyproject.toml
	$(call venv,$(OTHERS))
	$(OTHERS)/bin/python -m pip install --quiet --no-compile --constraint requirements.lock --editable '.[landscape,test-bench]'
	touch $@

test-portable: setup  ## the kernels' bits from every compiler here, under sanitizers and on emulated processors
	$(BIN)/python tests/portable/everywhere.py

test-slow: setup  ## the tests that take more than a minute
	$(BIN)/python -m pytest -m "slow and not bench"

docs: setup  ## build the site of docs/ in docs/_build/html; a warning is an error
	PYTHONHASHSEED=0 $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo docs/_build/html/index.html

check-gpu: setup  ## the acceptance run for a machine with a CUDA device
	@$(BIN)/safs-bench check-gpu

bench-kernels: setup  ## time sparse against dense training here, with the roofline
	$(BIN)/python tests/benchmarks/kernels.py --out results/speed/kernels.json

bench-threads: setup  ## time a second thread in one training, on an idle machine
	$(BIN)/python tests/benchmarks/threads.py

bench-workers: setup  ## time two workers against one, on an idle machine
	$(BIN)/python tests/benchmarks/workers.py

bench: setup  ## time an epoch of every phase (quiet machine, under 5 minutes), for safs-bench cost
	@mkdir -p scratch
	$(BIN)/python -m pytest tests/benchmarks -m "bench and not slow" --benchmark-json scratch/bench.json

bench-full: setup  ## the same with every phase of the large networks
	@mkdir -p scratch
	$(BIN)/python -m pytest tests/benchmarks -m bench --benchmark-json scratch/bench.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

graph: setup  ## list in dvc.yaml what each stage imports, and copy it into every profile
	$(BIN)/python -m pipelines.dvc.dependencies

lock: setup  ## pin what pyproject.toml asks for, as it is installed now
	$(BIN)/python -m pip install --quiet --editable '.[run,slurm,export,test,test-bench,docs]'
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean:  ## remove checkpoints and journals
	$(BIN)/safs-bench clean
