"""The ctypes structures and enumerations that are read from the C++ source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safs.kernels import structures
from safs.kernels.structures import Headers

PLACE = "struct Place { int64_t block, offset; };\n"


def offsets(text: str) -> dict[str, int]:
    made = Headers({"x.h": PLACE + text}).structure("X")
    return {name: getattr(made, name).offset for name, _ in made._fields_}


def test_fields_lie_where_the_header_puts_them() -> None:
    text = """constexpr int MANY = 3;
struct X {
  const float *in, *pass;       // names as they are; int64_t not_this;
  Place place;
  float* each[MANY];
  int64_t n() const { return 1; }
  double seconds;
};"""
    assert offsets(text) == {"in": 0, "pass": 8, "place": 16, "each": 32, "seconds": 56}


def test_fields_that_change_places_in_a_header_do_so_here() -> None:
    assert offsets("struct X { int64_t a; double b; };") == {"a": 0, "b": 8}
    assert offsets("struct X { double b; int64_t a; };") == {"b": 0, "a": 8}


@pytest.mark.parametrize(
    "line",
    [
        "float x;", "const float *a, b;", "Unknown x;", "int64_t x[N];", "int64_t x = 0;",
        "int64_t x : 3;", "static int64_t x;", "const Place& x;", "void (*x)(int);",
        "#pragma pack(1)", "virtual void f() {}", "/* int64_t x; */", "union { int64_t x; };",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"x.h:4: cannot read '{line}' in X")):
        offsets(f"struct X {{  // first\n  int64_t first;\n  {line}\n}};")


def test_an_enumeration_without_values_of_its_own() -> None:
    text = "enum Code {\n  ONE, TWO_THREE,  // and so on\n  FOUR,\n};\nenum Bad { A,\n B = 7 };"
    source = Headers({"x.h": text})
    assert source.enumeration("Code") == ("one", "two_three", "four")
    with pytest.raises(ValueError, match=r"x\.h:6: cannot read 'B = 7 };' in Bad"):
        source.enumeration("Bad")


def test_the_cases_of_a_switch_count_from_0() -> None:
    case = "  case {}: f(Two{{}}); break;{}\n".format
    assert Headers({"x.h": case(0, "") + case(1, "  // two_b")}).cases("x.h") == ("two", "two_b")
    for wrong in (case(2, ""), case(1, " // two_b"), "  default: f(Two{});\n"):
        with pytest.raises(ValueError, match=re.escape(f"x.h:2: cannot read {wrong.strip()!r}")):
            Headers({"x.h": case(0, "") + wrong}).cases("x.h")


def test_every_structure_that_the_kernels_fill_is_declared() -> None:
    text = "".join(f.read_text() for f in Path(structures.__file__).parent.glob("*.py"))
    used = set(re.findall(r"\bc\.([A-Z][a-z]\w+)", text))
    assert {"Map", "Program", "Single", "Sums"} <= used
    assert all(getattr(structures, name)._fields_ for name in used)
    with pytest.raises(AttributeError, match="no struct Stranger"):
        structures.Stranger  # noqa: B018
