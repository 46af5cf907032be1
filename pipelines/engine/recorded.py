"""Replicates that need not be trained, because their records are published: a run that goes on.

Where :data:`ASKED` is set, a stage leaves out each replicate whose file in
``results/<profile>/records`` has the identity that its inputs give today. The file says all that
tables, figures and ``verify`` need; checkpoints and weights it does not have, so nothing of such a
replicate can be exported or tried again without training it. The stage leaves a note in its folder,
and leaves the replicate out again while both are there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from pipelines import compute
from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.storage import layout, sources
from pipelines.storage.sources import Registered
from safs import sealed
from safs.arms import ARMS, SRELU
from safs.datasets import Part, load_part
from safs.errors import SafsError
from safs.sealed import digest, file_digest
from safs.settings import OPTIMIZERS, PROTOCOL_VERSION, SCHEDULES

ASKED = "SAFS_FROM_RECORDS"
"""The environment variable that ``safs-bench run --from-records`` sets."""
NOTES = "recorded-*.json"
"""The files in a stage's folder that say what stands for trainings that are not in it."""
CODE = (
    "safs/training/loop.py", "safs/training/start.py", "safs/training/evaluation.py",
    "safs/pruning/prune.py", "safs/pruning/compression.py", "safs/method/stage1.py",
    "safs/method/stage2.py", "safs/method/cheap.py", *sources.KERNELS,
)  # fmt: skip
"""What computes a replicate, beside what is registered."""
AT_FIRST = "3af40f0202a335f8952fda5aa2e7f1179a01f8509e34450809862f9637246f3c"
"""Fingerprint of connectivity and of the scope ``layerwise`` as version 3 began."""


def checksum(dataset: str, part: Part) -> str:
    """Checksum of a data set's images and labels as they are here. Raises as ``load_part``."""
    return load_part(dataset, part, compute.data_directory()).checksum()


def identity(study: Study, pair: str, replicate: int) -> str:
    """Digest of all that decides a replicate of a pair before anything is trained."""
    profile, of = study.profile, study.pairs[pair]
    ratios = profile.ratios(pair)
    data = [checksum(of.dataset.name, part) for part in ("train", "test")]
    landscape = [found for x in ratios if (found := profile.landscape(pair, x))]
    return digest(
        [
            PROTOCOL_VERSION,
            [profile.profile, profile.seed, pair, replicate],
            of.model_dump(mode="json", exclude={"about"}),
            [profile.protocol.model_dump(mode="json"), profile.faster],
            [[x, profile.every_arm(pair, x), profile.algorithms(pair, x)] for x in ratios],
            data,
            sources.of(*CODE, entries=_entries(study, pair)),
            *([*landscape, described()] if landscape else []),
            *([["backend", profile.backend]] if profile.backend != "auto" else []),
            *_masks(of, ratios, replicate),
        ]
    )


def described() -> str:
    """Fingerprint of what is said of a landscape's chromosomes before any is trained."""
    entries = [Registered("predictor", name) for name in sources.names("predictor")]
    return sources.of("safs/search/spectrum.py", entries=entries)


def _masks(of: Pair, ratios: Iterable[float], replicate: int) -> list[list[str]]:
    """Where weights may go, where classes are cut off, and given masks; not what was so at first.

    The first identities of version 3 were published without them.
    """
    code = sources.of("safs/pruning/connectivity.py", entries=[Registered("scope", of.prune.scope)])
    given = (of.prune.given_file(replicate, ratio) for ratio in ratios)
    told = [code, *(file_digest(path) for path in given if path and path.is_file())]
    return [] if told == [AT_FIRST] else [told]


def _entries(study: Study, pair: str) -> set[Registered]:
    """Everything registered that a pair's stages may use."""
    profile, of = study.profile, study.pairs[pair]
    every = {arm for x in profile.ratios(pair) for arm in profile.every_arm(pair, x)}
    single = {name for arm in every if (name := ARMS[arm].operator) is not None}
    own = sources.default(of.network.name)
    operators = {*of.search.operators, *single, *SRELU.values(), "relu", own}
    searches = {of.search.algorithm, "singles", "lahc"}
    searches |= {name for x in profile.ratios(pair) for name in profile.algorithms(pair, x)}
    return {
        Registered("network", of.network.name), Registered("dataset", of.dataset.name),
        Registered("predictor", of.fast.predictor),
        *(Registered("pruner", name) for name in {of.prune.method} & set(sources.names("pruner"))),
        *(Registered("operator", name) for name in operators),
        *(Registered("search", name) for name in searches),
        *(Registered("optimizer", name) for name in OPTIMIZERS),
        *(Registered("schedule", name) for name in SCHEDULES),
    }  # fmt: skip


def replicates(study: Study, pair: str, folder: Path) -> dict[int, Path]:
    """The replicates that a stage need not train, with their files.

    These are all that stand, where that is asked for; else those that it left out before.

    Args:
        study, pair: what is trained.
        folder: of the stage, with its notes.

    Raises:
        SafsError: a file is damaged.
    """
    if os.environ.get(ASKED):
        return standing(study, pair)
    noted = {note.name for note in folder.glob(NOTES)}
    known = standing(study, pair) if noted else {}
    return {r: path for r, path in known.items() if _note(r) in noted}


def standing(study: Study, pair: str) -> dict[int, Path]:
    """The published replicates with the current identity. Raises as :func:`replicates`."""
    every = range(study.profile.replicates)
    return {r: _file(study, pair, r) for r in every if stands(study, pair, r)}


def stands(study: Study, pair: str, replicate: int) -> bool:
    """Whether a replicate is published with the current identity. Raises as :func:`replicates`."""
    path = _file(study, pair, replicate)
    return path.is_file() and _identity(path) == identity(study, pair, replicate)


def _file(study: Study, pair: str, replicate: int) -> Path:
    return layout.replicate_file(study.profile.profile, pair, replicate)


def _identity(path: Path) -> object:
    """The identity that a file of records gives. Raises SafsError if it was changed."""
    content = sealed.read_object(path)
    try:
        fits = sealed.seal(content) == content
    except ValueError:  # NaN, which is never written
        fits = False
    if not fits:
        raise SafsError(f"{path}: its content does not fit its digest: damaged or edited")
    return content.get("identity")


def note(folder: Path, known: dict[int, Path]) -> list[str]:
    """Say in a stage's folder which file stands for each such replicate; names of what is kept.

    What the folder has of these replicates already stays.
    """
    names = []
    for replicate, path in known.items():
        tell(folder / _note(replicate), path)
        names += [file.name for file in folder.glob(f"*-r{replicate}.*")]
    return names


def tell(note: Path, records: Path) -> None:
    """Write a note: which file stands for what is not trained."""
    told = {"records": records.as_posix(), "digest_of_records": file_digest(records)}
    sealed.write(note, told)


def _note(replicate: int) -> str:
    return f"recorded-r{replicate}.json"


def forget(folder: Path, known: Collection[Path] = ()) -> None:
    """Remove the notes below a folder, so that DVC runs their stages; not those of ``known``."""
    for note in folder.rglob(NOTES):
        if Path(sealed.read(note)["records"]) not in known:
            note.unlink()
