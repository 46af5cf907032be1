"""From plain data to a typed description, or one line for each thing that is wrong with it.

Every line names the source, the key, what stands there and what was expected.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from safs.errors import LONGEST_NAME, SafsError, did_you_mean, printable, shown
from safs.files import read_text

M = TypeVar("M", bound=BaseModel)
KeyPath = tuple[str, ...]
Lines = Callable[[Collection[KeyPath]], Mapping[KeyPath, int]]
"""Finds the lines of key paths in a file, or of what is around them."""
MAX_FAULTS = 50
"""No more faults than this are listed."""
MAX_LINE = 1000
"""Characters of a line about a fault, the source's name apart."""
MAX_BYTES = 8 * 2**20
"""Of a JSON file."""
MAX_VALUES = 200_000
"""Of a JSON file; a record has a few hundred, unless its activations learn much of their own."""
MAX_DIGITS = 40
"""Characters of one number."""


def validated(model: type[M], values: object, source: object) -> M:
    """Plain data as a model. Raises SafsError, one line per fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SafsError(explained(error, model, source)) from None


def parsed(model: type[M], text: str, source: object, lines: Lines | None = None) -> M:
    """JSON as a model, its types taken strictly. Raises SafsError, one line per fault.

    ``lines`` finds the line numbers of key paths in the file; with it ``source`` gets one.
    """
    plain(text, source)
    return typed(model, text, source, lines)


def typed(model: type[M], text: str, source: object, lines: Lines | None = None) -> M:
    """As :func:`parsed`, for what :func:`plain` has read before."""
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise SafsError(explained(error, model, source, lines)) from None


def read(model: type[M], path: Path) -> M:
    """A JSON file as a model. Raises SafsError, one line per fault, or OSError."""
    return parsed(model, read_text(path, MAX_BYTES), path.name)


def plain(text: str, source: object) -> Any:
    """Strict JSON as plain data, in time and memory proportional to the text.

    Raises:
        SafsError: one line, if the text is no JSON, has more than :data:`MAX_VALUES` values, a key
            twice, or a number of more than :data:`MAX_DIGITS` characters.
    """
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise SafsError(f"{source}: more than {MAX_VALUES} values; expected fewer")

    def entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise SafsError(f"{source}: {_name(twice)}: key stands twice; expected each key once")
        return found

    def number(digits: str) -> str:
        if len(digits) > MAX_DIGITS:
            problem = f"a number of {len(digits)} characters; expected at most {MAX_DIGITS}"
            raise SafsError(f"{source}: got {digits[:MAX_DIGITS]}..., {problem}")
        return digits

    try:
        return json.loads(
            text,
            object_pairs_hook=entries,
            parse_int=lambda digits: int(number(digits)),
            parse_float=lambda digits: float(number(digits)),
        )
    except json.JSONDecodeError as error:
        where = f"{error.msg} at column {error.colno}"
        raise SafsError(f"{source}:{error.lineno}: (whole file): not JSON: {where}") from None
    except RecursionError:
        raise SafsError(f"{source}: (whole file): nested too deeply to be read") from None


def explained(
    error: ValidationError, model: type[BaseModel], source: object, lines: Lines | None = None
) -> str:
    """One line per fault, at most :data:`MAX_FAULTS` of them."""
    found = error.errors(include_url=False)
    paths = [tuple(map(str, fault["loc"])) for fault in found[:MAX_FAULTS]]
    known = lines(paths) if lines else None
    texts = [
        f"{_at(source, path, known)}: {_line(fault, model)}"
        for path, fault in zip(paths, found, strict=False)
    ]
    more = [f"{source}: and {len(found) - MAX_FAULTS} more"] * (len(found) > MAX_FAULTS)
    return "\n".join([*texts, *more])


def _at(source: object, path: KeyPath, known: Mapping[KeyPath, int] | None) -> str:
    """``source`` with the line of the path, or of the nearest key around it."""
    if known is None:
        return str(source)
    nearest = next((known[path[:n]] for n in range(len(path), 0, -1) if path[:n] in known), 1)
    return f"{source}:{nearest}"


def _line(fault: Any, model: type[BaseModel]) -> str:
    """What is wrong, after the source: printable, and no longer than :data:`MAX_LINE`."""
    where = ".".join(_name(part) for part in fault["loc"])
    message = str(fault["msg"])
    if fault["type"] == "json_invalid":
        text = f"(whole file): not JSON: {message.removeprefix('Invalid JSON: ')}"
    elif fault["type"] == "missing":
        text = f"missing key '{where}'"
    elif fault["type"] == "extra_forbidden":
        text = f"unknown key '{where}'{did_you_mean(fault['loc'][-1], _keys(model, fault))}"
    elif fault["type"] == "value_error":
        text = ": ".join([where] * bool(where) + [message.removeprefix("Value error, ")])
    else:
        expected = re.sub(r"^\w+ should (be |have )?", "", message)
        text = f"{where or '(whole file)'}: got {shown(fault['input'])}; expected {expected}"
    return printable(text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}...")


def _name(part: object) -> str:
    """A part of a key path, short and printable."""
    text = str(part)
    return printable(text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}...")


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
