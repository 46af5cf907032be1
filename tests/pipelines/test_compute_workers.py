"""Workers of their own process: shared by stages, left by the idle, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import pytest
import torch

from pipelines import compute
from pipelines.compute import clusters, keeper
from pipelines.compute import pool as pools
from pipelines.config.study import load
from pipelines.stages import pretrain
from pipelines.storage import scratch, sources
from safs import sealed
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]
QUIET = {
    "worker.profile.enabled": False,
    "admin.tick.interval": "1s",
    "admin.system-monitor.interval": "5s",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty checkout with two workers at most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("checkout"))
        for name in ("DASK_SCHEDULER_ADDRESS", "SAFS_COMPUTE"):
            patch.delenv(name, raising=False)
        patch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}")
        patch.setenv("SAFS_WORKERS", "2")
        patch.setenv("SAFS_IDLE_SECONDS", "3")
        yield Path.cwd()


@pytest.fixture
def pool(place):
    with compute.Pool(lambda identity, epoch: None) as opened:
        yield opened


def note(folder: Path, name: str) -> list[str]:
    """Write down, on a worker, that a task was run; returns who ran it so far."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return (folder / name).read_text().split()


def bookkeeping() -> dict[str, object]:
    """What Dask does in a worker beside the work, as the worker's own process has it."""
    return {key: dask.config.get(f"distributed.{key}") for key in QUIET}


def steady(folder: Path, name: str, seconds: float) -> int:
    note(folder, name)
    time.sleep(seconds)
    return os.getpid()


def deadly(folder: Path, name: str, deaths: int) -> int:
    """Kills its worker as often as told."""
    if len(note(folder, name)) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(note(folder, name)) - 1


def late(seconds: float) -> None:
    time.sleep(seconds)
    raise TimeoutError("of the task")


def wait_for(condition, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def keepers(place: Path) -> set[int]:
    """Processes of the keepers that say they are there."""
    found = place.glob("scratch/workers/*/keeper.json")
    return {json.loads(path.read_text())["pid"] for path in found}


def test_stages_share_two_workers(pool, place):
    """A second stage finds the workers of the first, both of which worked at a time."""
    with ThreadPoolExecutor() as threads:
        tasks = [threads.submit(pool.run, steady, place, f"share{i}", 0.5) for i in range(4)]
        first = {task.result() for task in tasks}
    assert len(first) == 2 and os.getpid() not in first
    with compute.Pool(lambda identity, epoch: None) as other:
        assert other.run(os.getpid) in first
    assert len(keepers(place)) == 1


def test_other_code_or_settings_get_other_workers(place, monkeypatch):
    wanted = compute.settings()
    key = keeper._key(wanted)
    assert keeper._key(wanted) == key
    assert keeper._key(wanted.model_copy(update={"workers": 1})) != key
    for variable in ("CUDA_VISIBLE_DEVICES", "ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, "1")
            assert keeper._key(wanted) != key
    monkeypatch.setattr(keeper, "_code", lambda: {"safs/training/loop.py": "edited"})
    assert keeper._key(wanted) != key


def test_the_key_has_every_file_that_a_worker_may_run():
    begun = [*(ROOT / "pipelines/tasks").glob("*.py"), ROOT / "pipelines/compute/keeper.py"]
    reached = {part.file for part in sources.parts(frozenset(begun))}
    places = {path.relative_to(ROOT).as_posix() for path in reached}
    assert places >= {"pipelines/storage/folds.py", "pipelines/pinned.py"}
    assert places <= set(keeper._code())


def test_a_worker_killed_in_the_middle_costs_its_task_only(pool, place):
    """Another task runs beside it and others come after; results already fetched stay."""
    with ThreadPoolExecutor() as threads:
        others = [threads.submit(pool.run, steady, place, "other0", 2.0)]
        wait_for((place / "other0").exists)
        killed = threads.submit(pool.run, deadly, place, "once", 1)
        wait_for((place / "once").exists)
        others += [threads.submit(pool.run, steady, place, f"other{i}", 0.1) for i in range(1, 6)]
        assert killed.result() == 2, "tried once more"
        for task in others:
            task.result()
    for i in range(6):
        assert len((place / f"other{i}").read_text().split()) == 1, "run once"


def test_a_task_whose_workers_die_twice_says_how(pool, place):
    with pytest.raises(compute.WorkerDied) as death:
        pool.run(deadly, place, "twice", 9)
    assert str(death.value) == "its worker died twice: killed by signal 9 (SIGKILL)"
    assert len((place / "twice").read_text().split()) == 2
    assert pool.run(int, "7") == 7, "the workers are there again"
    for process in (place / "twice").read_text().split():
        (log,) = place.glob(f"scratch/logs/worker-*-{process}.log")
        assert log.read_text() == "killed by signal 9 (SIGKILL)\n"


def without_room():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nAnd more.")


def test_a_card_without_room_is_one_line(pool):
    with pytest.raises(SafsError) as caught:
        pool.run(without_room)
    assert str(caught.value) == (
        "CUDA out of memory. Tried to allocate 2 GiB. (fewer workers leave each more: SAFS_WORKERS)"
    )


def test_a_killed_scheduler_costs_the_tasks_in_flight_only(pool, place):
    assert pool.run(steady, place, "before", 0.0)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(pool.run, steady, place, "running", 1.5)
        wait_for((place / "running").exists)
        (process,) = keepers(place)
        os.kill(process, signal.SIGKILL)
        assert running.result()
    assert len((place / "running").read_text().split()) == 2, "run again on new workers"
    assert len((place / "before").read_text().split()) == 1
    assert keepers(place) and process not in keepers(place)


DRIVER = """
import sys, time
from pathlib import Path
from pipelines import compute
from pipelines.storage import scratch

def endless(topic, folder):
    epoch = 0
    try:
        while epoch < 600:
            epoch += 1
            compute.announce(topic, "endless", epoch)
            time.sleep(0.05)
    except compute.Abandoned:
        Path(folder, "abandoned").touch()
        raise

def listen(identity, epoch):
    Path(sys.argv[1], "epochs").write_text(str(epoch))

with compute.Pool(listen) as pool:
    pool.run(endless, pool.topic, sys.argv[1])
"""


def test_a_killed_stage_frees_its_workers(place):
    """Its training ends at the next epoch; the next stage has the workers to itself."""
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(place)])
    wait_for((place / "epochs").exists)
    driver.kill()
    driver.wait()
    wait_for((place / "abandoned").exists, 10)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
