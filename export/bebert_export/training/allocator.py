"""Freed tensors stay in the process for the next training step, instead of going back to the kernel page by page."""

import ctypes

# glibc, <malloc.h>: which number means what, and what a training step wants of it.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP = {
    _M_MMAP_THRESHOLD: 32 << 20,  # the most that glibc takes: tensors up to here come from the heap, not from mmap
    _M_TRIM_THRESHOLD: 2**31 - 1,  # the heap's end is not given back while less than this is free there
    _M_TOP_PAD: 64 << 20,  # it grows by this much at once
}


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the whole process; returns whether it takes such wishes.

    A training step frees and allocates the same hundreds of tensors. By default glibc gives the pages of many back, and
    Linux fills new ones with zeros at first touch. Other C libraries (macOS, musl) are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(what, value) for what, value in _KEEP.items()])
