"""Run the stages of a DVC pipeline that do not wait for each other side by side.

DVC itself runs one stage at a time, and its lock cannot be held by two. Each stage is therefore a
``dvc --wait-for-lock repro --single-item STAGE`` of its own, started once the stages it depends on
have ended well. All of them run on this host, whose processes DVC's locks know; only the trainings
may travel. The lock file is that of ``dvc repro``, in its order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from pipelines.dvc import process as dvc_process
from pipelines.engine.progress import PLAIN_PROGRESS
from safs.errors import SafsError

Steps = Mapping[str, Sequence[str]]
"""Stages in the order of ``dvc repro``, each with the stages that it needs."""


def run(
    target: str,
    jobs: int,
    environment: Mapping[str, str],
    keep: Sequence[int] = (),
    only: Collection[str] | None = None,
    begin: Callable[[Collection[str]], None] = lambda stages: None,
) -> int:
    """Reproduce a pipeline with up to ``jobs`` stages at a time.

    Args:
        target: a ``dvc.yaml``.
        jobs: stages at a time.
        environment: of the stages.
        keep: descriptors that every DVC inherits.
        only: names of the stages to reproduce; None are all.
        begin: called with the names of the stages that will run, before the first does.

    Returns:
        0, or 1 if a stage failed; stages that do not need it have run all the same.

    Raises:
        SafsError: DVC cannot read the pipeline, or another DVC holds the repository.
    """
    from dvc.exceptions import DvcException

    try:
        order, steps = plan(target, only)
    except DvcException as error:
        raise SafsError(f"{target}: {' '.join(str(error).split())}") from None
    begin([stage.rpartition(":")[2] for stage in steps])
    if jobs > 1:
        environment = {**environment, PLAIN_PROGRESS: "1"}
    failed = carry_out(steps, jobs, lambda stage: _repro(stage, environment, keep))
    in_order(Path(target).with_name("dvc.lock"), order)
    for stage in failed:
        print(f"failed: {stage}", file=sys.stderr)
    return 1 if failed else 0


def plan(
    target: str, only: Collection[str] | None = None
) -> tuple[list[str], dict[str, list[str]]]:
    """The stages of a pipeline in DVC's order; and those to run, with what each waits for.

    Stages without changes whose needs have none either are left out: asking DVC about each of them
    in a process of its own would take longer than all of them together do here.
    """
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    with Repo() as repo, repo.lock:
        graph = get_active_graph(repo.index.graph)
        stages = plan_repro(graph, collect_stages(repo, [target]))
        names = {stage: stage.addressing for stage in stages}
        steps: dict[str, list[str]] = {}
        for stage, name in names.items():
            if only is not None and stage.name not in only:
                continue
            needs = [names[needed] for needed in graph.successors(stage) if needed in names]
            waits = [need for need in needs if need in steps]
            if waits or stage.changed():
                steps[name] = waits
        return list(names.values()), steps


def carry_out(steps: Steps, jobs: int, repro: Callable[[str], bool]) -> list[str]:
    """Call ``repro`` on every stage whose needs ended well; returns the stages that failed.

    Interrupted, it starts no further stage, and ends those that run.
    """
    waiting, done, failed = dict(steps), set[str](), list[str]()
    running: dict[Future[bool], str] = {}
    threads = ThreadPoolExecutor(max_workers=jobs)
    try:
        while True:
            ready = [name for name, needs in waiting.items() if done.issuperset(needs)]
            for name in ready:
                del waiting[name]
                running[threads.submit(repro, name)] = name
            if not running:
                return failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                if future.result():
                    done.add(name)
                else:
                    failed.append(name)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        dvc_process.interrupt()


def in_order(lock: Path, stages: Sequence[str]) -> None:
    """Put the stages of a lock file into the order of ``dvc repro``; others stay behind them."""
    from dvc.utils.serialize import dump_yaml, load_yaml

    if not lock.exists():
        return
    content = load_yaml(str(lock))
    at = {stage.rpartition(":")[2]: index for index, stage in enumerate(stages)}
    order = sorted(content["stages"], key=lambda name: at.get(name, len(at)))
    if order != list(content["stages"]):
        content["stages"] = {name: content["stages"][name] for name in order}
        temporary = lock.with_name(f".{lock.name}.{os.getpid()}")
        dump_yaml(str(temporary), content)
        temporary.replace(lock)


def _repro(stage: str, environment: Mapping[str, str], keep: Sequence[int]) -> bool:
    command = ("--wait-for-lock", "repro", "--quiet", "--single-item", stage)
    return dvc_process.run(*command, environment=environment, keep=keep)