def test_every_worker_trains_on_its_gpu(place, monkeypatch):
    """Also those that a training is the first task of."""
    monkeypatch.setenv("SAFS_DEVICE", "cuda")
    study = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    pair = "lenet5_generated"
    several = study.profile.model_copy(update={"replicates": 4})
    pretrain.run(study.model_copy(update={"profile": several}), pair)
    made = [sealed.read(p) for p in Path("runs/smoke/pretrain", pair).glob("dense-r*.json")]
    assert len(made) == 4 and all(m["result"]["failure"] is None for m in made)
    assert {m["result"]["bits"]["device"] for m in made} == {"cuda"}
    assert {m["result"]["memory"]["of"] for m in made} == {"device"}


def test_idle_workers_leave(place):
    wait_for(lambda: not keepers(place))
    with compute.Pool(lambda identity, epoch: None) as pool:
        worker = pool.run(os.getpid)
        (process,) = keepers(place)
    wait_for(lambda: not keepers(place))
    wait_for(lambda: not Path(f"/proc/{worker}").exists() and not _runs(process))


def test_a_stage_that_comes_while_a_keeper_leaves_waits_for_its_own(place):
    """A leaving keeper has taken back its address and holds its lock until its workers are gone."""
    wait_for(lambda: not keepers(place))
    folder = place / "scratch/workers" / keeper._key(compute.settings())
    with compute.Pool(lambda identity, epoch: None) as pool, ThreadPoolExecutor() as threads:
        with scratch.locked(folder / "alive"):
            coming = threads.submit(pool.run, int, "7")
            time.sleep(3)
            assert not coming.done()
        assert coming.result() == 7


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie of this one."""
    try:
        return os.waitpid(process, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return Path(f"/proc/{process}").exists()


def test_stages_that_start_at_once_share_one_keeper(place):
    found: list[int] = []

    def stage() -> None:
        with compute.Pool(lambda identity, epoch: None) as pool:
            pool.run(int)
            found.extend(keepers(place))

    threads = [threading.Thread(target=stage) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1


SBATCH = """#!/bin/sh
cp "$1" {folder}/job.sh
setsid bash -c "sleep 2; exec bash {folder}/job.sh" > "{folder}/job.out" 2>&1 &
echo "Submitted batch job $!"
"""


@pytest.fixture
def queue(place, tmp_path, monkeypatch):
    """A queue that starts its jobs after two seconds; the settings' file is the test's to write."""
    for name, text in (
        ("sbatch", SBATCH.format(folder=tmp_path)),
        ("scancel", '#!/bin/sh\nkill -TERM -- "-$1"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SAFS_WORKERS", "1")
    monkeypatch.setenv("SAFS_COMPUTE", str(tmp_path / "compute.yaml"))

    def write(more: str = "") -> None:
        slurm = f"{{memory: 1GB, walltime: '01:00:00'{more}}}"
        (tmp_path / "compute.yaml").write_text(f"kind: slurm\ndevice: cpu\nslurm: {slurm}\n")

    return write


def test_workers_spend_their_core_on_the_work(pool):
    """Dask's own profiler and clocks took a tenth of it."""
    assert pool.run(bookkeeping) == QUIET


