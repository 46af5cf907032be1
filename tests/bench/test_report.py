"""Figures, the page and the terminal: present, escaped, the same bytes twice."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic
from rich.console import Console
from synthetic import PAIR
from synthetic_landscape import traces_with_landscape

from bench import figures, report, tables
from bench.cost import hours
from bench.figures import PLOTS, Drawn
from bench.figures.plot import Source
from bench.records.collection import Collection, collect
from bench.report import terminal
from bench.report.findings import _control_limits
from bench.report.sections import LEAD, ORDER, left_out, sections
from bench.tables import claims
from bench.tables import comparisons as compare
from bench.tables.landscape import tables as landscape_tables
from bench.tables.readings import readings

EVIL = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "link", "br", "path", "use", "rect", "input"}


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
def drawn(damaged: Collection) -> dict[str, Drawn]:
    context = synthetic.context()
    made = compare.compare(damaged, context)
    return figures.draw_all(Source(damaged, made, traces_with_landscape(), context))


@pytest.fixture(scope="module")
def html(damaged: Collection, drawn: dict[str, Drawn], folder: Path) -> str:
    return rendered(damaged, drawn, folder / "report.html")


def rendered(damaged: Collection, drawn: dict[str, Drawn], path: Path) -> str:
    """The page with everything on it that needs neither labs nor readings."""
    context = synthetic.context(notes=("Note " + EVIL,), parameters={"evil": EVIL})
    made, found = compare.compare(damaged, context), traces_with_landscape()
    more = landscape_tables(found.landscapes, found.races, found.promised, context)
    return report.render(Source(damaged, made, found, context), drawn, path, more=more).read_text()


def test_the_page_is_well_formed_and_needs_no_network(html: str) -> None:
    outline = Outline(html)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    inside = {f"#{name}" for name in outline.ids}
    for link in outline.links:
        assert link in inside or link.startswith("data:") or set(link.split()) <= set(outline.ids)
    assert not re.search(r'(src|href)="(?!#|data:)|@import|url\((?!#)', html)
    assert outline.tags.count("svg") == len(PLOTS) - 1
    assert outline.tags.count("h1") == 1


def test_every_part_is_there(html: str) -> None:
    ids = set(Outline(html).ids)
    absent = {"predictors", "readings", "labs", "labs_each", "figure-labs", "figure-activations"}
    wanted = set(ORDER) - absent
    rest = ("summary", "left_out", "environment", "parameters", "protocol", "arms")
    assert {*wanted, *rest} <= ids
    assert html.count("How to read it:") == len(wanted) + 1
    left = html[html.index('id="left_out"') :].split("</section>")[0]
    assert "Figure 4a): needs the activation study (studies.activations)." in left
    assert left.count("<li>") == 1
    assert "prefers-color-scheme: dark" in html


def test_a_search_that_is_not_the_papers_is_said() -> None:
    said = {
        name: [*_control_limits(synthetic.context(searches={PAIR: name}))]
        for name in ("lahc", "random", "tabu")
    }
    assert not [line for line in said["lahc"] if "searched by" in line]
    assert "stage 1 searched by RS, not by LAHC" in said["random"][0]
    assert "stage 1 searched by tabu, not by LAHC" in said["tabu"][0]


def test_every_value_is_escaped(html: str) -> None:
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quoted&#34;" in html


def test_the_summary_says_what_may_not_be_claimed(html: str) -> None:
    text = " ".join(html.split())
    answers = text[text.index('<dl class="answers">') :].split("</dl>")[0]
    assert answers.count("<dt>") == answers.count("<dd>") == 3
    assert "<dt>Does SAFS beat vanilla pruning?</dt>" in answers
    assert answers.count('<span class="kind">exploratory</span> At 99%, SAFS - ') == 2
    assert "a replicate of SAFS took 18.4 seconds, one of vanilla 2.0 seconds" in answers
    assert "(factor 9.2 in epochs, factor 9.2 in time)" in answers
    assert "nothing was preregistered, so every comparison explores" in text
    assert "no statement: 3 replicates cannot exclude anything, 6 can" in text
    assert "; 1 and 0 of 3 final trainings failed and count as chance, without them" in text
    assert "with 3 paired replicates the exact test cannot give p &lt; .05" in text
    assert "activations and tuning are not told apart" in text
    failed = "1 of 48 final trainings failed, in 1 of 48 runs, and count as chance"
    assert f"{failed} (see below)" in text
    assert "6 not comparable</dd>" in text


def test_verdicts_come_first_and_the_claims_right_after(html: str) -> None:
    text = " ".join(html.split())
    heads = [f"</a>: {made.replace(chr(39), '&#39;')}</dt>" for made in claims.LISTS]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    listed = text[text.index('<dl class="verdicts">') :].split("</dl>")[0]
    counted = re.findall(r'badge [a-z-]+">(undecided|not tested)</span> (\d+)', listed)
    assert sum(int(count) for _, count in counted) == len(claims.CLAIMS)
    assert html.index('class="answers"') < html.index("<h3>Verdicts</h3>")
    assert html.index('id="figure-differences"') < html.index('id="claims"')
    assert html.index('id="claims"') < html.index('id="table1"')


def test_a_claim_has_its_verdict_first_and_its_details_folded(html: str) -> None:
    part = html[html.index('id="claims"') :].split("</section>")[0]
    assert part.count('<table class="sortable claims"') == len(claims.LISTS)
    assert part.count("<details>") == len(claims.CLAIMS)
    first = part[part.index("<tbody>") :].split("</tr>")[0]
    assert first.index("undecided") < first.index("SAFS beats vanilla pruning")
    folded = first[first.index("<details>") :]
    assert re.search(r"<summary>[+-][\d.]+ points, n = 3, and why</summary>", folded)
    assert "<summary>not tested, and why</summary>" in part
    assert "<dt>Exact p</dt><dd>" in folded and "<dt>Why</dt><dd>" in folded


def test_what_was_not_tested_is_not_counted_as_undecided(damaged: Collection) -> None:
    context = synthetic.context()
    claimed = claims.table(damaged, synthetic.traces(), context)
    cost = tables.build(damaged, context)["cost"]
    made = report.findings(damaged, compare.compare(damaged, context), claimed, cost, context)
    (said,) = (dict(each.verdicts) for each in made.claims if each.made == claims.OURS)
    assert "SAFS beats tuning alone with its whole budget" in said["not tested"]
    assert said["undecided"] == ("SAFS raises the first-order decrease of the loss per step",)


def test_wide_tables_fold_columns_and_bring_their_file(damaged: Collection, html: str) -> None:
    part = html[html.index('id="comparisons"') :].split("</section>")[0]
    made = compare.compare(damaged, synthetic.context()).contrasts
    folded = len(made.view.columns) - len(LEAD["comparisons"])
    assert part.count('<th scope="col" class="more">') == folded > 0
    link = re.search(r'href="data:text/csv;base64,([^"]+)"><code>(.*?)</code>', part)
    assert link is not None and link[2] == "comparisons/comparisons.csv"
    assert b64decode(link[1]).decode() == made.csv()


def test_columns_shown_at_first_exist(damaged: Collection) -> None:
    context, laid = synthetic.context(), traces_with_landscape()
    tables_ = [*tables.build(damaged, context).values(), *compare.compare(damaged, context)]
    tables_ += landscape_tables(laid.landscapes, laid.races, laid.promised, context)
    found = {table.name: set(table.view) for table in tables_}
    strict = LEAD.items() - {("readings", LEAD["readings"])}  # these depend on the arms
    assert all(set(columns) <= found[name] for name, columns in strict)
    of_readings = readings(damaged, {}, context)
    assert set(of_readings.view) - set(LEAD["readings"]) == {"Pair", "Dense"}


def test_what_says_nothing_is_folded_or_left_out(tmp_path: Path) -> None:
    """Here the paper's numbers, of a pair that the paper has not."""
    found = synthetic.collection(tmp_path)
    context = synthetic.context(pairs={PAIR: {"label": "Ours"}})
    made = compare.compare(found, context)
    shown = sections([*tables.build(found, context).values()], made, {}, None)
    (ratios,) = (part for part in shown if part.anchor == "ratios")
    assert ratios.table is not None and not any("Paper" in name for name in ratios.lead)
    assert {"Ratio", "95% interval"} < set(ratios.lead) < set(ratios.table.view)
    assert "paper" not in {part.anchor for part in shown}
    assert "The paper's numbers beside ours: needs a pair that the paper has." in left_out(made, {})


