"""The site of these documents: `make docs` builds it, and every warning is an error.

Docstrings name things as the module they stand in does. So a short name means here what it means
there, and one that means nothing is a warning; names of other packages are shown and not linked.
"""

from __future__ import annotations

import builtins
import importlib
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon.docstring import GoogleDocstring

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
safs = importlib.import_module("safs")

project = "safs-bench"
author = "the authors of safs-bench"
project_copyright = "the authors of safs-bench"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "safs-bench"
html_show_sphinx = False
html_copy_source = False

autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "ignore-module-all": True,
    "member-order": "bysource",
    "exclude-members": "model_config",
    "show-inheritance": True,
    "no-value": True,
}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 90
python_display_short_literal_types = True
add_module_names = False

OWN = ("safs", "bench", "pipelines")
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", rf"(?!({'|'.join(OWN)})\b)[a-zA-Z_]\w*\..*")]
"""Dotted names of other packages; nothing is fetched to link them."""


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _keep_links_inside)
    app.connect("doctree-read", _name_in_full)
    app.connect("missing-reference", _show_what_exists)
    # Napoleon would take what stands before a constant's first colon for its type.
    GoogleDocstring._parse_attribute_docstring = lambda self: self._consume_to_end()


def _keep_links_inside(app: Sphinx, page: str, source: list[str]) -> None:
    """A link out of docs/ works on a Git host; the site shows its words."""
    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./)[^)]*\)", r"\1", source[0])


def _name_in_full(app: Sphinx, tree: nodes.document) -> None:
    """Give each reference the full name of what the module it stands in means by it."""
    for node in list(tree.findall(pending_xref)):
        if node.get("refdomain") != "py" or node.get("reftype") == "mod":
            continue
        node.attributes.pop("refspecific", None)  # or Sphinx would take any name that ends so
        known, found = _found(node.get("py:module"), node.get("py:class"), node["reftarget"])
        # An annotation is mypy's to check: one that Sphinx cannot read is shown as it stands.
        named = "refexplicit" in node and re.fullmatch(r"[\w.]+", node["reftarget"])
        if found is None and (known or not named):
            node.replace_self(node.children)
        elif found is not None:
            node["reftarget"], node["exists"] = found, True


def _show_what_exists(
    app: Sphinx, env: Any, node: pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """What exists but has no entry, as a constant without a docstring, is shown and not linked."""
    return shown if node.get("exists") else None


def _found(module: str | None, inside: str | None, name: str) -> tuple[bool, str | None]:
    """Whether the name means anything, and its full name if it is the project's own."""
    home = importlib.import_module(module) if module else None
    places: list[Any] = [_follow(home, inside)] if home and inside else []
    # What the page of the public API shows stands in other modules; errors come from anywhere.
    shown = sorted(set(safs._PUBLIC.values())) if home is safs else []
    others = [importlib.import_module(key) for key in [*shown, "safs.errors"]]
    for place in [*places, home, builtins, *others]:
        value = None if place is None else _follow(place, name)
        if value is not None:
            return True, _full_name(value, place, name)
    root, *rest = name.split(".")
    if root not in OWN or not rest:
        return root not in OWN and root in sys.modules, None
    value = _follow(sys.modules.get(root), ".".join(rest))
    return (False, None) if value is None else (True, _full_name(value, None, name))


def _follow(place: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(place, ModuleType) and f"{place.__name__}.{part}" in sys.modules:
            place = sys.modules[f"{place.__name__}.{part}"]
        else:
            fields = getattr(place, "__annotations__", {}) if isinstance(place, type) else {}
            place = getattr(place, part, _Field(place, part) if part in fields else None)
    return place


class _Field:
    """A field without a value in its class: what it is called, and where."""

    def __init__(self, owner: type, name: str) -> None:
        self.__module__ = owner.__module__
        self.__qualname__ = f"{owner.__qualname__}.{name}"


def _full_name(value: Any, place: Any, name: str) -> str | None:
    if isinstance(value, ModuleType):
        return value.__name__ if value.__name__.split(".")[0] in OWN else None
    value = value.fget if isinstance(value, property) else value
    value = getattr(value, "func", value)  # functools.cached_property
    module, qualified = (getattr(value, key, None) for key in ("__module__", "__qualname__"))
    if isinstance(module, str) and isinstance(qualified, str):
        return f"{module}.{qualified}" if module.split(".")[0] in OWN else None
    if isinstance(place, type):
        return f"{place.__module__}.{place.__qualname__}.{name}"
    return _assigned(name.rpartition(".")[2], id(value), place) or name


@cache
def _assigned(name: str, value: int, first: ModuleType | None) -> str | None:
    """The full name of a constant: in the module that assigns it, of all that import it."""
    own = [module for key, module in sys.modules.items() if key.split(".")[0] in OWN]
    for module in [*([first] if first else []), *own]:
        if id(vars(module).get(name)) != value or not getattr(module, "__file__", None):
            continue
        if re.search(rf"^{name}\b[^=\n]*=", Path(str(module.__file__)).read_text(), re.MULTILINE):
            return f"{module.__name__}.{name}"
    return None
