"""Runs that leave no trace: the same inputs through two models, values and gradients side by side."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

# of the largest number of a tensor: fused kernels add in another order
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}

# a bias before a norm has a gradient of rounding errors alone: how many times what one rounding of every
# parameter and input changes a tensor may differ beyond the tolerance
ROUNDINGS = 64
_SEEDS = (1, 2)  # of the roundings that are tried


class Outcomes(dict[bool, list[Tensor]]):
    """What came out of a model in evaluation and, if asked for, in training, by the mode; and how exactly."""

    def __init__(self, model: nn.Module, inputs: tuple, modes: Sequence[bool]) -> None:
        super().__init__((mode, outcome(model, inputs, training=mode)) for mode in modes)
        self._model, self._inputs = model, inputs
        self._noise: dict[bool, list[float]] = {}

    def noise(self, mode: bool) -> list[float]:
        """What rounding every parameter and input once changes at most in each tensor."""
        if mode not in self._noise:
            runs = [self._moved(mode, seed) for seed in _SEEDS]
            self._noise[mode] = [max(each) for each in zip(*runs, strict=True)]
        return self._noise[mode]

    def _moved(self, mode: bool, seed: int) -> list[float]:
        draw = torch.Generator().manual_seed(seed)
        inputs = pytree.tree_map(lambda each: _rounded(each, draw) if _differs(each) else each, self._inputs)
        with rounded(self._model, draw):
            found = outcome(self._model, inputs, training=mode)
        return [_gap(a, b) for a, b in zip(found, self[mode], strict=True)]


@contextmanager
def rounded(model: nn.Module, draw: torch.Generator) -> Iterator[None]:
    """Within this block every parameter is off by one rounding; autograd does not see it."""
    held = [(each, each.data.clone()) for each in model.parameters() if _differs(each)]
    try:
        for parameter, before in held:
            parameter.data.copy_(_rounded(before, draw))
        yield
    finally:
        for parameter, before in held:
            parameter.data.copy_(before)


def _rounded(x: Tensor, draw: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, x.shape, generator=draw).to(x.device, x.dtype) * 2 - 1
    return x.detach() * (1 + torch.finfo(x.dtype).eps * signs)


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if b.numel() else 0.0


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Puts back buffers, gradients, modes and torch's random numbers at the end."""
    buffers = [(each, each.clone()) for each in model.buffers()]
    gradients = [(each, each.grad) for each in model.parameters()]
    modes = [(each, each.training) for each in model.modules()]
    devices = {each.device.index for each in model.parameters() if each.device.type == "cuda"}
    with torch.random.fork_rng(devices=[each for each in devices if each is not None]):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            for parameter, before in gradients:
                parameter.grad = before
            for module, mode in modes:
                module.training = mode


def outcome(model: nn.Module, inputs: tuple, *, training: bool) -> list[Tensor]:
    """All floating outputs for the inputs, and in training the gradients of the parameters after them."""
    with untouched(model):
        torch.manual_seed(0)
        model.train(training)
        with torch.set_grad_enabled(training):
            outputs = [each for each in pytree.tree_leaves(model(*inputs)) if _differs(each)]
        found = [each.detach() for each in outputs]
        moving = [each for each in model.parameters() if each.requires_grad]
        ends = [each for each in outputs if each.requires_grad]
        if training and moving and ends:
            along = [torch.linspace(-1, 1, each.numel(), dtype=each.dtype).view_as(each) for each in ends]
            slopes = torch.autograd.grad(
                ends, moving, [each.to(end.device) for each, end in zip(along, ends, strict=True)],
                allow_unused=True,
            )  # fmt: skip
            found += [torch.zeros_like(p) if g is None else g for p, g in zip(moving, slopes, strict=True)]
    return found


def difference(
    ours: list[Tensor], theirs: list[Tensor], noise: Callable[[], list[float]] | None = None
) -> str | None:
    """What is not equal up to rounding, or None.

    Each tensor is compared with its own largest number. Only one that fails is given the benefit of the
    noise: a wrong gradient is noticed however small it is beside others.

    Args:
        ours: tensors.
        theirs: those that are right.
        noise: how far each of these is off by rounding alone; asked if a tensor differs.
    """
    if len(ours) != len(theirs):
        return f"{len(ours)} tensors come out instead of {len(theirs)}"
    largest = [float(b.abs().max()) if b.numel() else 0.0 for b in theirs]
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{a.dtype} of shape {tuple(a.shape)} comes out instead of {b.dtype} {tuple(b.shape)}"
        error, allowed = _gap(a, b), TOLERANCE.get(b.dtype, 1e-3) * largest[i]
        if error <= allowed:
            continue
        if noise is not None:
            allowed += ROUNDINGS * noise()[i]
        if largest[i] == 0:  # zeros that cancel
            allowed += torch.finfo(b.dtype).eps * max(largest)
        if not error <= allowed:
            return f"values or gradients differ by {error / max(largest[i], 1e-30):.1e} of the largest"
    return None


def _differs(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def outcomes(model: nn.Module, inputs: tuple, training: bool) -> Outcomes:
    """What comes out in evaluation and, if asked for, in training, by the mode."""
    return Outcomes(model, inputs, (False, True) if training else (False,))


def wrong(module: nn.Module, inputs: tuple, wanted: Outcomes) -> str | None:
    """What differs from the wanted outcomes, if anything does."""
    for mode, tensors in wanted.items():
        found = outcome(module, inputs, training=mode)
        if reason := difference(found, tensors, partial(wanted.noise, mode)):
            return reason
    return None
