"""How long modules take, side by side."""

import contextlib
import statistics
from collections.abc import Sequence
from time import perf_counter

import torch
from torch import nn

from shared.graph import trial
from shared.graph.recording import tensors_in

ROUNDS, SECONDS = 7, 2.0


def medians(
    modules: Sequence[nn.Module],
    inputs: tuple,
    *,
    training: bool,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> list[float]:
    """Milliseconds that each module takes, the median of calls in turn; the modules are left as they are.

    Args:
        modules: to be compared.
        inputs: of a call.
        training: whether a forward and backward pass is timed in training, or a forward pass in evaluation.
        rounds: of turns, at most, after one that is not heard.
        seconds: after which no further round begins.

    Example:
        >>> once, often = nn.Tanh(), nn.Sequential(*[nn.Tanh()] * 20)
        >>> short, long = medians([once, often], (torch.rand(1000),), training=False)
        >>> short < long
        True
    """
    spent: list[list[float]] = [[] for _ in modules]
    with contextlib.ExitStack() as scopes:
        for module in modules:
            scopes.enter_context(trial.untouched(module))
            module.train(training)
            _once(module, inputs, training)  # compiles what is to be compiled
        began = perf_counter()
        while not spent[0] or (len(spent[0]) < rounds and perf_counter() - began < seconds):
            for module, times in zip(modules, spent, strict=True):
                module.train(training)
                times.append(_once(module, inputs, training))
    return [1e3 * statistics.median(times) for times in spent]


def _once(module: nn.Module, inputs: tuple, training: bool) -> float:
    with torch.set_grad_enabled(training):
        began = perf_counter()
        ends = [each for each in tensors_in(module(*inputs)) if each.requires_grad]
        moving = [each for each in module.parameters() if each.requires_grad]
        if training and ends and moving:
            torch.autograd.grad(ends, moving, [torch.ones_like(each) for each in ends], allow_unused=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return perf_counter() - began
