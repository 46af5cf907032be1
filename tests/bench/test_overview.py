"""The page on all studies: side by side, in order, escaped, and honest about older ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from synthetic import PAIR

from bench import tables
from bench.context import Context
from bench.records.traces import Traces
from bench.report import overview
from bench.tables import claims
from safs.errors import SafsError

EVIL = "<script>alert('x')</script>"


def published(folder: Path, replicates: int = 8, **changes: object) -> Context:
    """A study's tables as the stages write them."""
    context = synthetic.context(replicates=replicates, **changes)
    runs = synthetic.collection(folder / "records", replicates=replicates)
    tables.write_all(runs, context, folder / "tables")
    claims.table(runs, Traces(), context).write(folder / "comparisons")
    return context


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[overview.Subject]:
    folder = tmp_path_factory.mktemp("large")
    return overview.read(published(folder, profile="large", title="Large " + EVIL), folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[overview.Subject]:
    folder = tmp_path_factory.mktemp("small")
    asked = {"ratio": 0.99, "replicates": 3, "contrasts": ["safs-vanilla"], "commit": "c0ffee7"}
    return overview.read(published(folder, 3, profile="small", preregistered=asked), folder)


def older(subjects: list[overview.Subject]) -> list[overview.Subject]:
    """The same, as a study of the protocol's version 1."""
    return [replace(subject, protocol=1) for subject in subjects]


def test_a_study_is_read_from_what_it_has_published(large: list[overview.Subject]) -> None:
    (subject,) = large
    assert (subject.pair, subject.protocol, subject.replicates) == (PAIR, 3, 8)
    row = subject.row()
    assert row["runs"] == "128 of 128" and row["kind"] == "explores" and row["ratio"] == 0.99
    tested = sum(bool(said["n"]) for said in subject.claims.values())
    assert row["tested"] == tested < len(claims.CLAIMS)
    assert sum(map(int, re.findall(r"\d+", row["verdicts"]))) == tested
    assert row["epochs_factor"] == pytest.approx(9.2) and row["paper_hours_factor"] == 40


def test_replicates_are_told_of_those_that_were_asked_for(small: list[overview.Subject]) -> None:
    (subject,) = small
    assert subject.row()["replicates"] == "3"
    assert replace(subject, replicates=2).row()["replicates"] == "2 of 3"


def test_a_study_that_has_published_nothing_is_none(tmp_path: Path) -> None:
    assert overview.read(synthetic.context(), tmp_path) == []


@pytest.mark.parametrize(
    "file",
    ["tables/summary.json", "tables/cost.csv", "tables/runs.csv", "comparisons/claims.csv"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file: str) -> None:
    context = published(tmp_path, 3)
    (tmp_path / file).write_text("")
    with pytest.raises(SafsError, match=Path(file).name):
        overview.read(context, tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("comparisons/claims.csv", ",verdict,", ",verdikt,", "no column 'verdict'; did you mean"),
        ("comparisons/claims.csv", ",points,", ",points,x", ": low: got 'x"),
        ("tables/cost.csv", "hours_factor", "hours_faktor", "no column 'hours_factor'; did you"),
        ("tables/runs.csv", ",status,", ",state,", "no column 'status'; did you mean 'state'?"),
        ("tables/runs.csv", ",ok,", ",ok\n", "CSV parse error: Expected"),
        ("tables/summary.json", '"version": 3', '"version": "x"', "protocol: version: got 'x'"),
        ("tables/summary.json", '"protocol"', '"protokol"', "protocol: (whole file): got null"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_one_line(
    tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    context, path = published(tmp_path, 3), tmp_path / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SafsError) as caught:
        overview.read(context, tmp_path)
    line = str(caught.value)
    assert line.startswith(str(path)) and words in line and "\n" not in line


def test_every_claim_stands_once_with_what_each_study_says(
    large: list[overview.Subject], small: list[overview.Subject]
) -> None:
    lists = list(overview.claims_lists([*large, *small]))
    assert [line.text for each in lists for line in each.lines] == [c.text for c in claims.CLAIMS]
    tested = lists[0].lines[0]
    of_large, of_small = tested.said
    assert of_large.verdict == "holds" and "; n = 8" in of_large.numbers
    assert of_small.verdict == "undecided" and of_small.numbers.endswith("n = 3, confirmatory")
    assert "unbounded, n < 6" in of_small.numbers
    searches = next(line for line in lists[0].lines if "than SA" in line.text)
    assert searches.said == searches.asked == searches.explored == ()
    assert tested.asked == (of_small,) and tested.explored == (of_large,)


def test_the_sentence_counts_every_claim_once(large: list[overview.Subject]) -> None:
    for each in overview.claims_lists(large):
        total, *counts, sure = map(int, re.findall(r"\d+", each.decided))
        assert total == len(each.lines) == sum(counts) and sure == 0


def test_what_was_preregistered_and_is_decided_is_counted_apart(
    small: list[overview.Subject],
) -> None:
    (subject,) = small
    assert "confirmatory" in subject.row()["verdicts"]
    assert subject.row()["kind"] == "preregistered in c0ffee7"
    decided = {key: dict(row) for key, row in subject.claims.items()}
    decided["vanilla"]["verdict"] = "holds"
    lists = list(overview.claims_lists([replace(subject, claims=decided)]))
    assert [each.decided.rsplit(" ", 1)[1] for each in lists] == ["1.", "0.", "0."]


def test_runs_are_those_of_the_pair(tmp_path: Path) -> None:
    context = published(tmp_path, 3)
    runs = (tmp_path / "tables/runs.csv").read_text()
    head, first, *_ = runs.splitlines()
    other = first.replace(PAIR, "another_pair").replace(",ok,", ",failed,")
    (tmp_path / "tables/runs.csv").write_text(f"{runs}{other}\n")
    (subject,) = overview.read(context, tmp_path)
    assert subject.row()["runs"] == "48 of 48" and other != first
    assert head.startswith("pair,")


def test_networks_that_two_studies_share_are_asked_once(
    large: list[overview.Subject], small: list[overview.Subject]
) -> None:
    """The part says only what the whole could not test; a study with networks of its own, all."""
    whole = replace(small[0], networks=frozenset("abc"))
    untested = {key: {**row, "n": 0} for key, row in whole.claims.items() if key == "vanilla"}
    whole = replace(whole, claims={**whole.claims, **untested})
    part = replace(large[0], networks=frozenset("ab"))
    asked = {s.context.profile: s for s in overview.asked_once([part, whole])}
    assert asked["small"].claims == whole.claims
    assert [key for key, row in asked["large"].claims.items() if row["n"]] == ["vanilla"]
    assert asked["large"].row()["tested"] == 1
    other = replace(part, networks=frozenset("abd"))
    assert list(overview.asked_once([whole, other]))[1].claims == part.claims
    assert list(overview.asked_once([*large, *small])) == overview.in_order([*large, *small])


def test_a_claim_that_two_studies_decide_differently_is_neither(
    large: list[overview.Subject],
) -> None:
    (subject,) = large
    other = {key: dict(row) for key, row in subject.claims.items()}
    other["vanilla"]["verdict"] = "fails"
    against = replace(subject, claims=other)
    decided = next(overview.claims_lists([subject, against])).decided
    assert "1 holds in one study and fails in another" in decided


def test_a_study_that_explores_does_not_decide_what_one_that_confirms_leaves_open(
    large: list[overview.Subject], small: list[overview.Subject]
) -> None:
    explored, both = (
        next(overview.claims_lists(subjects)).lines[0] for subjects in (large, [*large, *small])
    )
    assert explored.verdicts == {"holds"} and both.verdicts == {"undecided"}
    assert not both.confirmed


def test_the_page_puts_what_was_preregistered_first_and_leaves_older_verdicts_out(
    large: list[overview.Subject], small: list[overview.Subject], tmp_path: Path
) -> None:
    never = [synthetic.context(profile="never", title="Never " + EVIL)]
    html = overview.render([*older(large), *large, *small], never, tmp_path / "i.html").read_text()
    claim = html[html.index("Claims: the paper&#39;s, tested by it") :].split("</tr>")[1]
    assert claim.index("LeNet-5 on MNIST-5k") < claim.index("Explored by 1 more")
    assert claim.index("Explored by 1 more") < claim.index("Large")
    assert claim.count("/report.html") == 2  # of the two studies of today's protocol
    assert html.count("of version 1 of the protocol") == 1
    verdicts = {
        row["protocol"]: row["verdicts"] for row in (s.row() for s in [*older(large), *large])
    }
    assert verdicts[1] == "-" and "holds" in verdicts[3]
    assert (
        '<a href="small/report.html">' in html
        and "(<code>small</code>)" in html
        and "<code>never</code>" in html
    )
    assert html.count("<script>") == 1 and "Large &lt;script&gt;" in html
    again = overview.render([*small, *large, *older(large)], never, tmp_path / "j.html")
    assert again.read_text() == html


def test_the_page_needs_no_network(large: list[overview.Subject], tmp_path: Path) -> None:
    html = overview.render(large, [], tmp_path / "index.html").read_text()
    assert "http" not in html
