"""Where work runs: the file, the environment over it, and what is said when they are wrong."""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml

from pipelines import compute
from pipelines.compute import clusters, place
from pipelines.compute import placement as placement_module
from pipelines.compute import pool as pool_module
from pipelines.compute.placement import Place, Placement, announce, announced, spread
from pipelines.compute.pool import number_of
from pipelines.compute.settings import Compute, default_workers, visible_gpus
from pipelines.dvc import launch
from pipelines.tasks.shared import multiply_adds, own_device
from safs.errors import SafsError
from safs.spec import NetworkSpec

SLURM = {"memory": "4GB", "walltime": "02:00:00"}
VARIABLES = (
    "SAFS_COMPUTE",
    "SAFS_WORKERS",
    "SAFS_THREADS",
    "SAFS_DEVICE",
    "SAFS_DATA",
    "SAFS_IDLE_SECONDS",
    "DASK_SCHEDULER_ADDRESS",
)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An empty folder and none of the variables."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def write(**values) -> None:
    Path("compute.yaml").write_text(yaml.safe_dump(values))


def test_without_a_file_work_is_local():
    found = compute.settings()
    assert (found.kind, found.workers, found.device) == ("local", None, "auto")
    assert compute.settings().count == default_workers("auto") >= 1


def test_the_environment_is_laid_over_the_file(monkeypatch):
    write(workers=7, device="cpu")
    assert (compute.settings().count, compute.settings().device) == (7, "cpu")
    monkeypatch.setenv("SAFS_WORKERS", "3")
    monkeypatch.setenv("SAFS_DEVICE", "cuda:1")
    assert (compute.settings().count, compute.settings().device) == (3, "cuda:1")
    monkeypatch.setenv("SAFS_WORKERS", "")
    monkeypatch.setenv("SAFS_THREADS", "")
    assert compute.settings().count == 7, "set and empty is not set"
    assert "SAFS_THREADS" not in os.environ, "nor for the kernels"


