"""What a model does on example inputs, part by part: operations, FLOPs, bytes, and what training keeps."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shared.graph import trial


@dataclass
class Part:
    """What is computed in one module, and not in its submodules.

    Args:
        place: the module's path; empty for the model's own forward.
        kind: the module's class.
        parameters: numbers that the module itself holds.
        operations: calls of PyTorch's, or one for each op of ours.
        flops: floating-point operations: of products, of convolutions, and of our ops by their cost models;
            of all others one for each number of the result.
        bytes: read and written by its operations.
    """

    place: str
    kind: str
    parameters: int
    operations: int = 0
    flops: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Analysis:
    """A forward pass in numbers; prints as a table.

    Args:
        parts: those that compute something, in the order of their first operation.
        parameters: numbers that the model holds.
        critical: FLOPs on the longest path from inputs to outputs: what no number of devices does away with.
        kept: bytes that training keeps for the backward pass, parameters and inputs apart.
    """

    parts: tuple[Part, ...]
    parameters: int
    critical: int
    kept: int

    @property
    def operations(self) -> int:
        """Of all parts."""
        return sum(part.operations for part in self.parts)

    @property
    def flops(self) -> int:
        """Of all parts."""
        return sum(part.flops for part in self.parts)

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    def __str__(self) -> str:
        head = ("part", "module", "parameters", "operations", "FLOPs", "bytes")
        rows = [_row(each.place or "(forward)", each.kind, each) for each in self.parts]
        rows.append(_row("all", "", self))
        wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = ["  ".join(_aligned(row, wide)).rstrip() for row in (head, *rows)]
        tail = f"longest path {self.critical:,} FLOPs; kept for backward {self.kept:,} bytes"
        return "\n".join([*lines, tail])


def analyse(model: nn.Module, example_inputs: Any) -> Analysis:
    """Run the model once and count.

    The model is left as it is, buffers and random numbers included.

    Args:
        model: any module; its mode (`training`) counts.
        example_inputs: a tensor, or a tuple of the arguments of a call.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> print(analyse(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.rand(2, 3)))
        part  module  parameters  operations  FLOPs  bytes
        0     Linear          16           1     48    120
        1     ReLU             0           1      8     64
        all                   16           2     56    184
        longest path 56 FLOPs; kept for backward 32 bytes
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    recorder = _Recorder(model)
    mode = model.training
    with trial.untouched(model), _places(model, recorder), _Kept(model, inputs) as kept, recorder:
        model.train(mode)
        model(*inputs)
    parts = tuple(part for part in recorder.parts.values() if part.operations)
    held = sum(each.numel() for each in model.parameters())
    return Analysis(parts, held, max(recorder.paths.values(), default=0), kept.bytes)


@dataclass
class _Recorder(TorchDispatchMode):
    """Counts every operation for the module that is running."""

    model: nn.Module
    parts: dict[str, Part] = field(default_factory=dict)
    paths: dict[int, int] = field(default_factory=dict)  # storage -> FLOPs of the longest path to it
    open: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.enter("", self.model)

    def enter(self, path: str, module: nn.Module) -> None:
        """The module starts to run."""
        if path not in self.parts:
            held = sum(each.numel() for each in module.parameters(recurse=False))
            self.parts[path] = Part(path, type(module).__name__, held)
        self.open.append(self.parts[path])

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(result)
        known = {_storage(each) for each in read}
        fresh = [each for each in written if _storage(each) not in known]
        if not fresh and not func._schema.is_mutable:
            return result  # a view costs nothing
        flops = self._flops(func, args, kwargs or {}, result, fresh or written)
        part = self.open[-1]
        part.operations += 1
        part.flops += flops
        part.bytes += sum(map(_bytes, (*read, *(fresh or written))))
        longest = max((self.paths.get(_storage(each), 0) for each in read), default=0) + flops
        self.paths |= {_storage(each): longest for each in fresh or written}
        return result

    def _flops(self, func: Any, args: tuple, kwargs: dict, result: Any, written: list[Tensor]) -> int:
        count: Callable | None = flop_registry.get(func._overloadpacket)
        if count is None:
            return sum(each.numel() for each in written)
        return int(count(*args, **kwargs, out_val=result))


class _Kept(saved_tensors_hooks):
    """Adds up what autograd keeps, each piece of memory once."""

    def __init__(self, model: nn.Module, inputs: tuple) -> None:
        self.bytes = 0
        seen = {_storage(each) for each in (*model.parameters(), *model.buffers(), *_tensors(inputs))}

        def keep(tensor: Tensor) -> Tensor:
            if _storage(tensor) not in seen:
                seen.add(_storage(tensor))
                self.bytes += tensor.untyped_storage().nbytes()
            return tensor

        super().__init__(keep, lambda tensor: tensor)

    def __enter__(self) -> "_Kept":
        super().__enter__()
        return self


class _places:  # noqa: N801  used as a function
    """Tells a recorder which module runs."""

    def __init__(self, model: nn.Module, recorder: _Recorder) -> None:
        self._model, self._recorder, self._handles = model, recorder, []

    def __enter__(self) -> None:
        for path, module in self._model.named_modules():
            if path:
                self._handles.append(module.register_forward_pre_hook(self._entering(path)))
                self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def _entering(self, path: str) -> Callable:
        return lambda module, _: self._recorder.enter(path, module)

    def _leave(self, *_: object) -> None:
        self._recorder.open.pop()

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(values) if isinstance(each, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    return prod(tensor.shape) * tensor.element_size()


def _row(place: str, kind: str, counted: Part | Analysis) -> tuple[str, ...]:
    numbers = (counted.parameters, counted.operations, counted.flops, counted.bytes)
    return place, kind, *(f"{number:,}" for number in numbers)


def _aligned(row: Iterable[str], wide: list[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [
        text.ljust(size) if i < 2 else text.rjust(size)
        for i, (text, size) in enumerate(zip(row, wide, strict=True))
    ]
