"""The one look of all figures: sizes, a colour-blind-safe palette, deterministic SVG."""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#123457"
"""Stands for the text colour; replaced by ``currentColor``, so that dark pages work."""
PAPER = "#FEDCBA"
"""Stands for the page's own colour, behind text that lines would cross."""
PALETTE = (
    "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#8C8C8C", "#B5A800",
)  # fmt: skip
"""Okabe and Ito's colours; every series has a marker of its own too."""
MARKERS = "osD^vPX*<>"

RC: dict[str, Any] = {
    "svg.hashsalt": "safs-bench",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
}


def colour(place: int) -> str:
    """The colour of the series at ``place``."""
    return PALETTE[place % len(PALETTE)]


def marker(place: int) -> str:
    """The marker of the series at ``place``."""
    return MARKERS[place % len(MARKERS)]


def svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as one ``<svg>`` element, the same bytes for the same data.

    It has a title and a description for screen readers, ids that start with ``name`` (so that
    several can stand in one page) and the page's text colour.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    text = re.sub(INK, "currentColor", text, flags=re.IGNORECASE)
    text = re.sub(PAPER, "var(--paper, #ffffff)", text, flags=re.IGNORECASE)
    opening = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    words = (
        f'<title id="{name}-title">{escape(title)}</title>\n'
        f'<desc id="{name}-desc">{escape(description)}</desc>\n'
    )
    head, _, rest = text.partition(">")
    return f"{head.replace('<svg', opening, 1)}>\n{words}{rest.strip()}\n"