def test_what_is_said_under_a_figure_is_there(html: str, drawn: dict[str, Drawn]) -> None:
    caption = html[html.index('id="figure-algorithms"') :].split("</figcaption>")[0]
    assert "SA - LAHC: final loss differs by +0.1" in caption
    assert "attainable 0.250" in drawn["algorithms"].words


def test_control_arms_lift_the_warning(tmp_path: Path) -> None:
    arms = (*synthetic.SHOWN_ARMS, "default_hpo", "random_hpo")
    found = synthetic.collection(tmp_path, arms=arms)
    context = synthetic.context(arms=arms)
    claimed = claims.table(found, synthetic.traces(), context)
    costs = tables.build(found, context)["cost"]
    made = report.findings(found, compare.compare(found, context), claimed, costs, context)
    assert not any("not told apart" in line for line in made.not_claimable)
    assert not any("random choice" in line for line in made.not_claimable)


@pytest.mark.parametrize("replicates", [3, 7])
def test_an_answer_has_its_interval(tmp_path: Path, replicates: int) -> None:
    found = synthetic.collection(tmp_path, replicates=replicates)
    context = synthetic.context()
    made = compare.compare(found, context)
    claimed = claims.table(found, synthetic.traces(), context)
    costs = tables.build(found, context)["cost"]
    answers = report.findings(found, made, claimed, costs, context).answers
    rows = made.contrasts.frame.query("contrast == 'safs-vanilla' and ratio == .99")
    row = rows.to_dict("records")[0]
    bounds = "unbounded, n < 6" if replicates == 3 else f"{row['low']:+.2f} to {row['high']:+.2f}"
    (said,) = [line for each in answers for line in each.sentences if "SAFS - Vanilla" in line]
    assert said.count(f"95% interval {bounds}") == 1, said


