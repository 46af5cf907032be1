"""The digests of cases.py from every compiler here, and on emulated processors: make test-portable.

    python tests/portable/everywhere.py [--emulated-only] [--cpu Haswell ...]

Compilers are those of g++, clang++ and ziglang that there are, at -O2 and -O3, on this processor
with all cases and a whole small run. Processors are emulated by ``qemu-x86_64`` (Debian package
qemu-user, 7.2 or newer) with 25 cases and the small run. Prints a line for each and ends with 1 if
a digest differs.
"""

from __future__ import annotations

import argparse
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


def compilers() -> Iterator[tuple[str, str]]:
    """Name and command of every compiler that is here."""
    for name in ("g++", "clang++"):
        if shutil.which(name):
            yield name, name
    if importlib.util.find_spec("ziglang"):
        yield "zig", f"{sys.executable} -m ziglang c++"


def cases(*arguments: str, cxx: str | None = None, cpu: str | None = None) -> dict[str, str]:
    """The digests of one run of cases.py."""
    python = os.path.realpath(sys.executable) if cpu else sys.executable
    emulated = ["qemu-x86_64", "-cpu", cpu] if cpu else []
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if cxx:
        variables["CXX"] = cxx
    done = subprocess.run(
        [*emulated, python, str(HERE / "cases.py"), *arguments],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join([*emulated, *arguments])}: {done.stderr.strip()[-800:]}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def tell(name: str, *arguments: str, **how: str) -> bool:
    """Run, print a line, and say whether all digests are as they must be."""
    expected = json.loads((HERE / "digests.json").read_text())
    started = time.monotonic()
    found = cases(*arguments, **how)
    wrong = [case for case, digest in found.items() if expected[case] != digest]
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
    if not shutil.which("qemu-x86_64"):
        print("no qemu-x86_64 here: no processor is emulated (Debian package qemu-user)")
        return 0 if all(good) else 1
    for cpu in given.cpu:
        good.append(tell(f"emulated {cpu}", "--few", "--run", cpu=cpu))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
