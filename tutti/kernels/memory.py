"""Advice to the operating system, and to the C library, about the memory of tensors."""

from __future__ import annotations

import ctypes
import mmap
import sys

from torch import Tensor

_HUGE_PAGE = 2 << 20  # bytes; of x86-64 and most of ARM


def advise_huge_pages(tensor: Tensor) -> bool:
    """Asks for huge pages under a contiguous CPU tensor, best before it is first written; says whether it was heard.

    Memory that is read all over, like weights and caches, is read up to twice as fast from them. Only the whole huge
    pages within the tensor are asked for. Without Linux, or with huge pages switched off, nothing changes.
    """
    if not sys.platform.startswith("linux") or not tensor.is_cpu or not tensor.is_contiguous():
        return False
    start = -(-tensor.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
    length = (tensor.data_ptr() + tensor.nbytes) // _HUGE_PAGE * _HUGE_PAGE - start
    if length <= 0:
        return False
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    return bool(madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE) == 0)


def give_back_memory() -> None:
    """Have the C library give what is free back to the operating system, which it otherwise keeps between what is not.

    Without glibc nothing happens.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
