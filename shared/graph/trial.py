"""Runs that leave no trace: the same inputs through two models, values and gradients side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

# of the largest number: fused kernels add in another order
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}

_LEAST = 1e-2  # of the largest of all: a bias before a norm has a gradient of rounding errors alone


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


def difference(ours: list[Tensor], theirs: list[Tensor]) -> str | None:
    """What is not equal up to rounding, or None."""
    if len(ours) != len(theirs):
        return f"{len(ours)} tensors come out instead of {len(theirs)}"
    most = max((float(b.abs().max()) for b in theirs if b.numel()), default=0.0)
    for a, b in zip(ours, theirs, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{a.dtype} of shape {tuple(a.shape)} comes out instead of {b.dtype} {tuple(b.shape)}"
        if b.numel():
            scale = max(float(b.abs().max()), _LEAST * most, 1e-6)
            error = float((a - b).abs().max()) / scale
            if not error <= TOLERANCE.get(b.dtype, 1e-3):
                return f"values or gradients differ by {error:.1e} of the largest"
    return None


def _differs(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def outcomes(model: nn.Module, inputs: tuple, training: bool) -> dict[bool, list[Tensor]]:
    """What comes out in evaluation and, if asked for, in training, by the mode."""
    modes = (False, True) if training else (False,)
    return {mode: outcome(model, inputs, training=mode) for mode in modes}


def wrong(module: nn.Module, inputs: tuple, wanted: dict[bool, list[Tensor]]) -> str | None:
    """What differs from the wanted outcomes, if anything does."""
    found = (difference(outcome(module, inputs, training=mode), tensors) for mode, tensors in wanted.items())
    return next((each for each in found if each), None)
