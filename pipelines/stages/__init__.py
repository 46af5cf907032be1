"""One short entry per DVC stage; their names, by what they run for."""

PER_PAIR = (
    "pretrain", "activations", "algorithms", "landscape", "fast", "readings", "evaluate",
)  # fmt: skip
PER_CELL = ("prune", "baselines", "search", "tune")
PER_PROFILE = ("records", "tables", "compare", "report", "sums")
STAGES = (*PER_PAIR, *PER_CELL, *PER_PROFILE)