def test_the_head_says_how_many_of_the_preregistered_replicates_are_there(
    damaged: Collection, drawn: dict[str, Drawn], tmp_path: Path
) -> None:
    asked = {"ratio": 0.99, "replicates": 8, "contrasts": ["safs-vanilla"]}
    context = synthetic.context(preregistered=asked)
    made = compare.compare(damaged, context)
    path = report.render(
        Source(damaged, made, traces_with_landscape(), context), drawn, tmp_path / "r"
    )
    assert "3 replicates of the 8 preregistered." in path.read_text()


def test_a_pair_without_the_main_ratio_is_said_to_be_left_out(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path) + synthetic.expected(tmp_path, ratios=[0.9], pair="other")
    synthetic.write(runs)
    found = collect(runs)
    pairs = {name: {"label": name} for name in (synthetic.PAIR, "other")}
    context = synthetic.context(pairs=pairs)
    claimed = claims.table(found, synthetic.traces(), context)
    costs = tables.build(found, context)["cost"]
    made = report.findings(found, compare.compare(found, context), claimed, costs, context)
    assert "The questions above on other: 99% was not run." in made.not_claimable
    assert not any(f"on {synthetic.PAIR}: 99%" in line for line in made.not_claimable)


def test_the_page_is_the_same_twice(
    html: str, damaged: Collection, drawn: dict[str, Drawn], tmp_path: Path
) -> None:
    assert rendered(damaged, drawn, tmp_path / "again.html") == html


def test_the_terminal_table(damaged: Collection) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal.summary(damaged, synthetic.context()))
    text = console.export_text()
    assert "LeNet-5 / MNIST-5k" in text
    assert "1 of 48 final trainings failed, in 1 of 48 runs, and count as chance" in text
    assert "not made" not in text and "no valid record" not in text
    assert "5.0 of 10" in text
    line = next(line for line in text.splitlines() if "SAFS" in line)
    assert "(3)" in line


def test_a_pair_has_rows_for_its_own_ratios_alone(tmp_path: Path) -> None:
    runs = [run for run in synthetic.expected(tmp_path) if run.ratio in (0.0, 0.99)]
    synthetic.write(runs)
    about, found = synthetic.context(), collect(runs)
    assert set(about.ratios) > {0.99}
    assert {row["ratio"] for row in terminal.rows(found, about)} == {0.99}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal.summary(found, about))
    assert "99%" in (text := console.export_text()) and "95%" not in text
    assert set(hours.table(found, about, []).frame["ratio"]) == {0.99}


def test_runs_that_were_not_made_are_told_apart_from_those_without_result(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path)
    synthetic.write(runs)
    for run in runs[:5]:
        run.path.unlink()
    runs[5].path.write_text("{}")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal.summary(collect(runs), synthetic.context()))
    text = console.export_text()
    assert "5 of 48 runs were not made yet" in text
    assert "1 of 48 runs have no valid record and count nowhere" in text
