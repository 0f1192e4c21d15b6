"""A forward pass written down as it runs: each operation with its place, its cost, and what it reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Frame(NamedTuple):
    """One call of a module or of a function.

    Args:
        place: the path of the module, or of the one that calls the function; empty for the model.
        kind: the class of the module, or the function's name.
        number: tells calls apart.
        closed: whether it is shown as one: a module without submodules, or a function.
        function: whether it is a function.
    """

    place: str
    kind: str
    number: int
    closed: bool
    function: bool


@dataclass(frozen=True)
class Step:
    """One operation as it ran.

    Args:
        name: of PyTorch's operation, or of our op.
        frames: the calls in which it ran, the outermost first, without the model's own.
        flops: floating-point operations: of products, of convolutions, and of our ops by their cost models;
            of all others one for each number of the result.
        bytes: read and written.
        shape: of its first result, such as `float32 (64, 8)`.
        sources: the steps whose results it reads, by their positions.
        product: whether it multiplies matrices, convolves, or is otherwise counted by PyTorch.
    """

    name: str
    frames: tuple[Frame, ...]
    flops: int
    bytes: int
    shape: str
    sources: tuple[int, ...]
    product: bool = False

    @property
    def place(self) -> str:
        """The path of the module in whose forward it ran."""
        return self.frames[-1].place if self.frames else ""


@dataclass
class Recorder(TorchDispatchMode):
    """Takes down every operation; views are none."""

    steps: list[Step] = field(default_factory=list)
    open: list[Frame] = field(default_factory=list)
    writers: dict[StorageWeakRef, int] = field(default_factory=dict)  # who wrote a piece of memory last
    frames: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def enter(self, place: str, kind: str, *, closed: bool, function: bool = False) -> None:
        """A call begins."""
        self.frames += 1
        self.open.append(Frame(place, kind, self.frames, closed, function))

    def leave(self) -> None:
        """The latest call ends."""
        self.open.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read, written = tensors_in((args, kwargs)), tensors_in(result)
        known = {memory_of(each) for each in read}
        fresh = [each for each in written if memory_of(each) not in known]
        if fresh or func._schema.is_mutable:  # a view costs nothing
            self._take_down(func, args, kwargs or {}, result, read, fresh or written)
        return result

    def _take_down(
        self, func: Any, args: tuple, kwargs: dict, result: Any, read: list[Tensor], written: list[Tensor]
    ) -> None:
        sources = sorted({self.writers[ref] for each in read if (ref := memory_of(each)) in self.writers})
        self.writers |= {memory_of(each): len(self.steps) for each in written}
        self.steps.append(
            Step(
                name=func._overloadpacket.__name__,
                frames=tuple(self.open),
                flops=_flops(func, args, kwargs, result, written),
                bytes=sum(map(size_of, (*read, *written))),
                shape=described(written[0]) if written else "",
                sources=tuple(sources),
                product=func.namespace == "aten" and func._overloadpacket in flop_registry,
            )
        )


@contextmanager
def recording(model: nn.Module) -> Iterator[Recorder]:
    """A recorder that is told which module and which function of PyTorch's runs."""
    recorder, handles = Recorder(), []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(_entering(recorder, path)))
            handles.append(module.register_forward_hook(lambda *_: recorder.leave(), always_call=True))
    try:
        with recorder, _Functions(recorder):
            yield recorder
    finally:
        for handle in handles:
            handle.remove()


def _entering(recorder: Recorder, path: str) -> Callable[[nn.Module, Any], None]:
    return lambda module, _: recorder.enter(path, type(module).__name__, closed=not module._modules)


class _Functions(TorchFunctionMode):
    """Tells a recorder which function or method of PyTorch's runs, as the user wrote it."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        place = self._recorder.open[-1].place if self._recorder.open else ""
        name = getattr(func, "__name__", "call").partition(".")[0].strip("_")  # without an overload's name
        self._recorder.enter(place, name, closed=True, function=True)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._recorder.leave()


def _flops(func: Any, args: tuple, kwargs: dict, result: Any, written: list[Tensor]) -> int:
    count: Callable | None = flop_registry.get(func._overloadpacket)
    if count is None:
        return sum(each.numel() for each in written)
    return int(count(*args, **kwargs, out_val=result))


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dictionaries that have memory of their own."""
    return [
        each
        for each in pytree.tree_leaves(values)
        if isinstance(each, Tensor) and each.layout is torch.strided
    ]


def memory_of(tensor: Tensor) -> StorageWeakRef:
    """Stands for the piece of memory that a tensor lies in, and does not hold it."""
    return StorageWeakRef(tensor.untyped_storage())


def size_of(tensor: Tensor) -> int:
    """Bytes of the tensor's numbers."""
    return prod(tensor.shape) * tensor.element_size()


def described(tensor: Tensor) -> str:
    """Dtype and shape in short.

    >>> described(torch.zeros(2, 3))
    'float32 (2, 3)'
    """
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
