"""Reading a lab file that somebody else wrote: bounded, data only, every fault with its line.

Nothing is believed before it is checked: size, depth, numbers and texts are bounded while the text
is scanned, and only then is it parsed. No fault of a file raises anything but SafsError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.labs.schema import LabFile, seal
from bench.record import validate_file
from safs.checked import parsed
from safs.errors import SafsError

LABS = Path("results/labs")
"""Where reviewed files lie in the repository: ``<lab>/<profile>.json``."""
MAX_BYTES = 8 * 2**20
MAX_VALUES = 400_000
MAX_DEPTH = 12
MAX_TEXT = 32_768
"""Characters of one text; the bits of 50,000 test images take 8,336."""
MAX_WHOLE = 2**53

KeyLines = dict[tuple[str, ...], int]
_TOKEN = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_WHOLE = re.compile(r"-?[0-9]+")


def validate(path: Path) -> list[str]:
    """Faults of a record or a lab file, one line each; for a lab file with the line number."""
    try:
        text = _text(path)
        if not re.match(r'\s*\{\s*"lab_file"', text):
            return validate_file(path)
        parse(text, str(path))
    except SafsError as error:
        return str(error).splitlines()
    return []


def read(path: Path) -> LabFile:
    """Read and check a lab file. Raises SafsError, one line per fault."""
    return parse(_text(path), str(path))


def parse(text: str, source: str) -> LabFile:
    """A lab file from its text. Raises SafsError, one line per fault, each with ``source``."""
    lines = scan(text, source)
    file = parsed(LabFile, text, source, lines)
    if seal(json.loads(text)) != file.digest:
        raise SafsError(
            f"{source}:{lines[('digest',)]}: digest: got {file.digest}; expected the digest of the "
            "content: the file was changed after safs-bench wrote it"
        )
    return file


def _text(path: Path) -> str:
    """The file's text, read no further than the bound."""
    if not path.is_file():
        raise SafsError(f"{path}: no such file; expected a record or a lab file (JSON)")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SafsError(f"{path}: more than {MAX_BYTES} bytes; expected at most that")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SafsError(f"{path}: not UTF-8 at byte {error.start}; expected JSON") from None
    except OSError as error:
        raise SafsError(f"{path}: cannot be read: {error.strerror}") from None


class _Frame:
    """An open object or array while scanning: the key or index that comes next."""

    def __init__(self, array: bool) -> None:
        self.array, self.index, self.key = array, 0, ""
        self.waits_for_key = not array
        self.seen: set[str] = set()


def scan(text: str, source: str) -> KeyLines:
    """The line of every key path; refuses what is too deep, too large, repeated or unprintable.

    Text that is not JSON passes: the parser says so afterwards, in constant depth.

    Raises:
        SafsError: one line with source, line and key.
    """
    lines: KeyLines = {(): 1}
    stack: list[_Frame] = []
    for line, token in _tokens(text):
        problem = None
        if token in "}]":
            stack = stack[:-1]
        elif token == ",":
            _next(stack)
        elif token == ":":
            continue
        elif stack and stack[-1].waits_for_key:
            problem = _name(stack[-1], token)
            lines[_path(stack)] = line
        else:
            lines.setdefault(_path(stack), line)
            problem = _value_problem(token)
            if token in "{[":
                stack.append(_Frame(token == "["))
        if len(stack) > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH}; expected less"
        if len(lines) > MAX_VALUES:
            problem = f"more than {MAX_VALUES} values; expected fewer"
        if problem:
            where = ".".join(ascii(part)[1:-1] for part in _path(stack)) or "(whole file)"
            raise SafsError(f"{source}:{line}: {where}: {problem}")
    return lines


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    line, last = 1, 0
    for found in _TOKEN.finditer(text):
        line += text.count("\n", last, found.start())
        last = found.start()
        yield line, found.group()


def _next(stack: list[_Frame]) -> None:
    """After a comma: the next index of an array, the next key of an object."""
    if stack:
        stack[-1].index += 1
        stack[-1].waits_for_key = not stack[-1].array


def _path(stack: list[_Frame]) -> tuple[str, ...]:
    return tuple(str(frame.index) if frame.array else frame.key for frame in stack)


def _name(frame: _Frame, token: str) -> str | None:
    """Take ``token`` as the object's next key; what is wrong with it, if anything."""
    frame.waits_for_key = False
    frame.key = _unquoted(token)
    if frame.key in frame.seen:
        return "key stands twice; expected each key once"
    frame.seen.add(frame.key)
    return _value_problem(token)


def _value_problem(token: str) -> str | None:
    if token.startswith('"'):
        text = _unquoted(token)
        if len(text) > MAX_TEXT:
            return f"a text of {len(text)} characters; expected at most {MAX_TEXT}"
        if not text.isprintable():
            return f"got {ascii(text)[:60]}; expected printable characters only"
    elif len(token) > 40 or (_WHOLE.fullmatch(token) and abs(int(token)) > MAX_WHOLE):
        return f"got {ascii(token)[1:31]}...; expected a number of at most {MAX_WHOLE}"
    return None


def _unquoted(token: str) -> str:
    """The text of a JSON string; the token itself where it is none."""
    try:
        return str(json.loads(token))
    except ValueError:
        return token


def by_lab(folder: Path, profile: str) -> dict[str, LabFile]:
    """The files ``<folder>/<lab>/<profile>.json`` by lab, in order.

    Raises:
        SafsError: for a file with a fault, or one that lies in the wrong place.
    """
    found: dict[str, LabFile] = {}
    for path in sorted(folder.glob(f"*/{profile}.json")):
        file = found[path.parent.name] = read(path)
        if (file.lab.name, file.profile) != (path.parent.name, profile):
            place = f"{file.lab.name}/{file.profile}.json"
            raise SafsError(f"{path}: in the wrong place; expected {place}, as the file says")
    return found


def by_name(paths: Iterable[Path]) -> dict[str, LabFile]:
    """Lab files by the lab's name, in order. Raises SafsError where two have the same."""
    found: dict[str, LabFile] = {}
    for path in paths:
        file = read(path)
        if file.lab.name in found:
            raise SafsError(f"{path}: lab.name: {file.lab.name!r} is given twice; expected once")
        found[file.lab.name] = file
    return found
