"""The whole pipeline through DVC, in clones of the checkout, on generated images.

What it shows: every stage of every arm runs; a second call does nothing; a run killed twice ends
with the records of an uninterrupted one; an added replicate and a changed pair train alone. What
needs further runs is slow (`make test-slow`); :mod:`test_compute_death`, :mod:`test_stages` and
:mod:`test_fast` show the same of single stages.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from bench.labs.reading import validate
from bench.records.record import Record
from pipelines.storage import layout
from safs import arms

ROOT = Path(__file__).parents[2]
ARMS = {name: arm for name, arm in arms.ARMS.items() if not arm.operator and name != "dense"}
SWEPT = ("all_tanh", "all_prelu")
PAIR = "lenet5_generated"
PARAMS, OTHER = "pipelines/profiles/smoke/params.yaml", "pipelines/pairs/lenet5_other.yaml"


class Clone:
    """A clone of the working tree in an empty folder, with its own DVC cache."""

    def __init__(self, path: Path, source: Path = ROOT) -> None:
        self.path = path
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=source,
            capture_output=True,
            check=True,
        ).stdout
        for name in filter(None, files.decode().split("\0")):
            if (source / name).exists() or (source / name).is_symlink():
                target = path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, target, follow_symlinks=False)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.path, check=True)

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PYTHONPATH": str(self.path), "PATH": path}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def bench(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "pipelines.cli.main", *arguments, check=check)

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "dvc", *arguments, check=check)

    def edit(self, file: str, change) -> None:
        values = yaml.safe_load((self.path / file).read_text())
        change(values)
        (self.path / file).write_text(yaml.safe_dump(values, sort_keys=False))

    def records(self, profile: str = "smoke") -> dict[str, dict]:
        """Every record without what may differ between runs: time, memory, environment."""
        found = {}
        folder = self.path / "runs" / profile / "evaluate"
        for path in sorted(folder.rglob("*.json")):
            record = json.loads(path.read_text())
            for name in ("seconds", "memory", "environment", "digest"):
                del record[name]
            found[path.relative_to(folder).as_posix()] = record
        return found

    def trained(self) -> set[str]:
        """Replicates for which scratch holds a training or search."""
        artefacts = (self.path / "scratch").rglob("artefact.json")
        jobs = [json.loads(path.read_text()) for path in artefacts]
        found = {job["job"]["replicate"] for job in jobs if "job" in job}
        return found | {job["trace"]["replicate"] for job in jobs if "trace" in job}


def one_pair(values: dict) -> None:
    """LeNet-5 alone, with every arm."""
    values["pairs"] = [PAIR]
    values["cells"] = {f"{PAIR}-0.90": {"pair": PAIR, "ratio": 0.9}}
    values["arms"] = list(ARMS)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the smoke profile has been run with every arm of LeNet-5."""
    clone = Clone(tmp_path_factory.mktemp("smoke"))
    clone.edit(PARAMS, one_pair)
    done = clone.bench("run", "smoke")
    assert "results/smoke/report.html" in done.stdout
    return clone


def test_every_arm_has_a_valid_record(smoke: Clone) -> None:
    study = yaml.safe_load((smoke.path / "pipelines/profiles/smoke/params.yaml").read_text())
    assert set(study["arms"]) == set(ARMS)
    names = {"dense-r0.json", "dense-r1.json"}
    names |= {f"{arm}-0.9-r{r}.json" for arm in (*ARMS, *SWEPT) for r in (0, 1)}
    files = list((smoke.path / "runs/smoke/evaluate" / PAIR).iterdir())
    assert {file.name for file in files} == names
    assert [problem for file in files for problem in validate(file)] == []
    done = smoke.bench("validate", *map(str, files))
    assert f"{len(files)} valid" in done.stdout


