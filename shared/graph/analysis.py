"""What a model does on example inputs, part by part: operations, FLOPs, bytes, and the memory it takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from shared.graph import trial
from shared.graph.lifetimes import Lifetimes
from shared.graph.recording import Step, memory_of, recording, tensors_in


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
        peak: bytes of tensors that live at once, at most, in a forward pass of evaluation, without gradients;
            parameters and inputs apart, and without what an operation needs for itself.
        training_peak: the same in a forward and backward pass in the model's mode, the gradients of the
            parameters included; None if nothing can be differentiated.
        steps: every operation in its order, with those it depends on.
        results: the steps that the model's outputs come from, by their positions.
    """

    parts: tuple[Part, ...]
    parameters: int
    critical: int
    kept: int
    peak: int = 0
    training_peak: int | None = None
    steps: tuple[Step, ...] = ()
    results: tuple[int, ...] = ()

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

    def svg(self, path: str | Path) -> None:
        """Draw the graph of the model's calls as a picture; needs the extra `train`.

        Args:
            path: of the file that is written.

        Raises:
            UserError: matplotlib is not installed, or nothing can be written there.
        """
        from shared.graph.picture import draw

        draw(path, {"": self})

    def __str__(self) -> str:
        head = ("part", "module", "parameters", "operations", "FLOPs", "bytes")
        rows = [_row(each.place or "(forward)", each.kind, each) for each in self.parts]
        rows.append(_row("all", "", self))
        wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = ["  ".join(_aligned(row, wide)).rstrip() for row in (head, *rows)]
        trained = "" if self.training_peak is None else f", of a training step {self.training_peak:,}"
        return "\n".join(
            [
                *lines,
                f"longest path {self.critical:,} FLOPs; kept for backward {self.kept:,} bytes",
                f"peak memory of a forward pass {self.peak:,} bytes{trained}",
            ]
        )


def analyse(model: nn.Module, example_inputs: Any) -> Analysis:
    """Run the model and count.

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
        peak memory of a forward pass 64 bytes, of a training step 160
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    mode = model.training
    with trial.untouched(model), _Kept(model, inputs) as kept, recording(model) as recorder:
        model.train(mode)
        outputs = tensors_in(model(*inputs))
    steps, writers = tuple(recorder.steps), recorder.writers
    return Analysis(
        parts=_parts(model, steps),
        parameters=sum(each.numel() for each in model.parameters()),
        critical=max(longest(steps), default=0),
        kept=kept.bytes,
        peak=_peak(model, inputs),
        training_peak=_training_peak(model, inputs),
        steps=steps,
        results=tuple(writers[ref] for each in outputs if (ref := memory_of(each)) in writers),
    )


def longest(steps: Iterable[Step]) -> list[int]:
    """FLOPs of the longest path from the inputs to the end of each step."""
    ends: list[int] = []
    for step in steps:
        ends.append(max((ends[each] for each in step.sources), default=0) + step.flops)
    return ends


def _parts(model: nn.Module, steps: tuple[Step, ...]) -> tuple[Part, ...]:
    found: dict[str, Part] = {}
    modules = dict(model.named_modules())
    for step in steps:
        if step.place not in found:
            module = modules[step.place]
            held = sum(each.numel() for each in module.parameters(recurse=False))
            found[step.place] = Part(step.place, type(module).__name__, held)
        part = found[step.place]
        part.operations += 1
        part.flops += step.flops
        part.bytes += step.bytes
    return tuple(found.values())


def _peak(model: nn.Module, inputs: tuple) -> int:
    with trial.untouched(model), torch.no_grad(), Lifetimes((inputs, _held(model))) as memory:
        model.eval()(*inputs)
    return memory.peak


def _training_peak(model: nn.Module, inputs: tuple) -> int | None:
    """None where the model has no derivative."""
    mode = model.training
    with trial.untouched(model), torch.enable_grad(), Lifetimes((inputs, _held(model))) as memory:
        model.train(mode)
        ends = [each for each in tensors_in(model(*inputs)) if each.requires_grad]
        moving = [each for each in model.parameters() if each.requires_grad]
        if not ends or not moving:
            return None
        try:
            torch.autograd.grad(ends, moving, [torch.ones_like(each) for each in ends], allow_unused=True)
        except RuntimeError:  # an op without a derivative; says so itself when the model is trained
            return None
    return memory.peak


def _held(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


class _Kept(saved_tensors_hooks):
    """Adds up what autograd keeps, each piece of memory once."""

    def __init__(self, model: nn.Module, inputs: tuple) -> None:
        self.bytes = 0
        seen = {memory_of(each) for each in (*_held(model), *tensors_in(inputs))}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.layout is torch.strided and memory_of(tensor) not in seen:
                seen.add(memory_of(tensor))
                self.bytes += tensor.untyped_storage().nbytes()
            return tensor

        super().__init__(keep, lambda tensor: tensor)

    def __enter__(self) -> "_Kept":
        super().__enter__()
        return self


def _row(place: str, kind: str, counted: Part | Analysis) -> tuple[str, ...]:
    numbers = (counted.parameters, counted.operations, counted.flops, counted.bytes)
    return place, kind, *(f"{number:,}" for number in numbers)


def _aligned(row: Iterable[str], wide: list[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [
        text.ljust(size) if i < 2 else text.rjust(size)
        for i, (text, size) in enumerate(zip(row, wide, strict=True))
    ]