@pytest.mark.parametrize(("workers", "threads"), [(1, 6), (2, 3), (4, 2), (0, 6)])
def test_cores_that_no_training_would_use_become_threads(workers, threads, monkeypatch):
    """Six cores; the study has three trainings at a time, whatever the workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("SAFS_WORKERS", str(workers))
    profile = SimpleNamespace(replicates=3, cells={"one": None})
    assert launch.threads_each(SimpleNamespace(profile=profile)) == threads


def test_a_schedulers_address_wins(monkeypatch):
    write(kind="slurm", workers=4, slurm=SLURM)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://10.0.0.1:8786")
    found = compute.settings()
    assert (found.kind, found.address, found.slurm) == ("address", "tcp://10.0.0.1:8786", None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"kind": "slrum"}, "compute.yaml: kind: got 'slrum'; expected 'local', 'address' or"),
        ({"wrokers": 2}, "compute.yaml: unknown key 'wrokers'; did you mean 'workers'?"),
        ({"threads": 0}, "compute.yaml: threads: got 0; expected greater than"),
        ({"workers": -1}, "compute.yaml: workers: got -1; expected greater than or equal to 0"),
        ({"device": "gpu"}, "compute.yaml: device: 'gpu': expected auto, cpu, cuda or cuda:N"),
        ({"kind": "address"}, "compute.yaml: kind address and the key address go together"),
        ({"slurm": SLURM}, "compute.yaml: kind slurm and the key slurm go together"),
        ({"kind": "slurm", "slurm": SLURM}, "compute.yaml: kind slurm needs workers"),
        (
            {"kind": "slurm", "workers": 2, "slurm": {**SLURM, "partition": "gpu"}},
            "compute.yaml: unknown key 'slurm.partition'",
        ),
        (
            {"kind": "slurm", "workers": 2, "slurm": {**SLURM, "walltime": "2h"}},
            "compute.yaml: slurm.walltime: '2h': expected hh:mm:ss",
        ),
        (
            {"kind": "slurm", "workers": 2, "slurm": {"walltime": "01:00:00"}},
            "compute.yaml: missing key 'slurm.memory'",
        ),
    ],
)
def test_a_wrong_file_is_one_line(values, expected):
    write(**values)
    with pytest.raises(SafsError) as error:
        compute.settings()
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("SAFS_WORKERS", "two")
    with pytest.raises(SafsError, match=r"SAFS_WORKERS.*: workers: got 'two'; expected a valid"):
        compute.Pool(lambda identity, epoch: None)


def test_a_file_that_is_named_must_exist(monkeypatch):
    monkeypatch.setenv("SAFS_COMPUTE", "elsewhere.yaml")
    with pytest.raises(SafsError, match=r"elsewhere\.yaml: no such file"):
        compute.settings()


def test_workers_for_the_cores_and_for_every_gpu_that_is_visible(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert default_workers("auto", tmp_path) == default_workers("cuda", tmp_path) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert default_workers("auto", tmp_path) == default_workers("cuda", tmp_path) == 2
    assert default_workers("cuda:0", tmp_path) == 1
    for three_of_which_one in ("0,3,1", "0,0,1", "0,,1", "GPU-8932f937,NoDevFiles,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", three_of_which_one)
        assert visible_gpus(tmp_path) == 1, "CUDA sees those before the first that is none"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1,1")
    assert default_workers("auto", tmp_path) == 2
    assert default_workers("cuda", tmp_path) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")
    assert visible_gpus(tmp_path) == 1, "a process sees one instance"
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert visible_gpus(tmp_path) == 0
        assert default_workers("auto", tmp_path) == 2
    assert default_workers("auto", tmp_path / "none") == default_workers("cpu", tmp_path) == 2


def test_gpus_without_device_files_are_those_that_nvidia_smi_names(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dxg").touch()
    assert visible_gpus(tmp_path) == 0, "no nvidia-smi"
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: GPU-1)'\necho 'GPU 1: another'\n")
    command.chmod(0o755)
    assert visible_gpus(tmp_path) == 2


@pytest.mark.parametrize(
    ("gpus", "workers", "cores", "shared", "gpu", "cpu"),
    [
        (1, 2, 2, [0], [0], [1]),
        (1, 16, 16, [0, 1, 2, 3], [0], list(range(4, 16))),
        (4, 8, 8, [0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]),
        (2, 4, 64, [0, 1], [0, 1], [2, 3]),
        (2, 1, 64, [0], [0], [0]),  # what there is
        (2, 2, 1, [0, 1], [0, 1], [0, 1]),
    ],
)
def test_workers_share_gpus_and_cores(gpus, workers, cores, shared, gpu, cpu):
    found = spread(gpus, workers, cores)
    places = {name: found.numbers(name) for name in get_args(Place)}
    assert places == {"shared gpu": shared, "gpu": gpu, "cpu": cpu}
    assert len({found.device(number) for number in gpu}) == len(gpu), "a GPU of its own"
    if cpu != shared:
        assert {found.device(number) for number in cpu} == {"cpu"}


@pytest.mark.parametrize(
    ("network", "dataset", "where"),
    [
        ("lenet5", "mnist", "cpu"),
        ("efficientnet_b0", "imagenet16", "shared gpu"),
        ("vgg16", "cifar10", "gpu"),
        ("resnet18", "cifar10", "gpu"),
    ],
)
def test_small_networks_train_on_cores_and_large_ones_have_a_gpu(network, dataset, where):
    size = multiply_adds(NetworkSpec(name=network), dataset)
    assert place(size, "auto") == where
    assert place(size, "dense") == ("shared gpu" if where == "cpu" else where)


@pytest.mark.parametrize(
    ("usable", "where", "found"),
    [
        (True, Compute(workers=4), Placement(1, 2, 4)),
        (False, Compute(workers=4), None),  # the driver is too old, say
        (True, Compute(workers=4, device="cuda"), None),
        (True, Compute(workers=0), None),
        (True, Compute(kind="address", address="tcp://there:1"), None),
    ],
)
def test_workers_differ_where_there_are_gpus_to_share(usable, where, found, monkeypatch):
    monkeypatch.setattr(placement_module, "visible_gpus", lambda: 1)
    monkeypatch.setattr(placement_module, "_usable", lambda: usable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    assert placement_module.placement(where) == found


def test_a_task_goes_to_the_workers_of_its_place(monkeypatch):
    asked = []

    class Client:
        def submit(self, function, *arguments, pure, workers):
            asked.append(workers)
            done = Future()
            done.set_result(function(*arguments))
            return done

        def close(self):
            pass

    monkeypatch.setattr(compute.Pool, "_connect", lambda pool: Client())
    monkeypatch.setattr(Client, "subscribe_topic", lambda *_: None, raising=False)
    monkeypatch.setattr(pool_module, "placement", lambda where: Placement(1, 2, 5))
    with compute.Pool(lambda identity, epoch: None, Compute(workers=5)) as pool:
        assert [pool.run(abs, -3, place=p) for p in (None, "cpu", "shared gpu", "gpu")] == [3] * 4
    assert asked == [None, [2, 3, 4], [0, 1], [0]]


def test_a_client_that_was_lost_is_closed_and_opened_anew_by_one_of_its_tasks(monkeypatch):
    opened, closed = [], []

    class Client:
        def __init__(self):
            opened.append(self)

        def subscribe_topic(self, *_):
            pass

        def close(self):
            closed.append(self)

    monkeypatch.setattr(compute.Pool, "_connect", lambda pool: Client())
    with compute.Pool(lambda identity, epoch: None, Compute(workers=1)) as pool:
        first = pool._connected()
        assert pool._connected() is first and not closed
        second = pool._connected(instead_of=first)
        assert pool._connected(instead_of=first) is second, "another task has opened it already"
        assert opened == [first, second] and closed == [first]
    assert closed == [first, second]


def test_a_worker_has_the_device_that_was_announced_for_it(monkeypatch):
    monkeypatch.setenv("SAFS_PLACEMENT", "")
    announce(Placement(2, 3, 8))
    found = announced()
    assert [found.device(number) for number in range(5)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
        "cpu",
        "cpu",
    ]
    monkeypatch.setattr(compute, "worker_number", lambda: 4)
    assert own_device().type == "cpu"
    announce(None)
    assert announced() is None


@pytest.mark.parametrize(
    ("name", "number"),
    [("3", 3), ("SLURMCluster-2-1", 1), ("gpu-7", 7), ("tcp://10.0.0.2:34567", 0), ("a5b", 0)],
)
def test_a_workers_gpu_is_in_its_name_not_in_its_address(name, number):
    assert number_of(name) == number


def test_an_address_where_nothing_answers_is_one_line():
    where = compute.Compute(kind="address", address="udp:nowhere")
    with (
        compute.Pool(lambda identity, epoch: None, where) as pool,
        pytest.raises(
            SafsError, match="address: 'udp:nowhere': no Dask scheduler answers"
        ) as error,
    ):
        pool.run(int)
    assert "\n" not in str(error.value)


def test_the_slurm_job_script(monkeypatch, tmp_path):
    """The script as sbatch gets it: one core per worker, the environment, the user's lines."""
    monkeypatch.setenv("SAFS_DATA", "/data/sets of images")
    monkeypatch.setattr(sys, "executable", "/home/my lab/bin/python")
    where = compute.Compute(
        kind="slurm",
        workers=8,
        device="cuda",
        slurm={
            "memory": "16GB",
            "walltime": "02:30:00",
            "queue": "gpu",
            "account": "abc",
            "workers_per_job": 4,
            "directives": ["--gres=gpu:4"],
            "prologue": ["module load cuda"],
        },
    )
    with clusters.in_jobs(where, tmp_path / "logs") as cluster:
        script = cluster.job_script()
    lines = script.splitlines()
    header = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert header == [
        "-J safs",
        f"-e {tmp_path}/logs/safs-%J.err",
        f"-o {tmp_path}/logs/safs-%J.out",
        "-p gpu",
        "-A abc",
        "-n 1",
        "--cpus-per-task=4",
        "--mem=15G",
        "-t 02:30:00",
        "--gres=gpu:4",
    ]
    body = [line for line in lines if line and not line.startswith("#")]
    assert body[0] == f"cd {tmp_path}"
    assert "export SAFS_DEVICE=cuda" in body and "export SAFS_DATA='/data/sets of images'" in body
    assert "export PYTHONHASHSEED=0" in body
    assert body[-2] == "module load cuda"
    called = r"'/home/my lab/bin/python' -m distributed.cli.dask_worker tcp://\S+ "
    assert re.match(called, body[-1])
    for option in ("--nthreads 1 ", "--nworkers 4 ", "--lifetime 8700s "):
        assert option in body[-1]


def test_a_machine_without_slurm_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    where = compute.Compute(kind="slurm", workers=1, slurm=SLURM)
    with (
        compute.Pool(lambda identity, epoch: None, where) as pool,
        pytest.raises(SafsError, match="there is no command sbatch on this machine"),
    ):
        pool.run(int)
