"""The memory that tensors hold while a model runs: how much lives at once, at most."""

from collections.abc import Set
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from shared.graph.recording import memory_of, tensors_in


class Lifetimes(TorchDispatchMode):
    """Adds up the memory of all tensors that operations return, from their making until nobody holds them.

    What an operation needs for itself and gives back before it ends is not seen.

    Args:
        known: tensors, in nested containers, that are there before and do not count, such as parameters.
        also: pieces of memory that do not count either.

    Example:
        >>> import torch
        >>> x = torch.ones(256)
        >>> with Lifetimes(x) as memory:
        ...     y = (x + 1).relu().sum()
        >>> memory.peak, memory.now
        (2048, 4)
    """

    def __init__(self, known: Any = (), also: Set[StorageWeakRef] = frozenset()) -> None:
        super().__init__()
        self._given, self._also = {memory_of(each) for each in tensors_in(known)}, also
        self._alive: dict[StorageWeakRef, int] = {}
        self.peak = 0

    @property
    def now(self) -> int:
        """Bytes that live."""
        self._alive = {ref: size for ref, size in self._alive.items() if not ref.expired()}
        return sum(self._alive.values())

    def __enter__(self) -> "Lifetimes":
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        before = self.now
        result = func(*args, **(kwargs or {}))
        self.peak = max(self.peak, before + sum(map(self._take, tensors_in(result))))
        return result

    def _known(self, ref: StorageWeakRef) -> bool:
        return ref in self._given or ref in self._also

    def _take(self, tensor: Tensor) -> int:
        """The bytes of memory that is seen for the first time."""
        ref = memory_of(tensor)
        if ref in self._alive or self._known(ref):
            return 0
        self._alive[ref] = tensor.untyped_storage().nbytes()
        return self._alive[ref]
