"""Reading a pickle that may hold arrays, numbers, strings and containers, and nothing else.

A pickle is a program. Here each of the few names that numpy's arrays need stands for a class of
this module, which checks what it is given; every other name is refused before it is imported.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from safs.errors import SafsError


def load(content: bytes, source: str | Path = "pickle") -> Any:
    """What the pickle holds; Python 2's strings become ``str``.

    Args:
        content: the pickle's bytes, of any protocol, from Python 2 or 3.
        source: the file's name, for errors.

    Raises:
        SafsError: the pickle names anything but arrays and containers, or is damaged.
    """
    try:
        return _finished(_Restricted(io.BytesIO(content), encoding="latin1").load(), {})
    except SafsError as error:
        raise SafsError(f"{source}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SafsError(f"{source}: not a pickle of arrays and containers ({reason})") from None


class _DType:
    """Stands for ``numpy.dtype``: booleans, integers and floats only."""

    def __init__(self, code: object = "", align: object = False, copy: object = False) -> None:
        self.code = _text(code).lstrip("<>|=")
        self.order = "|"
        if self.code[:1] not in tuple("biuf") or not self.code[1:].isdigit():
            raise SafsError(f"an array of type {code!r}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if any(item is not None for item in state[2:5]):
            raise SafsError("an array of records, expected numbers")
        self.order = _text(state[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for ``numpy.ndarray`` and for the function that makes an empty one."""

    array = np.empty(0)

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, raw = state[-4:]
        self.array = _array(_raw(raw), dtype, shape, "F" if fortran else "C")


class _FromBuffer:
    """Stands for the function that makes an array of protocol 5."""

    def __new__(cls, buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
        return _array(_raw(buffer), dtype, shape, _text(order))

    def __setstate__(self, state: object) -> None:
        raise SafsError("an array function with a state")


class _Scalar:
    """Stands for the function that makes a numpy number."""

    def __new__(cls, dtype: Any, raw: Any) -> Any:
        return _array(_raw(raw), dtype, (1,), "C")[0]

    def __setstate__(self, state: object) -> None:
        raise SafsError("a number function with a state")


class _Bytes:
    """Stands for what Python 3 writes bytes by in protocols 0 to 2: ``_codecs.encode``, ``bytes``.

    The latter has no argument there, being for empty ones.
    """

    def __new__(cls, text: Any = "", encoding: Any = "latin1") -> Any:
        if encoding != "latin1" or not isinstance(text, str):
            raise SafsError(f"a text encoded in {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise SafsError("an encoder with a state")


_NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # before and since numpy 2
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _FromBuffer),
        )
    },
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise SafsError(f"refused: the pickle names {module}.{name}, which is not an array")
        return _NAMES[module, name]


def _array(raw: bytes, dtype: object, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise SafsError("an array without a type")
    return np.frombuffer(raw, dtype.dtype).reshape(tuple(map(int, shape)), order=order)


def _raw(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise SafsError(f"an array whose content is a {type(value).__name__}")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise SafsError(f"an array of type {value!r}, expected numbers")
    return value


def _finished(value: Any, known: dict[int, Any]) -> Any:
    """The loaded value with arrays in the place of what stood for them.

    ``known`` are the finished containers by the identity of the loaded ones: one that stands in
    several places is looked at once.
    """
    if isinstance(value, _Array):
        return value.array
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, dict):
        found: Any = {_finished(k, known): _finished(v, known) for k, v in value.items()}
    elif isinstance(value, list | tuple) and not all(type(item) is int for item in value):
        found = type(value)(_finished(item, known) for item in value)
    else:
        return value
    return known.setdefault(id(value), found)
