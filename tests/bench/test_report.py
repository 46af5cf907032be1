"""Figures, the page and the terminal: present, escaped, the same bytes twice."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import synthetic
from rich.console import Console
from synthetic import PAIR

from bench import compare, figures, report, terminal
from bench.records import Collection, collect
from bench.traces import SearchTrace, Traces

EVIL = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "link", "br", "path", "use", "rect"}


class Outline(HTMLParser):
    """Collects ids, links and headings and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        wanted = ("href", "src", "xlink:href", "aria-labelledby")
        self.links += [value or "" for name, value in attrs if name in wanted]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def damaged(folder: Path) -> Collection:
    runs = synthetic.expected(folder / "records")
    synthetic.write(runs)
    path = next(run.path for run in runs if run.key == (PAIR, 0.99, 1, "safs"))
    synthetic.failed("safs", 0.99, 1, EVIL).write(path)
    return collect(runs)


@pytest.fixture(scope="module")
def drawn(damaged: Collection, folder: Path) -> dict[str, Path]:
    return figures.write_all(damaged, synthetic.traces(), synthetic.context(), folder / "figures")


@pytest.fixture(scope="module")
def html(damaged: Collection, drawn: dict[str, Path], folder: Path) -> str:
    context = synthetic.context(notes=("Note " + EVIL,), parameters={"evil": EVIL})
    made = compare.compare(damaged, context)
    path = folder / "report.html"
    report.render(damaged, made, synthetic.traces(), context, drawn, path)
    return path.read_text()


def test_every_figure_has_its_data_beside_it(drawn: dict[str, Path], damaged: Collection) -> None:
    assert set(drawn) == {"accuracy", "search_trace", "operators"}
    for name, path in drawn.items():
        assert path.read_text().startswith(f'<svg role="img" aria-labelledby="{name}-title')
        assert len(pd.read_csv(path.with_suffix(".csv")))
    accuracy = pd.read_csv(drawn["accuracy"].with_suffix(".csv"))
    assert len(accuracy) == len(damaged.frame)
    assert accuracy["top1"].isna().sum() == 1


def test_figures_are_the_same_bytes_twice(
    drawn: dict[str, Path], damaged: Collection, tmp_path: Path
) -> None:
    again = figures.write_all(damaged, synthetic.traces(), synthetic.context(), tmp_path)
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in drawn.items())


def test_no_empty_figure(damaged: Collection, tmp_path: Path) -> None:
    made = figures.write_all(damaged, Traces(), synthetic.context(), tmp_path)
    assert set(made) == {"accuracy"}


def test_a_search_without_any_success_and_ratios_that_differ(
    damaged: Collection, tmp_path: Path
) -> None:
    bad = synthetic.search_trace(0.9).model_dump(by_alias=True)
    for evaluation in bad["evaluations"]:
        evaluation |= {"energy": None, "status": "failed", "reason": "nan"}
    other = synthetic.search_trace(0.95, pair="other")
    traces = Traces((SearchTrace.model_validate(bad), other))
    made = figures.write_all(damaged, traces, synthetic.context(), tmp_path)
    assert set(made) == {"accuracy", "search_trace", "operators"}
    assert "other, LAHC, 95%" in made["search_trace"].read_text()


def test_figures_of_a_profile_without_results(tmp_path: Path) -> None:
    nothing = collect(synthetic.expected(tmp_path / "none"))
    assert "accuracy" in figures.write_all(nothing, Traces(), synthetic.context(), tmp_path)


def test_figure_text_is_escaped(damaged: Collection, tmp_path: Path) -> None:
    context = synthetic.context(pairs={PAIR: {"label": "A<b>&$x$"}})
    made = figures.write_all(damaged, synthetic.traces(), context, tmp_path)
    for path in made.values():
        assert "<b>" not in path.read_text()


def test_the_page_is_well_formed_and_needs_no_network(html: str) -> None:
    outline = Outline(html)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    inside = {f"#{name}" for name in outline.ids}
    for link in outline.links:
        assert link in inside or link.startswith("data:") or set(link.split()) <= set(outline.ids)
    assert not re.search(r'(src|href)="(?!#|data:)|@import|url\((?!#)', html)
    assert outline.tags.count("svg") == 3
    assert outline.tags.count("h1") == 1


def test_every_part_is_there(html: str) -> None:
    ids = set(Outline(html).ids)
    parts = ("summary", "table1", "table2", "comparisons", "overall", "paper", "connectivity")
    more = ("cost", "failures", "environment", "parameters", "protocol", "arms")
    drawn = ("figure-accuracy", "figure-search_trace", "figure-operators")
    assert {*parts, *more, *drawn} <= ids
    assert html.count("How to read it:") == 12
    assert "prefers-color-scheme: dark" in html


def test_every_value_is_escaped(html: str) -> None:
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quoted&#34;" in html


def test_the_summary_says_what_may_not_be_claimed(html: str) -> None:
    text = " ".join(html.split())
    assert "SAFS - Vanilla: mean difference" in text
    assert "too few replicates (2) for a statement" in text
    assert "with 2 paired replicates the exact test cannot give p &lt; .05" in text
    assert "activations and tuning are not told apart" in text
    assert "1 of 48 expected runs have no result" in text
    assert "6 not comparable (" in text


def test_control_arms_lift_the_warning(tmp_path: Path) -> None:
    methods = (*synthetic.METHODS, "default_hpo", "random_hpo")
    found = synthetic.collection(tmp_path, methods=methods)
    context = synthetic.context(methods=methods)
    made = report.findings(found, compare.compare(found, context), context)
    assert not any("not told apart" in line for line in made.not_claimable)
    assert not any("random choice" in line for line in made.not_claimable)


def test_the_page_is_the_same_twice(
    html: str, damaged: Collection, drawn: dict[str, Path], tmp_path: Path
) -> None:
    context = synthetic.context(notes=("Note " + EVIL,), parameters={"evil": EVIL})
    made = compare.compare(damaged, context)
    path = tmp_path / "again.html"
    report.render(damaged, made, synthetic.traces(), context, drawn, path)
    assert path.read_text() == html


def test_the_terminal_table(damaged: Collection) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal.summary(damaged, synthetic.context()))
    text = console.export_text()
    assert "LeNet-5 / MNIST-5k" in text
    assert "1 of 48 runs have no result" in text
    assert "5.0 of 10" in text
    line = next(line for line in text.splitlines() if "SAFS" in line)
    assert "(2)" in line
    assert "(3)" in line
