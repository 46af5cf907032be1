"""Which arithmetic libraries choose where they do any: that of AVX2, on every x86-64 processor.

They read these variables as they are loaded, so :mod:`pipelines` sets them before anything else.
The kernels need none of it. It makes PyTorch's own trainings (``mixed``, ``dense``) and SMAC's
models depend less on the processor. A variable that is set already stays as it is.
"""

from __future__ import annotations

import os
from importlib import metadata

from safs.processor import cpu_flags

VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
_BEFORE_NUMPY_2_4 = "AVX512F AVX512CD AVX512_SKX"


def pin() -> None:
    """Set what is not set, where the processor has AVX2: PyTorch takes its word for it."""
    if "avx2" not in cpu_flags().split():
        return
    for name, value in (VARIABLES | _of_older_numpy()).items():
        os.environ.setdefault(name, value)


def _of_older_numpy() -> dict[str, str]:
    """numpy renamed what a processor can do in 2.4, and warns of names that it does not know."""
    major, minor = map(int, metadata.version("numpy").split(".")[:2])
    return {"NPY_DISABLE_CPU_FEATURES": _BEFORE_NUMPY_2_4} if (major, minor) < (2, 4) else {}
