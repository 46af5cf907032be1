"""The digests of cases.py from every compiler here, sanitized and emulated: make test-portable.

    python tests/portable/everywhere.py [--emulated-only] [--cpu Haswell ...]

Compilers are those of g++, clang++ and ziglang that there are, at -O2 and -O3, on this processor
with all cases and a whole small run. With g++'s sanitizers all cases run once more, on three
threads: an access outside of what was allocated, undefined behaviour or a data race ends them.
Processors are emulated by ``qemu-x86_64`` (Debian package qemu-user, 7.2 or newer) with 25 cases
and the small run. Prints a line for each and ends with 1 if a digest differs.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CPUS = ("Haswell", "Skylake-Client", "EPYC-Milan")
SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"),
    "thread": ("-fsanitize=thread", "-g", "-O2"),
}
_SANITIZED = {
    "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1",
    "PYTHONMALLOC": "malloc",
    "SAFS_THREADS": "3",
}


def compilers() -> Iterator[tuple[str, str]]:
    """Name and command of every compiler that is here."""
    for name in ("g++", "clang++"):
        if shutil.which(name):
            yield name, name
    if importlib.util.find_spec("ziglang"):
        yield "zig", f"{sys.executable} -m ziglang c++"


@functools.cache
def fixed() -> tuple[str, ...]:
    """What starts a program at addresses that are not random; empty where that is not allowed.

    Random ones may lie where a sanitizer keeps its own memory; that of threads does not start then.
    """
    command = ("setarch", "-R")
    there = shutil.which("setarch") and subprocess.run([*command, "true"], check=False)
    return command if there and there.returncode == 0 else ()


def runtime(sanitizer: str) -> str | None:
    """What is loaded before the interpreter, for sanitized code; None where g++ has it not.

    Beside the sanitizer that is the C++ library, whose exceptions it looks for at the start.
    """
    if not shutil.which("g++") or (sanitizer == "thread" and not fixed()):
        return None
    found = []
    for name in (f"lib{sanitizer[0]}san.so", "libstdc++.so.6"):
        asked = ["g++", f"-print-file-name={name}"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
    return ":".join(found) if all(map(os.path.isfile, found)) else None


def cases(
    *arguments: str, cxx: str | None = None, cpu: str | None = None, sanitizer: str | None = None
) -> dict[str, str]:
    """The digests of one run of cases.py."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before: list[str] = []
    if cpu:
        before = ["qemu-x86_64", "-cpu", cpu]
    if sanitizer:
        cxx = "g++"
        variables |= _SANITIZED
        before = [*fixed(), "env", f"LD_PRELOAD={runtime(sanitizer)}"]
        arguments = (*arguments, *(f"--flag={flag}" for flag in SANITIZERS[sanitizer]))
    if cxx:
        variables["CXX"] = cxx
    python = os.path.realpath(sys.executable) if cpu else sys.executable
    done = subprocess.run(
        [*before, python, str(HERE / "cases.py"), *arguments],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        told = "\n".join([*lines[:12], *lines[12:][-4:]])
        raise SystemExit(f"{' '.join([*before, *arguments])}: {told}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def tell(name: str, *arguments: str, **how: str) -> bool:
    """Run, print a line, and say whether all digests are as they must be."""
    expected = json.loads((HERE / "digests.json").read_text())
    started = time.monotonic()
    found = cases(*arguments, **how)
    wrong = [case for case, digest in found.items() if expected[case] != digest]
    wrong += [] if found else ["any"]
    same = f"{len(found) - len(wrong)} of {len(found)} the same"
    others = f"; not {', '.join(wrong[:5])}" if wrong else ""
    print(f"{name:24} {same} in {time.monotonic() - started:.0f} s{others}", flush=True)
    return not wrong


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--emulated-only", action="store_true")
    parser.add_argument("--cpu", nargs="*", default=CPUS)
    given = parser.parse_args(arguments)
    good = []
    for name, command in () if given.emulated_only else compilers():
        for flag in ("-O2", "-O3"):
            good.append(tell(f"{name} {flag}", "--run", f"--flag={flag}", cxx=command))
    for name in () if given.emulated_only else SANITIZERS:
        if runtime(name):
            good.append(tell(f"g++ {name} sanitizer", sanitizer=name))
        else:
            print(f"no {name} sanitizer of g++ here")
    if not shutil.which("qemu-x86_64"):
        print("no qemu-x86_64 here: no processor is emulated (Debian package qemu-user)")
        return 0 if good and all(good) else 1
    for cpu in given.cpu:
        good.append(tell(f"emulated {cpu}", "--few", "--run", cpu=cpu))
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
