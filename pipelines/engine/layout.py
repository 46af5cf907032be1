"""Where everything lies, relative to the repository's root, where every stage runs."""

from __future__ import annotations

from pathlib import Path

from safs.arms import ARMS

SCRATCH = Path("scratch")


def folder(profile: str, stage: str, pair: str, ratio: float | None = None) -> Path:
    """``runs/<profile>/<stage>/<pair>[/<ratio>]``, as ``dvc.yaml`` names it."""
    base = Path("runs") / profile / stage / pair
    return base if ratio is None else base / str(ratio)


def results(profile: str) -> Path:
    """The git-tracked folder of a profile's tables and report."""
    return Path("results") / profile


def record_name(method: str, ratio: float, replicate: int) -> str:
    """File name, without ending, of a run's record."""
    at = "" if method == "dense" else f"-{ratio}"
    return f"{method}{at}-r{replicate}"


def trained_in(method: str) -> str:
    """The stage whose folder holds the final training of a method."""
    if method == "dense":
        return "pretrain"
    arm = ARMS[method]
    if arm.operator is not None:
        return "activations"
    if arm.operators == "found_fast":
        return "fast"
    if arm.tuned:
        return "tune"
    return "search" if arm.operators == "found" else "baselines"


def search_name(method: str) -> str | None:
    """Name of the search whose chromosome an arm takes, or None if it needs none."""
    return {"found": "search", "best_single": "singles"}.get(ARMS[method].operators)
