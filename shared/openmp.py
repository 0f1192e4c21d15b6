"""The OpenMP runtime that PyTorch itself runs on: its threads do our work too, so that none wait in our way.

After each of its loops a runtime lets its threads spin for some milliseconds. Helper threads of our own would
share the processors with them, and two threads would be no faster than one.
"""

import ctypes
import os
import sys
from pathlib import Path

import torch

_entry: int | None = None  # None: nobody has asked yet


def entry() -> int:
    """The address of the function `GOMP_parallel` of PyTorch's runtime; 0 where there is none to use.

    Of the type `void (void (*body)(void *), void *data, unsigned threads, unsigned flags)`, it calls
    `body(data)` in each thread of the team, and returns when all have returned. GCC's runtime has it, and so
    have those of LLVM and Intel on Linux; elsewhere it is 0. In a forked process it is 0, too: the threads
    have stayed behind, and GCC's runtime would wait for them for ever.
    """
    global _entry
    if _entry is None:
        _entry = _find()
    return _entry


def _find() -> int:
    if not sys.platform.startswith("linux") or not torch.backends.openmp.is_available():
        return 0
    torch_cpu = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    for place in (None, torch_cpu):  # as the linker looks for PyTorch's own calls: what all see comes first
        try:
            function = ctypes.CDLL(place and str(place)).GOMP_parallel
        except (OSError, AttributeError):  # no such library, no such function
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _leave() -> None:
    global _entry
    _entry = 0


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_leave)
