"""Compiling the kernels: once per machine, kept in the user's cache directory."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safs import sealed
from safs.errors import SafsError
from safs.processor import cpu_flags, cpu_name

SOURCES = Path(__file__).parent / "src"
_TARGET = ("-march=x86-64-v3",) if platform.machine() == "x86_64" else ()
FLAGS = (
    "-std=c++17", "-O3", *_TARGET, "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=off", "-fPIC", "-shared", "-pthread",
)  # fmt: skip
"""No flag lets the compiler assume that numbers are finite, reorder a sum or fuse a product with
one: which are fused is written in the source, so every compiler and processor gives the same bits.
"""
_NEEDED = {"avx2", "fma"}


class Unsupported(SafsError):
    """The kernels cannot run this network or machine; the message is the reason, in one line."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels, built on first use (about ten seconds).

    Raises:
        Unsupported: there is no compiler, or it refuses the source.
    """
    _check_processor()
    target = _cache() / f"kernels-{_digest()}.so"
    if not _whole(target):
        _compile(target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise Unsupported(f"sparse kernels: {target} cannot be loaded ({error})") from None


def built() -> dict[str, str]:
    """What the library here was made by and from. Of it only the source decides any bits."""
    return {"compiler": _version(), "flags": " ".join(FLAGS), "source": source_digest()}


def _flags(command: Sequence[str]) -> list[str]:
    """The flags as a compiler spells them: zig writes processors with underscores."""
    zig = any(Path(part).name in ("zig", "ziglang") for part in command)
    return [flag.replace("x86-64-v3", "x86_64_v3") if zig else flag for flag in FLAGS]


@functools.cache
def source_digest() -> str:
    """Digest of every source file."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _check_processor() -> None:
    """An x86-64 processor without AVX2 would end the process at the first kernel."""
    known = cpu_flags().split()
    if _TARGET and len(known) > 1 and (missing := _NEEDED.difference(known)):
        lacks = " and ".join(sorted(missing)).upper()
        raise Unsupported(f"sparse kernels: {cpu_name()} has no {lacks}")


def _digest() -> str:
    return hashlib.sha256("\0".join(built().values()).encode()).hexdigest()[:16]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "safs-bench" / "kernels"


@functools.cache
def compiler() -> tuple[str, ...]:
    """The command of the C++ compiler: ``$CXX``, else the system's, else that of ``ziglang``."""
    named = os.environ.get("CXX")
    if named:
        command = tuple(shlex.split(named))
        if not shutil.which(command[0]):
            raise Unsupported(f"sparse kernels: $CXX names {command[0]}, which is not there")
        return command
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return (name,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++")
    raise Unsupported(
        "sparse kernels: no C++ compiler here; `pip install 'safs-bench[compiler]'` brings one"
    )


@functools.cache
def _version() -> str:
    done = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise Unsupported(f"sparse kernels: {compiler()[0]} --version fails")
    return lines[0]


def _whole(target: Path) -> bool:
    """Whether the library is there as it was built: to map half of one ends the process."""
    try:
        return bool(sealed.read(_seal(target))["library"] == sealed.file_digest(target))
    except (OSError, SafsError):
        return False


def _seal(target: Path) -> Path:
    """Where the digest of the library stands."""
    return target.with_suffix(".json")


def _compile(target: Path) -> None:
    """Build next to ``target`` and rename: of two builds at once the later one wins, unharmed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as directory:
            built = Path(directory) / target.name
            source, command = str(SOURCES / "program.cpp"), compiler()
            command = (*command, *_flags(command), source, "-o", str(built))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line]
                reason = (errors or done.stderr.splitlines() or ["no message"])[0]
                raise Unsupported(f"sparse kernels: {compiler()[0]} fails: {reason}")
            built.replace(target)
            sealed.write(_seal(target), {"library": sealed.file_digest(target)})
    except OSError as error:
        raise Unsupported(f"sparse kernels: cannot write {target.parent} ({error})") from None
