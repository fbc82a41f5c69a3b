"""Fresh memory is what costs on a CPU: the first touch of a page takes longer than the arithmetic on it.

Large results of the CPU kernels ask Linux for huge pages (2 MB instead of 4 kB), as NumPy does for its arrays. It is
advice: where the system ignores it nothing changes but the time.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from torch import Tensor

LARGE = 1 << 22  # bytes
_PAGE = 4096
_MADV_HUGEPAGE = 14


@cache
def _madvise() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        madvise = ctypes.CDLL(None, use_errno=False).madvise
    except (OSError, AttributeError):
        return None
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return madvise


def on_huge_pages(fresh: Tensor) -> Tensor:
    """`fresh` itself, a CPU tensor just allocated and not yet written, backed by huge pages when it is large."""
    size = fresh.untyped_storage().nbytes()
    madvise = _madvise() if size >= LARGE else None
    if madvise is not None:
        start = fresh.untyped_storage().data_ptr()
        aligned = -(-start // _PAGE) * _PAGE
        madvise(aligned, size - (aligned - start), _MADV_HUGEPAGE)
    return fresh
