"""The page in a browser, from telephone to desk, light and dark: no error, every figure, nothing
that runs off, headings below the bar, text that can be read."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import synthetic

from bench import figures, report
from bench.figures.plot import Source
from bench.records.collection import Collection
from bench.tables import comparisons as compare

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))),
    None,
)  # fmt: skip
ROOT = Path(__file__).parents[2]
WIDTHS = (375, 768, 1280)
SCHEMES = {"light": 1, "dark": 0}
"""Chromium's numbers for them."""
READABLE = 4.5
"""The least contrast of text that WCAG 2 allows at level AA."""
FRAMES = "".join(f'<iframe src="report.html" width="{w}" height="800"></iframe>' for w in WIDTHS)
PAGE = f"""<!DOCTYPE html><body>{FRAMES}<pre id="found"></pre><script>
function overflow(page) {{
  return page.documentElement.scrollWidth - page.documentElement.clientWidth;
}}

function parts(colour) {{
  const numbers = colour.match(/[\\d.]+/g).map(Number);
  return numbers.length > 3 ? numbers : [...numbers, 1];
}}

function luminance(colour) {{
  const [r, g, b] = parts(colour).slice(0, 3).map((value) => {{
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }});
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}}

function behind(element, view) {{
  for (let at = element; at; at = at.parentElement) {{
    const colour = view.getComputedStyle(at).backgroundColor;
    if (parts(colour)[3] === 1) return colour;
  }}
  throw new Error("no background");
}}

function texts(page, view) {{
  return [...page.body.querySelectorAll("*")].filter((element) => {{
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length || element.closest("script")) return false;
    const svg = element.closest("svg"); // in a figure: what has the page's own colour
    return !svg || view.getComputedStyle(element).fill === view.getComputedStyle(svg).color;
  }});
}}

function contrast(element, view) {{
  const style = view.getComputedStyle(element);
  const pair = [element.closest("svg") ? style.fill : style.color, behind(element, view)];
  const [low, high] = pair.map(luminance).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}}

function look(frame) {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const head = page.querySelector("table.sortable th button");
  head.click();
  const found = {{
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    drawn: [...page.querySelectorAll("figure svg")].filter(
      (svg) => svg.getBoundingClientRect().height > 50).length,
    named: [...page.querySelectorAll("figure svg[role=img] > title")].length,
    sorted: head.parentElement.getAttribute("aria-sort"),
    claims: Math.max(...[...page.querySelectorAll("table.claims")].map(
      (table) => table.getBoundingClientRect().right - page.documentElement.clientWidth)) <= 0,
    overflow: overflow(page),
  }};
  const bar = page.querySelector(".bar");
  found.covered = [...page.querySelectorAll("section")].filter((section) => {{
    section.scrollIntoView();
    return section.querySelector("h2").getBoundingClientRect().top
      < bar.getBoundingClientRect().bottom;
  }}).map((section) => section.id);
  found.stays = bar.getBoundingClientRect().top;
  page.querySelectorAll("details").forEach((details) => {{ details.open = true; }});
  const boxes = [...page.querySelectorAll(".all input")];
  boxes.forEach((box) => box.click());
  found.unfolded = overflow(page);
  found.columns = boxes.length > 0 && [...page.querySelectorAll(".more")].every(
    (cell) => cell.getClientRects().length);
  const seen = texts(page, view);
  found.texts = seen.length > 500;
  found.faint = seen.filter((element) => contrast(element, view) < {READABLE}).map(
    (element) => `${{element.tagName}}.${{element.className}}: ${{element.textContent.trim()}}`);
  bar.querySelector("ol a").click();
  found.closed = !bar.querySelector("details").open;
  return found;
}}

onload = () => {{
  const found = [...document.querySelectorAll("iframe")].map(look);
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script></body>"""


@pytest.fixture(scope="module")
def page(whole: Collection, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A page that has frames of the report, and the number of figures in each."""
    folder = tmp_path_factory.mktemp("page")
    about, traces = synthetic.context(), synthetic.traces()
    made = compare.compare(whole, about)
    source = Source(whole, made, traces, about)
    drawn = figures.draw_all(source)
    report.render(source, drawn, folder / "report.html")
    (folder / "frame.html").write_text(PAGE)
    return folder / "frame.html", len(drawn)


def found_in(page: Path, scheme: str, profile: Path) -> object:
    """What a page of frames has found in them; a message on the console is an error."""
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={profile}", "--allow-file-access-from-files",
         f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
         "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found is not None, done.stderr
    return json.loads(html.unescape(found[1]))


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_in_a_browser(page: tuple[Path, int], scheme: str, tmp_path: Path) -> None:
    path, drawn = page
    found = found_in(path, scheme, tmp_path / "profile")
    expected = {
        "dark": scheme == "dark", "drawn": drawn, "named": drawn, "sorted": "ascending",
        "claims": True, "overflow": 0, "covered": [], "stays": 0, "unfolded": 0, "columns": True,
        "texts": True, "faint": [], "closed": True,
    }  # fmt: skip
    for width, seen in zip(WIDTHS, found, strict=True):
        assert seen == expected, f"{width} pixels wide"


LOOK_AT_TABLES = """
function look(frame) {
  const boxes = [...frame.contentDocument.querySelectorAll(".scroll:has(table)")];
  const wide = boxes.filter((box) => box.scrollWidth > box.clientWidth);
  return [boxes.length > 0, wide.map((box) => box.getAttribute("aria-labelledby"))];
}
"""
PUBLISHED = [*sorted((ROOT / "results").glob("*/report.html")), ROOT / "results/index.html"]


def frames_of(file: Path, folder: Path, look: str) -> Path:
    """A page with frames of a page, of which ``look`` says what is found in them."""
    shutil.copy(file, folder / "report.html")
    start, end = PAGE.index("function look"), PAGE.index("onload")
    (folder / "frame.html").write_text(PAGE[:start] + look + PAGE[end:])
    return folder / "frame.html"


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.parent.name)
def test_no_published_table_runs_off_at_a_desk(file: Path, tmp_path: Path) -> None:
    """What is too wide is folded, not cut off without a word."""
    page = frames_of(file, tmp_path, LOOK_AT_TABLES)
    found = dict(zip(WIDTHS, found_in(page, "light", tmp_path / "profile"), strict=True))
    assert found[1280] == [True, []]


LOOK_AT_ALL_STUDIES = """
function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll("details").forEach((details) => { details.open = true; });
  page.querySelectorAll(".all input").forEach((box) => box.click());
  const seen = texts(page, view);
  return [overflow(page), seen.length > 100, seen.filter(
    (element) => contrast(element, view) < READABLE).map((element) => element.textContent.trim())];
}
"""


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_page_on_all_studies_in_a_browser(tmp_path: Path) -> None:
    look = LOOK_AT_ALL_STUDIES.replace("READABLE", str(READABLE))
    page = frames_of(ROOT / "results/index.html", tmp_path, look)
    found = found_in(page, "light", tmp_path / "profile")
    assert found == [[0, True, []]] * len(WIDTHS)