def test_records_tell_what_was_spent_and_kept(smoke: Clone) -> None:
    folder = smoke.path / "runs/smoke/evaluate" / PAIR
    params = yaml.safe_load((smoke.path / "pipelines/profiles/smoke/params.yaml").read_text())
    budget = params["budget"]
    search = (budget["search"]["moves"] + 1) * budget["search"]["epochs"]
    tune = budget["tune"]["trials"] * budget["tune"]["epochs"]
    for r in (0, 1):
        record = Record.read(folder / f"safs-0.9-r{r}.json")
        assert record.epochs.model_dump() == {
            "final": budget["finetune"]["epochs"],
            "search": search,
            "tune": tune,
        }
        assert {k: v.kept for k, v in record.parameters.layers.items()} == {
            "conv1": 15, "conv2": 240, "fc1": 3072, "fc2": 1008, "fc3": 84,
        }  # fmt: skip
        assert record.parameters.activation == 8
        assert all(slot.alpha != 1 or slot.beta != 1 for slot in record.slots)
        whole = Record.read(folder / f"default_hpo_total-0.9-r{r}.json")
        assert whole.trials.tune == budget["tune"]["trials"] + budget["search"]["moves"] + 1
        assert {s.operator for s in whole.slots} == {"relu"}
        dense = Record.read(folder / f"dense-r{r}.json")
        assert dense.epochs.final == budget["pretrain"]["epochs"] and dense.connectivity is None
        vanilla = Record.read(folder / f"vanilla-0.9-r{r}.json")
        assert vanilla.connectivity == record.connectivity
        assert vanilla.digests.data == record.digests.data == dense.digests.data


def test_tuned_arms_share_their_first_recipes(smoke: Clone) -> None:
    folder = smoke.path / "runs/smoke/tune" / PAIR / "0.9"
    for r in (0, 1):
        traces = [json.loads(p.read_text())["trace"] for p in folder.glob(f"*-tune-r{r}.json")]
        tuned = [arm for arm in ARMS if layout.trained_in(arm) == "tune"]
        assert len(traces) == len(tuned)
        first = [[trial["config"] for trial in trace["trials"][:3]] for trace in traces]
        assert all(configs == first[0] for configs in first)
        assert first[0][0]["optimizer"] == "sgd" and first[0][0]["lr"] == 0.1


def test_results_are_there_and_complete(smoke: Clone) -> None:
    results = smoke.path / "results/smoke"
    for name in ("table1", "table2", "connectivity", "cost", "failures"):
        for ending in ("csv", "md", "tex"):
            assert (results / f"tables/{name}.{ending}").stat().st_size > 0
    metrics = json.loads((results / "tables/summary.json").read_text())
    runs = metrics["runs"]
    assert runs["ok"] == runs["expected"] == 2 * (len(ARMS) + len(SWEPT) + 1)
    page = (results / "report.html").read_text()
    assert page.count("<svg") >= 3 and "http" not in page.replace("http://www.w3.org", "")


def test_a_second_call_does_nothing(smoke: Clone) -> None:
    done = smoke.dvc("repro", "pipelines/profiles/smoke/dvc.yaml")
    assert "up to date" in done.stdout and "Running stage" not in done.stdout


def test_dvc_sends_nothing_home(smoke: Clone) -> None:
    config = (smoke.path / ".dvc/config").read_text()
    assert "analytics = false" in config and "check_update = false" in config


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_never_interrupted(smoke: Clone, tmp_path: Path) -> None:
    """kill -9 of everything, once during the search and once during stage 2, then again."""
    clone = Clone(tmp_path / "killed")
    clone.edit(PARAMS, one_pair)
    for stage in ("search", "tune"):
        _kill_during(clone, stage)
    clone.bench("run", "smoke")
    assert clone.records() == smoke.records()
    for trace in ("search", "tune"):
        assert _traces(clone, trace) == _traces(smoke, trace)


