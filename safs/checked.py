"""From plain data to a typed description, or one line for each thing that is wrong with it.

Every line names the source, the key, what stands there and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from safs.errors import SafsError, did_you_mean

M = TypeVar("M", bound=BaseModel)
Lines = Mapping[tuple[str, ...], int]
"""The line of every key path of a file."""
MAX_FAULTS = 50
"""No more faults than this are listed."""


def validated(model: type[M], values: object, source: object) -> M:
    """Plain data as a model. Raises SafsError, one line per fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SafsError(explained(error, model, source)) from None


def parsed(model: type[M], text: str | bytes, source: object, lines: Lines | None = None) -> M:
    """JSON as a model, its types taken strictly. Raises SafsError, one line per fault.

    ``lines`` are the line numbers of key paths in the file; with it ``source`` gets one.
    """
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise SafsError(explained(error, model, source, lines)) from None


def read(model: type[M], path: Path) -> M:
    """A JSON file as a model. Raises SafsError, one line per fault, or OSError."""
    return parsed(model, path.read_bytes(), path.name)


def explained(
    error: ValidationError, model: type[BaseModel], source: object, lines: Lines | None = None
) -> str:
    """One line per fault, at most :data:`MAX_FAULTS` of them."""
    found = error.errors(include_url=False)
    texts = [_line(_at(source, fault, lines), fault, model) for fault in found[:MAX_FAULTS]]
    more = [f"{source}: and {len(found) - MAX_FAULTS} more"] * (len(found) > MAX_FAULTS)
    return "\n".join([*texts, *more])


def _at(source: object, fault: Any, lines: Lines | None) -> str:
    """``source`` with the line of the fault, or of the nearest key around it."""
    if lines is None:
        return str(source)
    told = re.search(r" at line (\d+)", str(fault["msg"]))
    if told and fault["type"] == "json_invalid":
        return f"{source}:{told[1]}"
    path = tuple(str(part) for part in fault["loc"])
    nearest = next(lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines)
    return f"{source}:{nearest}"


def _line(source: str, fault: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"])
    if fault["type"] == "json_invalid":
        return f"{source}: (whole file): not JSON: {message.removeprefix('Invalid JSON: ')}"
    if fault["type"] == "missing":
        return f"{source}: missing key {where!r}"
    if fault["type"] == "extra_forbidden":
        return (
            f"{source}: unknown key {where!r}{did_you_mean(fault['loc'][-1], _keys(model, fault))}"
        )
    if fault["type"] in ("value_error", "model_type"):
        return f"{source}: " + ": ".join(
            [where] * bool(where) + [message.removeprefix("Value error, ")]
        )
    expected = message.removeprefix("Input should be ")
    return f"{source}: {where or '(whole file)'}: got {_short(fault['input'])}; expected {expected}"


def _short(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys(model: type[BaseModel], fault: Any) -> list[str]:
    """The keys that are valid where an unknown one was found."""
    for part in fault["loc"][:-1]:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:
            model = next(_models(fields[part].annotation), model)
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
