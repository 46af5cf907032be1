"""The published page on all studies is what their tables make."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.config.study import named
from pipelines.results import overview
from pipelines.results import sums as digests
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: nothing is committed")
def test_the_committed_page_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tables of the last commit: a run of one's own writes others, with its own times."""
    archive = ["git", "-C", str(ROOT), "archive", "HEAD", "results"]
    found = subprocess.run(archive, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(found)) as files:
        files.extractall(tmp_path, filter="data")
    for name in ("pipelines", "params.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    now = overview.write(tmp_path / "now.html").read_text()
    assert now == overview.PAGE.read_text(), (
        "`safs-bench overview` writes it anew, of what is committed under results/: commit both"
    )


def test_every_report_that_it_links_is_there() -> None:
    html = (ROOT / overview.PAGE).read_text()
    linked = {part.split('"')[0] for part in html.split('<a href="')[1:]} - {"#main"}
    assert linked
    assert all((ROOT / "results" / link).is_file() for link in linked)


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose only results are quick's; its table of claims."""
    for name in ("pipelines", "params.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "results/quick", tmp_path / "results/quick")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/quick/comparisons/claims.csv"


def test_a_table_that_was_changed_is_not_shown(quick: Path) -> None:
    overview.write()
    quick.write_text(quick.read_text().replace("undecided", "holds", 1))
    with pytest.raises(SafsError, match=r"claims\.csv: not what .*SHA256SUMS says"):
        overview.write()


def test_a_study_that_lost_its_table_is_not_one_that_was_never_run(quick: Path) -> None:
    quick.unlink()
    with pytest.raises(SafsError, match=r"claims.csv: not here, but in results/quick/SHA256SUMS"):
        overview.write()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: b"", ": an empty file; expected 1 to"),
        (lambda text: text + b"garbage\n", ":{}: got 'garbage'; expected a digest, two blanks"),
        (lambda text: text + b"\xff", ": not UTF-8 at byte"),
        (lambda text: text[1:], ":1: got '"),
    ],
)
def test_a_list_of_digests_that_is_none_is_told_in_one_line(
    quick: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    sums = Path("results/quick", digests.SUMS)
    text = sums.read_bytes()
    sums.write_bytes(damage(text))
    line = f"{sums}{words.format(len(text.splitlines()) + 1)}"
    (fault,) = digests.published(named("quick")).faults
    assert fault.startswith(line) and "\n" not in fault
    with pytest.raises(SafsError, match=re.escape(line)):
        overview.write()


def test_what_stands_in_the_place_of_a_listed_file_is_none(quick: Path) -> None:
    quick.unlink()
    quick.mkdir()
    assert digests.published(named("quick")).missing == 1
