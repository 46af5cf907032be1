"""Which arithmetic libraries choose where they do any: that of AVX2, on every x86-64 processor.

They read these variables as they are loaded, so :mod:`pipelines` sets them before anything else.
The kernels need none of it. It makes PyTorch's own trainings (``mixed``, ``dense``) and SMAC's
models depend less on the processor. A variable that is set already stays as it is.
"""

from __future__ import annotations

import os

from safs.processor import cpu_flags

VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    # By numpy's present names, and by those before 2.4; it passes over what it does not know.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512CD AVX512_SKX",
}


def pin() -> None:
    """Set what is not set, where the processor has AVX2: PyTorch takes its word for it."""
    if "avx2" in cpu_flags().split():
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
