"""Templates, style and script of the pages: each page is one file that needs no network."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bench import verdicts

BADGES = (*verdicts.VERDICTS, verdicts.HOLDS, verdicts.FAILS, verdicts.UNDECIDED)
"""Words that are shown as badges."""


def page(template: str, **values: Any) -> str:
    """A page as HTML; every value is escaped, style and script are inlined.

    Args:
        template: a file of this folder.
        **values: what it shows.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_asset),
    )
    environment.globals["badges"] = BADGES
    inlined = {"css": Markup(_asset("report.css")), "js": Markup(_asset("report.js"))}
    return environment.get_template(template).render(**values, **inlined)


def _asset(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")
