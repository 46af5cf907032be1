"""The measurements of ``models.py`` as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tabulate import tabulate

Measured = dict[str, Any]
HEADINGS = (
    "model", "pixels", "adopted", "slots", "activations left out", "layers pruned", "left dense",
    "never pruned",
)  # fmt: skip

INTRODUCTION = """\
What `safs.search_and_tune` takes, and what it makes of public models.

## What a model needs

A `torch.nn.Module` with float32 weights that makes logits `[N, classes]` of one input; other
arguments have their defaults. `torch.compile` and `DataParallel` are taken off, and the model
stays as it is.

- **Activations** are found by what a pass calls: modules, functions and methods, in place or not.
  Each use becomes a slot. No slot, but named in the report's `left_out` and in a log line: what
  gates, that is, a sigmoid or another bounded function whose result multiplies another map,
  reshaped or not; what torch's own layers (`nn.TransformerEncoderLayer`, `nn.LSTM`) call inside;
  what is computed from parameters alone.
- **Unknown activations**, which no registered operator equals, are an error that names them:
  register one (`safs.operator`), or say what their slots start with (`default="relu"`).
- **Weights** are parameters of two or more dimensions that a convolution, a matrix product,
  attention or a recurrent layer takes. All are pruned and counted, those of subclasses and bare
  parameters too, but these, which the report's `pruning.dense` and a log line name: parameters
  from which a layer computes its weights (weight standardisation), since their zeros do not stay,
  and layers that no pass uses. Embeddings, norms, biases, and parameters that are added or
  multiply element by element are never pruned. With `ratio=None` zeros that would not stay are an
  error.
- **Training and evaluation** may differ, in modules (`nn.Dropout`, stochastic depth) and by
  `training=self.training`. What is random in evaluation is an error.
- **Tracing**: torch.fx should be able to trace it, and modules that call no activation need not
  be looked into. What it cannot trace needs its activations as modules; a module that is used
  several times is then one slot.

The network with slots must compute what the model does on images of the caller's, in evaluation
and in training, and slots and activations that were left must be as many as a pass of the model
called.

`safs.load` puts slots into a fresh module by noise of the inputs' shape. A module that takes no
noise (tokens, a logarithm) loads with `example=`, a batch as it was trained on; `to_onnx` takes one
too.

## What was tried

As they come, with random weights and noise for images of their own size, by
`tests/benchmarks/models.py`. Activations are counted there once more, apart from the code that
adopts. *Graph* is a graph of torch.fx, *modules* the model itself with its activation modules
replaced. Versions:"""


def page(measured: Measured) -> str:
    """The whole page: how many of each library, and a table each.

    Args:
        measured: ``versions`` and ``models``, as the benchmark writes them.
    """
    numbers = sorted(measured["versions"].items())
    parts = [f"# Models\n\n{INTRODUCTION} {', '.join(f'{n} {v}' for n, v in numbers)}."]
    for library in dict.fromkeys(row["library"] for row in measured["models"]):
        rows = [row for row in measured["models"] if row["library"] == library]
        adopted, total = builders(row for row in rows if whole(row)), builders(rows)
        parts += [
            f"### {library}",
            f"{adopted} of {total} models ({adopted / total:.0%}) are adopted, every activation "
            f"a slot or named.{_note(rows)}",
            tabulate([_cells(row) for row in rows], headers=HEADINGS, tablefmt="github"),
        ]
    return "\n\n".join(parts) + "\n"


def whole(row: Measured) -> bool:
    """Whether a model is adopted, no activation missing."""
    return bool(row["adopted"]) and row["called"] == row["found"]


def builders(rows: Iterator[Measured] | Sequence[Measured]) -> int:
    """How many models rows stand for."""
    return sum(1 + len(row["like"]) for row in rows)


def _note(rows: Sequence[Measured]) -> str:
    if not any(row["like"] for row in rows):
        return ""
    return (
        f" {len(rows)} were tried, each the smallest of those that consist of the same kinds of "
        "modules."
    )


def _cells(row: Measured) -> list[str]:
    like = f" (and {', '.join(row['like'])})" if row["like"] else ""
    start = [row["model"] + like, str(row["size"])]
    if not row["adopted"]:
        return [*start, f"no: {row['why']}", *["-"] * 5]
    how = "graph" if row["graph"] else "modules"
    default = f', `default="{row["default"]}"`' if "default" in row else ""
    lost = "" if whole(row) else f", {row['called']} called and {row['found']} found"
    return [
        *start, f"{how}{default}{lost}", str(row["slots"]), _counted(row["left"]),
        str(row["pruned"]), _counted(row["dense"]), _counted(row["others"]),
    ]  # fmt: skip


def _counted(found: dict[str, int]) -> str:
    return "; ".join(f"{count} × {what}" for what, count in sorted(found.items())) or "-"
