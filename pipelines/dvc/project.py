"""A project: profiles, pairs and ``dvc.yaml`` in a folder of its own, run by the installed package.

A checkout's ``dvc.yaml`` names the source files of every stage. A project has none; there
:data:`~pipelines.dvc.dependencies.CODE` has the digest of the installed ones, so that DVC sees when
they change.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from bench.labs.reading import LABS
from pipelines.config.profile import PROFILES
from pipelines.dvc.dependencies import CODE, TEMPLATE, of_project
from pipelines.storage.sources import ROOT
from safs import sealed
from safs.errors import SafsError

_COPIED = ("pipelines/pairs", "pipelines/presets", PROFILES.as_posix())
_PACKAGES = ("safs", "bench", "pipelines")
_READ = (".py", ".cpp", ".h", ".yaml", ".j2", ".css", ".js")
"""Endings of what stages run and read of the packages."""


def lay_out(folder: Path) -> None:
    """Make a project in ``folder``, with a Git and a DVC repository around it if there is none.

    Raises:
        SafsError: the folder is not empty, there is no git, or git or DVC refuse.
    """
    if shutil.which("git") is None:
        raise SafsError("there is no command git on this machine: DVC needs a Git repository")
    if folder.exists() and any(folder.iterdir()):
        raise SafsError(f"{folder}: not empty; a project begins in an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for copied in _COPIED:
        shutil.copytree(ROOT / copied, folder / copied, ignore=shutil.ignore_patterns("dvc.*"))
    template = ROOT / TEMPLATE
    shutil.copyfile(template / "params.yaml", folder / "params.yaml")
    shutil.copyfile(template / "gitignore", folder / ".gitignore")
    graph, *_ = (ROOT / PROFILES).glob("*/dvc.yaml")  # one like the other
    for place in (folder, *(folder / PROFILES).iterdir()):
        (place / "dvc.yaml").write_text(of_project(graph.read_text()))
    labs = folder / LABS
    labs.mkdir(parents=True)
    (labs / ".gitkeep").touch()  # the stage `report` reads the folder
    note_code(folder)
    if subprocess.run(
        ["git", "rev-parse"], cwd=folder, capture_output=True, check=False
    ).returncode:
        _do("git", "init", "--quiet", at=folder)
    _do(sys.executable, "-m", "dvc", "init", "--quiet", "--subdir", at=folder)


def note_code(folder: Path = Path()) -> None:
    """Bring the digest of the installed code up to date; a checkout needs none."""
    if (folder / "pipelines/__init__.py").exists():
        return
    files = (path for package in _PACKAGES for path in (ROOT / package).rglob("*"))
    names = {path.relative_to(ROOT).as_posix(): path for path in files if path.suffix in _READ}
    digests = {
        name: sealed.file_digest(path)
        for name, path in names.items()
        if not name.startswith(_COPIED)  # a project has its own
    }
    version = metadata.version("safs-bench")
    sealed.write(folder / CODE, {"safs-bench": version, "files": sealed.digest(digests)})


def _do(*command: str, at: Path) -> None:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SafsError(f"{' '.join(command[:3])}: {' '.join(done.stderr.split())}")
