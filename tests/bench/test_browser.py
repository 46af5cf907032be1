"""The page in a browser: no error, every figure, no sideways scrolling on a telephone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import synthetic

from bench import figures, report
from bench.collection import Collection
from bench.tables import comparisons as compare

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))),
    None,
)  # fmt: skip
WIDTHS = (375, 1280)
FRAMES = "".join(f'<iframe src="report.html" width="{w}" height="800"></iframe>' for w in WIDTHS)
PAGE = f"""<!DOCTYPE html><body>{FRAMES}<pre id="found"></pre><script>
function look(frame) {{
  const page = frame.contentDocument;
  const head = page.querySelector("table.sortable th button");
  head.click();
  return {{
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    drawn: [...page.querySelectorAll("figure svg")].filter(
      (svg) => svg.getBoundingClientRect().height > 50).length,
    named: [...page.querySelectorAll("figure svg[role=img] > title")].length,
    sorted: head.parentElement.getAttribute("aria-sort"),
  }};
}}
onload = () => {{
  const found = [...document.querySelectorAll("iframe")].map(look);
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script></body>"""


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_page_in_a_browser(whole: Collection, tmp_path: Path) -> None:
    about, traces = synthetic.context(), synthetic.traces()
    made = compare.compare(whole, about)
    drawn = figures.draw_all(whole, made, traces, about)
    report.render(whole, made, traces, about, drawn, tmp_path / "report.html")
    (tmp_path / "frame.html").write_text(PAGE)
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files",
         "--virtual-time-budget=20000", "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found is not None, done.stderr
    expected = {"overflow": 0, "drawn": len(drawn), "named": len(drawn), "sorted": "ascending"}
    assert json.loads(found[1]) == [expected] * len(WIDTHS)
