"""Which source files each stage of ``dvc.yaml`` depends on: those that it imports, and no more.

DVC does not follow imports, so the lists stand in the file; ``make graph`` writes them and copies
the file into every profile, and a test holds them true. Parameters reach a stage through DVC's
``params``, so the code that types them is no dependency.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from pipelines.stages import PER_PROFILE
from pipelines.storage import sources
from pipelines.storage.sources import ROOT

TEMPLATE = "pipelines/template"
"""What ``safs-bench init`` lays out beside pairs, presets and profiles."""
CODE = "pipelines/code.json"
"""In a project, which has no source: what stands for all of it."""
_TYPING = ROOT / "pipelines/config"
_PRESETS, _PAIRS = "pipelines/presets", "pipelines/pairs"
_WHOLE = (
    "safs/operators", "safs/networks", "safs/datasets", "safs/search", "safs/kernels",
    "bench/report",
)  # fmt: skip
"""Folders of which a stage that reads a file may read every other."""
_MOST = 2 / 3
"""A folder of which a stage reads more than this share of the files is listed as such."""
_OWN = re.compile(r"^(def|class) (?!__)", re.MULTILINE)
_STAGE = re.compile(r"^  (\w+):\n", re.MULTILINE)
_DEPS = re.compile(r"^( +)deps:[^\n]*\n((?:\1  - [^\n]*\n)*)", re.MULTILINE)


def of(stage: str) -> list[str]:
    """The folders and files of the source that a stage depends on, in order."""
    reached = _reached(ROOT / f"pipelines/stages/{stage}.py")
    found = {*_given(stage)}
    for file in reached:
        folder = file.parent
        place = folder.relative_to(ROOT).as_posix()
        code = {path for path in folder.glob("*.py") if has_code(path)}
        most = "/" in place and len(code & reached) > _MOST * len(code)
        whole = place in _WHOLE or most
        found |= {place} if whole else {_name(file), *map(_name, read_by(file))}
    return sorted(dep for dep in found if not any(str(up) in found for up in Path(dep).parents))


def _given(stage: str) -> list[str]:
    """The folders of parameters that it reads: of one pair DVC follows keys, of all the files."""
    return [_PAIRS, _PRESETS] if stage in PER_PROFILE else [_PRESETS]


def has_code(file: Path) -> bool:
    """Whether a file does more than name what its folder holds."""
    return file.name != "__init__.py" or _OWN.search(file.read_text()) is not None


def read_by(file: Path) -> list[Path]:
    """The files that are no Python, beside a module, whose names stand in it: what it reads."""
    text = file.read_text()
    beside = (path for path in file.parent.iterdir() if path.is_file() and path.suffix != ".py")
    return [path for path in beside if f'"{path.name}"' in text]


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _reached(start: Path) -> set[Path]:
    """Files with code that a stage imports, directly or not, lazily or not."""
    seen, waiting = set[Path](), [start]
    while waiting:
        file = waiting.pop()
        if file not in seen and _TYPING not in file.parents:
            seen.add(file)
            waiting += sources.imports(file)
    return set(filter(has_code, seen))


def written(text: str, sources_of: Callable[[str], Iterable[str]] = of) -> str:
    """``dvc.yaml`` with every stage's sources as they are; what is no source stays."""
    heads = [*_STAGE.finditer(text)]
    parts = [text[: heads[0].start()]]
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.start() : after.start() if after else len(text)]
        name = head[1]
        known = (ROOT / f"pipelines/stages/{name}.py").is_file()
        listed = partial(_listed, sources_of(name) if known else ())
        parts.append(_DEPS.sub(listed, body, count=1) if known else body)
    return "".join(parts)


def _listed(code: Iterable[str], found: re.Match[str]) -> str:
    indent = found[1]
    old = [line.strip()[2:] for line in found[2].splitlines()]
    data = [dep for dep in old if dep.startswith(("runs/", "results/"))]
    lines = "".join(f"{indent}  - {dep}\n" for dep in (*code, *data))
    return f"{indent}deps:\n{lines}"


def of_project(text: str) -> str:
    """``dvc.yaml`` of a project, which has parameters and no source."""
    return written(text, lambda stage: (*_given(stage), CODE))


def main(root: Path = ROOT) -> None:
    """Bring ``dvc.yaml`` up to date and copy it into every profile, and the parameters into the
    projects' template.
    """
    made = written((root / "dvc.yaml").read_text())
    profiles = [path for path in (root / "pipelines/profiles").iterdir() if path.is_dir()]
    for place in (root, *profiles):
        (place / "dvc.yaml").write_text(made)
    shutil.copyfile(root / "params.yaml", root / TEMPLATE / "params.yaml")


if __name__ == "__main__":
    main()