def _kill_during(clone: Clone, stage: str) -> None:
    """Start the run and kill its whole process group once `stage` has journalled a training."""
    command = [sys.executable, "-m", "pipelines.cli.main", "run", "smoke"]
    process = subprocess.Popen(
        command,
        cwd=clone.path,
        env=clone.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not list((clone.path / "scratch").glob(f"{stage}/*/trainings.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline, f"never reached {stage}"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    unfinished = list((clone.path / "scratch").glob(f"{stage}/*/trainings.jsonl"))
    assert any(not path.with_name("artefact.json").exists() for path in unfinished)
    time.sleep(1.0)


def _traces(clone: Clone, stage: str) -> dict[str, dict]:
    folder = clone.path / "runs/smoke" / stage
    contents = {p.name: json.loads(p.read_text()) for p in folder.rglob("*.json")}
    return {name: content["trace"] for name, content in contents.items() if "trace" in content}


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Clone]:
    """Two pairs run in lab A; lab B is a clone that pulled A's outs and has no scratch."""
    lab_a = Clone(tmp_path_factory.mktemp("a"))
    shutil.copy(lab_a.path / f"pipelines/pairs/{PAIR}.yaml", lab_a.path / OTHER)
    lab_a.edit(PARAMS, two_pairs)
    lab_a.bench("run", "smoke")
    remote = tmp_path_factory.mktemp("remote")
    lab_a.dvc("remote", "add", "-d", "shared", str(remote))
    lab_a.dvc("push", "pipelines/profiles/smoke/dvc.yaml")
    lab_b = Clone(tmp_path_factory.mktemp("b"), source=lab_a.path)
    lab_b.dvc("pull", "pipelines/profiles/smoke/dvc.yaml")
    return lab_a, lab_b


def two_pairs(values: dict) -> None:
    one_pair(values)
    values["arms"] = ["vanilla", "safs"]
    values["pairs"].append("lenet5_other")
    values["cells"]["lenet5_other-0.90"] = {"pair": "lenet5_other", "ratio": 0.9}


def one_more_replicate(values: dict) -> None:
    """Of the first pair alone: the other one has served its purpose."""
    one_pair(values)
    values["arms"] = ["vanilla", "safs"]
    values["replicates"] = 3


@pytest.mark.slow
def test_a_changed_pair_reruns_its_own_stages_only(labs: tuple[Clone, Clone]) -> None:
    clone = labs[0]
    kept = (clone.path / OTHER).read_text()
    clone.edit(OTHER, lambda values: values["recipe"].update(lr=0.05))
    planned = clone.dvc("repro", "--dry", "pipelines/profiles/smoke/dvc.yaml").stdout
    running = [line for line in planned.splitlines() if line.startswith("Running stage")]
    for stage in ("pretrain", "baselines", "search", "tune"):
        assert any(f"{stage}@lenet5_other" in line for line in running)
    assert not any(PAIR in line for line in running), running
    (clone.path / OTHER).write_text(kept)


@pytest.mark.slow
@pytest.mark.parametrize("lab", [0, 1], ids=["here", "in a clone that pulled"])
def test_an_added_replicate_trains_alone(labs: tuple[Clone, Clone], lab: int) -> None:
    clone = labs[lab]
    before = {name: r for name, r in clone.records().items() if r["pair"] == PAIR}
    shutil.rmtree(clone.path / "scratch", ignore_errors=True)
    clone.edit(PARAMS, one_more_replicate)
    clone.bench("run", "smoke")
    assert clone.trained() == {2}
    after = {name: r for name, r in clone.records().items() if r["pair"] == PAIR}
    assert {name: after[name] for name in before} == before
    new = {name.replace("-r0", "-r2") for name in before if "-r0" in name}
    assert set(after) - set(before) == new


def test_bad_parameters_end_with_code_2_and_write_nothing(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "bad")
    clone.edit("pipelines/profiles/smoke/params.yaml", lambda v: v["arms"].append("safz"))
    done = clone.bench("run", "smoke", check=False)
    assert done.returncode == 2
    assert "unknown arm 'safz'; did you mean 'safs'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    again = clone.dvc("repro", "pipelines/profiles/smoke/dvc.yaml", check=False)
    assert again.returncode != 0 and "did you mean 'safs'" in again.stderr
    assert not (clone.path / "runs").exists() and not (clone.path / "scratch").exists()
    assert not (clone.path / "results/smoke").exists()


@pytest.mark.slow
def test_all_five_pairs_run_through_every_stage(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "five")
    clone.bench("run", "smoke")
    profile = yaml.safe_load((clone.path / PARAMS).read_text())
    assert len(profile["pairs"]) == 5
    records = clone.records().values()
    assert {record["pair"] for record in records} == set(profile["pairs"])
    studies = 2 * len(profile["studies"]["activations"]["operators"])  # on one cell
    assert len(records) == 5 * 2 * (len(profile["arms"]) + 1) + studies
    assert {f["reason"] for record in records for f in record["finals"]} == {None}
