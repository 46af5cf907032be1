"""What the C++ side declares, read from its source: ``structures.Map`` is its ``struct Map``."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from safs.kernels.build import SOURCES
from safs.kernels.build import library as library

# Of 8 bytes each: fields lie one behind the other without gaps, whatever the compiler.
_KINDS: dict[str, Any] = {
    "*": ctypes.c_void_p, "int64_t": ctypes.c_int64, "double": ctypes.c_double,
}  # fmt: skip
assert all(ctypes.sizeof(kind) == 8 for kind in _KINDS.values())

_MEMBER = re.compile(
    r"""\s*+ (?: (?P<end> \}; )
      | (?P<method> (?!virtual\b) [^;{}()]+ \( [^;{}]* \) [^;{}]* \{ [^{}]* \} )
      | (?:const\s+)? (?P<kind> \w+ ) (?P<names> [^;{}()]+ ) ; )""",
    re.VERBOSE,
)
_NAME = re.compile(r"\s*(?P<star>\*?)\s*(?P<name>\w+)(?:\[(?P<size>\w+)\])?\s*")


class Headers:
    """C++ files by name.

    Comments and methods are passed over; what else is not understood is a ValueError, never a gap.

    Attributes:
        sizes: every ``constexpr int`` by name.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._commented = files
        self._files = {file: re.sub(r"//.*", "", text) for file, text in files.items()}
        self._places, self._made = {}, dict[str, Any]()
        self.sizes: dict[str, int] = {}
        for file, text in self._files.items():
            for found in re.finditer(r"\b(?:struct|enum) (\w+)\s*\{", text):
                self._places[found[1]] = file, found.end()
            for name, size in re.findall(r"\bconstexpr int (\w+) = (\d+);", text):
                self.sizes[name] = int(size)

    def structure(self, name: str) -> Any:
        """The ctypes structure of a ``struct``."""
        if name not in self._made:
            file, at = self._places[name]
            fields: list[tuple[str, Any]] = []
            while True:
                member = _MEMBER.match(self._files[file], at) or self._refuse(name, at)
                if member["end"]:
                    break
                names = member["names"].split(",") if member["kind"] else ()
                fields += (self._field(name, at, member["kind"], each) for each in names)
                at = member.end()
            self._made[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
        return self._made[name]

    def _field(self, struct: str, at: int, kind: str, declared: str) -> tuple[str, Any]:
        found = _NAME.fullmatch(declared) or self._refuse(struct, at)
        kind = found["star"] or kind
        if kind not in _KINDS and kind not in self._places:
            self._refuse(struct, at)
        made = _KINDS.get(kind) or self.structure(kind)
        if found["size"]:
            made = made * (self.sizes.get(found["size"]) or self._refuse(struct, at))
        return found["name"], made

    def enumeration(self, name: str) -> tuple[str, ...]:
        """The names in an ``enum``, in lower case; the position of each is its value."""
        file, at = self._places[name]
        body = self._files[file][at:].partition("}")[0].rstrip(", \n")
        for each in body.split(","):
            if not re.fullmatch(r"\s*\w+", each):
                self._refuse(name, at + body.index(each))
        return tuple(re.findall(r"\w+", body.lower()))

    def cases(self, file: str) -> tuple[str, ...]:
        """What each case of the one ``switch`` of a file calls ``f`` with; its number is its value.

        In lower case, or the comment behind it.
        """
        found: list[str] = []
        for number, line in enumerate(self._commented[file].splitlines(), 1):
            if re.match(r"\s*(case|default)\b", line):
                case = rf"\s*case {len(found)}: f\((\w+)\{{\}}\); break;(?:  // (\w+))?"
                if not (read := re.fullmatch(case, line)):
                    raise ValueError(f"{file}:{number}: cannot read {line.strip()!r}")
                found.append(read[2] or read[1].lower())
        return tuple(found)

    def _refuse(self, name: str, at: int) -> NoReturn:
        file, _ = self._places[name]
        rest = self._files[file][at:].lstrip()
        line = self._files[file].count("\n", 0, -len(rest)) + 1
        raise ValueError(f"{file}:{line}: cannot read {rest.partition(chr(10))[0]!r} in {name}")

    def __contains__(self, name: str) -> bool:
        return name in self._places


SOURCE = Headers({path.name: path.read_text() for path in sorted(SOURCES.iterdir())})
MAX_OWN = SOURCE.sizes["MAX_OWN"]


def __getattr__(name: str) -> Any:
    if name not in SOURCE:
        raise AttributeError(f"the C++ source has no struct {name}")
    return SOURCE.structure(name)
