"""Where everything lies, relative to the repository's root, where every stage runs."""

from __future__ import annotations

from pathlib import Path

from safs.arms import ARMS

SCRATCH = Path("scratch")


def runs(profile: str) -> Path:
    """``runs/<profile>``: all that its stages leave."""
    return Path("runs") / profile


def results(profile: str) -> Path:
    """``results/<profile>``, in git: tables, figures, report, records."""
    return Path("results") / profile


def folder(profile: str, stage: str, pair: str, ratio: float | None = None) -> Path:
    """``runs/<profile>/<stage>/<pair>[/<ratio>]``, as ``dvc.yaml`` names it."""
    base = runs(profile) / stage / pair
    return base if ratio is None else base / str(ratio)


def records(profile: str) -> Path:
    """``results/<profile>/records``; those of a reading lie in its profile's folder."""
    name, _, reading = profile.partition("/")
    return results(name) / "records" / reading


def replicate_file(profile: str, pair: str, replicate: int) -> Path:
    """The file of a replicate's records in the open."""
    return records(profile) / pair / f"r{replicate}.json"


def artefact(
    profile: str, stage: str, pair: str, ratio: float | None, name: str, replicate: int
) -> Path:
    """An artefact of a stage that has one for each replicate."""
    return folder(profile, stage, pair, ratio) / f"{name}-r{replicate}.json"


def record_name(arm: str, ratio: float, replicate: int) -> str:
    """File name, without ending, of a run's record."""
    at = "" if arm == "dense" else f"-{ratio}"
    return f"{arm}{at}-r{replicate}"


def final_name(arm: str, final: int, replicate: int) -> str:
    """File name, without ending, of the artefact of an arm's final training number ``final``."""
    number = f"-f{final}" if final else ""
    return f"{arm}{number}-r{replicate}"


def trained_in(arm: str) -> str:
    """The stage whose folder holds the final training of an arm."""
    if arm == "dense":
        return "pretrain"
    entry = ARMS[arm]
    if entry.operator is not None:
        return "activations"
    if entry.operators == "found_fast":
        return "fast"
    if entry.tuned:
        return "tune"
    return "search" if entry.operators == "found" else "baselines"


def trace_names(arm: str) -> dict[str, tuple[str, str]]:
    """Stage and artefact of the searches behind an arm, by purpose (``search``, ``tune``)."""
    fast = ARMS[arm].operators == "found_fast"
    found: dict[str, tuple[str, str]] = {}
    if (name := ARMS[arm].search) is not None:
        found["search"] = ("fast" if fast else "search", name)
    if ARMS[arm].tuned:
        found["tune"] = ("fast" if fast else "tune", f"{arm}-tune")
    return found
