"""The data card of a landscape: what it is, how it was made, what it cannot say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.landscape.table import KEYS, Landscape, name_of, times_of
from safs.operators import label

LICENCE = "Apache-2.0, as this project; it has no image of the data set in it"
COLUMNS = {
    "replicate": "whose dense network, mask and held-out images",
    "order": "0 is stage 1's order of batches, 1 another one, for a random part",
    "index": "number of the chromosome: its operators, the first slot first, are the digits of it "
    "to the base of the number of distinct operators",
    "train_loss_E": "mean cross-entropy over epoch E, in nats; none from where a training failed",
    "validation_accuracy": "fraction of the held-out training images, after the last epoch",
    "test_accuracy": "fraction of the test images, after the last epoch; for reports alone",
    "failed_epoch, failed_step": "from 1, where the loss was no longer finite; 0 if it never was",
    "outcome": "the first 64 bits of the digest of everything that the training computed",
}
LIMITS = (
    "Each row is one training. What chance does is in the rows of order 1, for a part.",
    "A landscape is of one mask. Masks are the replicates; many searches on one mask are not.",
    "One network, one data set of 5,000 images, one pruning ratio, one recipe: nothing here says "
    "how other networks behave.",
    "The highest test accuracy of a whole table is in part luck. Choose by training loss or by "
    "validation, and look test accuracy up once, at the end.",
    "Operators have their published parameters; alpha and beta are 1 (stage 1 learns neither).",
)


def card(table: Landscape) -> str:
    """The data card, in Markdown."""
    meta = table.meta
    rows = Counter(zip(*(table.frame[key].tolist() for key in KEYS[:2]), strict=True))
    counts = [f"{n:,} of replicate {r} under order {o}" for (r, o), n in sorted(rows.items())]
    recipe = ", ".join(f"{k} {v}" for k, v in meta.recipe.model_dump().items() if v is not None)
    parts = {
        "What": f"Trainings of one pruned network, each with another activation chromosome: pair "
        f"{meta.pair} at pruning ratio {meta.ratio}, {len(table.frame):,} trainings "
        f"({'; '.join(counts)}). Complete for {len(table.distinct)} operators on every replicate: "
        f"{', '.join(map(label, table.distinct))}, {len(table.indices):,} chromosomes. Acon is "
        "Swish at its published parameters, so both names have one row.",
        "How": f"The dense network of each replicate is trained and pruned by protocol version "
        f"{meta.protocol} with root seed {meta.seed}; every chromosome is then trained from that "
        f"pruned checkpoint as a candidate of stage 1 is, for {meta.epochs[-1]} epochs ({recipe}). "
        "The kernels give the same bits on every x86-64 processor with AVX2, so anyone can train "
        f"any row again: `safs-bench landscape retrain --profile {meta.profile} --sample 20`.",
        "Columns": "\n".join(f"- `{name}`: {words}." for name, words in COLUMNS.items())
        + f"\n\nHow long each training took (processor seconds, on whatever ran it) stands in "
        f"`{times_of(Path(name_of(meta.ratio))).name}` and is no part of the digest. "
        f"`predictors-{meta.ratio}.json` has what was said before any training: zero-cost "
        "predictors, and quantiles of each layer's Fisher spectrum (decimal logarithms).",
        "Slots": f"{', '.join(meta.slots)}; distinct operators in the order of their digits: "
        f"{', '.join(table.space.distinct)}.",
        "Digest": f"`{table.digest}`, of every row and of what the table says of itself; the "
        "reader refuses a file that does not fit it.",
        "Known limits": "\n".join(f"- {limit}" for limit in LIMITS),
        "Licence": f"{LICENCE}.",
        "How to cite": f"safs-bench, landscape of {meta.pair} at {meta.ratio}, digest "
        f"{table.digest[:16]}; CITATION.cff has the project.",
    }
    text = "\n\n".join(f"## {title}\n\n{words}" for title, words in parts.items())
    return f"# Landscape of {meta.pair} at {meta.ratio}\n\n{text}\n"
