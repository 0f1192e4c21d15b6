"""Memory for large outputs, kept for the next call of the same size.

The system gives out memory in pages that it fills with zeros when they are first touched, and PyTorch's CPU
allocator gives large blocks back at once. For 64 MB that costs 25 ms of processor time at every call (6 ms
with huge pages), more than the kernels that write it. So a few buffers are kept when their tensors die.
"""

import math
import mmap
import sys
import weakref

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 20  # bytes; what is smaller PyTorch's allocator reuses by itself
_KEEP = 256 << 20  # bytes that idle buffers may take together

_BYTE = torch.empty(0, dtype=torch.uint8)
_idle: list[mmap.mmap] = []  # least recently used first; each step below is atomic under the interpreter lock


def fresh(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised contiguous CPU tensor of this shape, with the dtype of `like`."""
    size = math.prod(shape) * like.element_size()
    if size < _LARGE or sys.platform != "linux":
        return like.new_empty(shape)
    buffer = _take(size)
    lease = np.frombuffer(buffer, np.uint8, size)  # dies with the tensor's storage
    weakref.finalize(lease, _give_back, buffer).atexit = False
    return torch.from_numpy(lease).view(like.dtype).view(shape)


def fresh_bytes(*shape: int) -> Tensor:
    """The same for `uint8`."""
    return fresh(_BYTE, *shape)


def _take(size: int) -> mmap.mmap:
    for buffer in reversed(_idle.copy()):
        if size <= len(buffer) <= 2 * size:
            try:
                _idle.remove(buffer)
            except ValueError:  # another thread was faster
                continue
            return buffer
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _give_back(buffer: mmap.mmap) -> None:
    _idle.append(buffer)
    while sum(map(len, _idle)) > _KEEP:
        _idle.pop(0)