def test_slurm_jobs_serve_a_stage(queue, place, monkeypatch, capsys):
    """The jobs' workers do the work and log; that the queue lets them wait is said once."""
    queue()
    monkeypatch.setattr(pools, "_PATIENCE_SECONDS", 1.0)
    with compute.Pool(lambda identity, epoch: None) as pool:
        worker = pool.run(os.getpid)
        assert pool.run(os.getenv, "SAFS_DEVICE") == "cpu"
        assert pool.run(os.getcwd) == str(place)
        assert pool.run(bookkeeping) == QUIET
        assert list(place.glob(f"scratch/logs/worker-SLURMCluster-0-{worker}.log"))
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), 60)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "no worker" in line)
    text, _, log = line.partition("; see ")
    assert text == "no worker has started yet after 1 s"
    assert Path(log) in place.glob("scratch/logs/keeper-*.log")


def test_a_cluster_without_workers_is_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(pools, "_PATIENCE_SECONDS", 0.5)
    with clusters.local(0) as cluster, ThreadPoolExecutor() as threads:
        where = compute.Compute(kind="address", address=cluster.scheduler_address)
        with compute.Pool(lambda identity, epoch: None, where) as pool:
            tasks = [threads.submit(pool.run, int, "7") for _ in range(3)]
            time.sleep(1.5)
            cluster.scale(1)
            assert [task.result() for task in tasks] == [7, 7, 7]
    line = f"no worker has started yet after 0.5 s; see {cluster.scheduler_address}\n"
    assert capsys.readouterr().err.count(line) == 1


def test_a_tasks_own_timeout_is_its_own(pool, monkeypatch, capsys):
    monkeypatch.setattr(pools, "_PATIENCE_SECONDS", 0.2)
    with pytest.raises(TimeoutError, match="of the task"):
        pool.run(late, 1.0)
    assert "no worker" not in capsys.readouterr().err


def test_workers_that_cannot_start_say_why_in_one_line(queue, place):
    queue(", interface: nope0")
    with compute.Pool(lambda identity, epoch: None) as pool, pytest.raises(SafsError) as error:
        pool.run(int)
    text, _, log = str(error.value).removesuffix(")").partition(" (see ")
    assert "did not start: RuntimeError: " in text and "\n" not in text
    assert "'nope0' is not a valid network interface" in text
    assert Path(log) in place.glob("scratch/logs/keeper-*.log")


def test_an_absent_package_is_named(queue, tmp_path, monkeypatch):
    queue()
    (tmp_path / "dask_jobqueue.py").write_text("import no_such_package\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ['PYTHONPATH']}")
    with (
        compute.Pool(lambda identity, epoch: None) as pool,
        pytest.raises(SafsError, match="ModuleNotFoundError: No module named 'no_such_package'"),
    ):
        pool.run(int)


def test_a_stage_itself_never_imports_torch(place):
    """Its start would take seconds of the cores that train."""
    code = (
        "import sys; from pathlib import Path\n"
        "from pipelines.config.study import load; from pipelines.stages import pretrain\n"
        "root = Path(sys.argv[1])\n"
        "study = load(Path('pipelines/profiles/smoke/params.yaml'), root)\n"
        "pretrain.run(study, 'lenet5_generated')\n"
        "assert 'distributed' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, ROOT], check=True)
    assert len(list(Path("runs").rglob("dense-r*.safetensors"))) == 2
