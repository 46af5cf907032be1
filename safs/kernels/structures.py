"""The structures of the C++ side, field by field."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int64, c_void_p
from typing import Any

from safs.kernels.build import Unsupported, library

_FIELD = {"p": c_void_p, "i": c_int64, "d": c_double}
MAX_OWN = 4


def _structure(name: str, **fields: Any) -> Any:
    """A ctypes structure; the string of a field is its kind: p pointer, i int64, d double."""
    members = []
    for field, kind in fields.items():
        if isinstance(kind, str) and kind in _FIELD:
            members.append((field, _FIELD[kind]))
        else:
            members.append((field, kind))
    return type(name, (ctypes.Structure,), {"_fields_": members})


Map = _structure(
    "Map", p="p", image_block_stride="i", channel_stride="i", row_stride="i", whole="i", log_n="i"
)
Channels = _structure("Channels", index="p", count="i")
Survivors = _structure(
    "Survivors", outputs=Channels, start="p", offset="p", count="i", blocks="i", rows="i",
    first_row="i", input_height="i",
)  # fmt: skip
Convolution = _structure(
    "Convolution", list=Survivors, inp=Map, out=Map, weight="p", initial="p", statistics="p",
    accumulate="i", height="i", row="i", channels="i",
)  # fmt: skip
WeightGradient = _structure(
    "WeightGradient", list=Survivors, inp=Map, gz=Map, sums="p", height="i", row="i", pass_="i"
)
Stage = _structure(
    "Stage", z=Map, y=Map, gz=Map, gy=Map, residual=Map, g_residual=Map, winner=Map, position=Map,
    derivative=Map, value=Map, code="i", pool="i", norm="i", height="i", width="i",
    varying=Channels, constant=Channels, scaled="i", accumulates="i", residual_accumulates="i",
    alpha="p", beta="p", own="p", own_stride="i", own_sums="p", fixed="p", a="p", b="p", ga="p",
    gb="p", gc="p", sums="p", scale_sums="p",
)  # fmt: skip
Norm = _structure(
    "Norm", stage="p", statistics="p", gamma="p", shift="p", g_gamma="p", g_shift="p", bias="p",
    start="p", running_mean="p", running_variance="p", mean="p", inverse="p", fixed="p",
    pixels="i", channels="i", eps="d", momentum="d",
)  # fmt: skip
Input = _structure("Input", x=Map, channels="i", height="i", width="i")
Head = _structure("Head", z=Map, gz=Map, classes="i", sums="p")
Images = _structure(
    "Images", bytes="p", floats="p", offset="p", mirror="p", scale="p", shift="p", pad="i"
)
Phases = _structure(
    "Phases", x=Map, y=Map, gx=Map, gy=Map, channels=Channels, step="i", height="i", width="i",
    accumulate="i",
)  # fmt: skip
Windows = _structure(
    "Windows", top="p", bottom="p", left="p", right="p", out_height="i", out_width="i"
)
Average = _structure(
    "Average", x=Map, y=Map, gx=Map, gy=Map, channels=Channels, windows=Windows, height="i",
    width="i", accumulate="i", weight="p",
)  # fmt: skip
Maximum = _structure(
    "Maximum", x=Map, y=Map, gx=Map, gy=Map, winner=Map, channels=Channels, windows=Windows,
    height="i", width="i", accumulate="i",
)  # fmt: skip
Gate = _structure(
    "Gate", x=Map, s=Map, y=Map, gx=Map, gs=Map, gy=Map, channels=Channels, height="i", width="i",
    accumulate_x="i", accumulate_s="i",
)  # fmt: skip
Clear = _structure("Clear", g=Map, channels=Channels, height="i", width="i")
Operation = _structure("Operation", code="i", arguments="p", images="i", seconds="d")
Weights = _structure(
    "Weights", value="p", gradient="p", sums="p", forward="p", backward="p", of_sums="p",
    of_forward="p", of_backward="p", count="i", n_sums="i", n_forward="i", n_backward="i",
)  # fmt: skip
Bias = _structure("Bias", sums="p", gradient="p", count="i", step="i")
Slot = _structure(
    "Slot", code="i", own="i", size="i", trains="i", free=c_void_p * MAX_OWN,
    gradient=c_void_p * MAX_OWN, held="p", sums="p", g_alpha="p", g_beta="p", scale_sums="p",
)  # fmt: skip
Parameter = _structure(
    "Parameter", value="p", gradient="p", first="p", second="p", weight_sum="p", count="i",
    weight="i",
)  # fmt: skip
Rule = _structure(
    "Rule", kind="i", step="i", lr="d", momentum="d", decay="d", beta1="d", beta2="d", eps="d"
)
Sums = _structure(
    "Sums", loss="d", correct="d", flow="d", flow_step="d", flow_released="d", steps="i",
    images="i",
)  # fmt: skip
Program = _structure(
    "Program", train="p", evaluate="p", weights="p", biases="p", slots="p", parameters="p",
    train_count="i", evaluate_count="i", weights_count="i", biases_count="i", slots_count="i",
    parameters_count="i", rule=Rule, head="p", before="p", free="d", batch="i", block="i",
    profile="i",
)  # fmt: skip

Blocks = _structure("Blocks", map=Map, place="p", groups="i", pixels="i", stride="i")
Single = _structure(
    "Single", forward=Convolution, backward=Convolution, gradient=WeightGradient, weights=Weights,
    x=Blocks, gx=Blocks, y=Blocks,
)  # fmt: skip

# In the order of `safs_size` in program.cpp.
_CHECKED = (
    Map, Channels, Survivors, Convolution, WeightGradient, Stage, Norm, Input, Head, Images, Phases,
    Average, Maximum, Gate, Clear, Operation, Weights, Bias, Slot, Parameter, Rule, Sums, Program,
    Blocks, Single,
)  # fmt: skip


def kernels() -> ctypes.CDLL:
    """The compiled kernels, after a check that both sides agree on every structure."""
    lib = library()
    lib.safs_size.restype = c_int64
    sizes = [lib.safs_size(c_int64(i)) for i in range(len(_CHECKED))]
    if sizes != [ctypes.sizeof(s) for s in _CHECKED]:
        raise Unsupported("sparse kernels: the compiler lays out structures differently")
    return lib
