"""Attributions from gradients: how much each letter adds to an output, with a check that it adds up."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.interpret.baselines import baselines as make_baselines
from biolayers.interpret.calling import Model, alphabet_of, check_tokens, columns, evaluation, predict
from biolayers.interpret.errors import AttributionError
from biolayers.interpret.rescale import Rescale
from shared.errors import UserError

Target = int | Callable[[Tensor], Tensor]


def gradient_x_input(
    model: Model,
    tokens: Tensor,
    *,
    target: Target = 0,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 64,
) -> Tensor:
    """The gradient of an output at each letter that stands in the sequence; zero at all other letters.

    This is a local slope: it does not add up to anything. `integrated_gradients` and `deeplift` do.

    Args:
        model: Takes float columns (b, letters, l), as all of our layers do in place of tokens; returns (b,)
            or (b, outputs).
        tokens: (b, l) uint8.
        target: The number of an output, or a function that makes (b,) of what the model returns.
        alphabet: Whose plain letters are the columns.
        batch_size: How many sequences go through the model together.

    Returns:
        (b, letters, l).

    Raises:
        UserError: An argument is not as described, or the output does not depend on the columns.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.interpret import gradient_x_input
        >>> gradient_x_input(lambda x: 2 * x[:, 2].sum(1), DNA.tokens(["AG"]))[0]
        tensor([[0., 0.],
                [0., 0.],
                [0., 2.],
                [0., 0.]])
    """
    letters = _checked("gradient_x_input", tokens, alphabet, batch_size)
    with evaluation(model):
        parts = [columns(part, letters, model) for part in tokens.split(batch_size)]
        return torch.cat([x * _gradient("gradient_x_input", model, x, target)[0] for x in parts])


def integrated_gradients(
    model: Model,
    tokens: Tensor,
    *,
    target: Target = 0,
    baselines: str | Tensor = "shuffle",
    count: int = 10,
    k: int = 2,
    seed: int | None = None,
    steps: int = 50,
    check: float | None = 0.02,
    hypothetical: bool = False,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 64,
) -> Tensor:
    """Integrate the gradient on the straight line from a baseline to the sequence.

    After Sundararajan, Taly & Yan (2017); the line is cut by Gauss-Legendre quadrature. Attributions of a
    sequence add up to its output less the (mean) output of its baselines; that is checked for each sequence
    and baseline.

    Args:
        model: As for `gradient_x_input`.
        tokens: (b, l) uint8.
        target: As for `gradient_x_input`.
        baselines: "shuffle" for `count` shuffles of each sequence that keep k-lets, "zeros" for empty
            columns, "uniform" for equal shares of all letters, or a tensor: tokens (l,), (b, l) or (b, n, l),
            or columns (b, n, letters, l). The attributions to several baselines are averaged.
        count: Shuffles of each sequence.
        k: Of the k-lets.
        seed: Of the shuffles; by default from PyTorch's generator.
        steps: Points on the line.
        check: How far the sum may be off, as a share of the largest output difference in the call (at least
            1e-3 of the largest output); None for no check.
        hypothetical: For every letter what it would add if it stood there, instead of zeros at letters that
            do not: what TF-MoDISco takes.
        alphabet: As for `gradient_x_input`.
        batch_size: How many rows go through the model together.

    Returns:
        (b, letters, l). With baselines other than zeros, letters of the baseline that do not stand in the
        sequence have their (mostly negative) share too unless `hypothetical`; the sum over letters is what a
        position adds.

    Raises:
        AttributionError: A sum is off by more than `check`.
        UserError: An argument is not as described.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.interpret import integrated_gradients
        >>> model = lambda x: x[:, 2].sum(1) ** 2  # the square of the number of Gs
        >>> integrated_gradients(model, DNA.tokens(["AGG"]), baselines="zeros").sum(1)
        tensor([[0., 2., 2.]])
    """
    if steps < 1:
        raise UserError(f"integrated_gradients: expected steps of at least 1, received {steps}")
    nodes, weights = np.polynomial.legendre.leggauss(steps)

    def multipliers(x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = torch.zeros_like(x)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            gradient, _ = _gradient("integrated_gradients", model, x0 + node * (x - x0), target)
            total += float(weight) * gradient
        with torch.no_grad():
            return total, *(_output("integrated_gradients", model, v, target) for v in (x, x0))

    return _attribute(
        "integrated_gradients", multipliers, model, tokens, baselines, count, k, seed, check, hypothetical,
        alphabet, batch_size, "raise steps",
    )  # fmt: skip


def deeplift(
    model: Model,
    tokens: Tensor,
    *,
    target: Target = 0,
    baselines: str | Tensor = "shuffle",
    count: int = 10,
    k: int = 2,
    seed: int | None = None,
    check: float | None = 1e-3,
    hypothetical: bool = False,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 64,
) -> Tensor:
    """DeepLIFT with the rescale rule: one backward pass for each sequence and baseline.

    Activations, max-pools and products of activations follow the rule wherever a model calls them; what the
    rule does not know, such as softmax or layer norms, keeps its gradient, and then the check fails: take
    `integrated_gradients` there.

    Args:
        model: As for `gradient_x_input`.
        tokens: (b, l) uint8.
        target: As for `gradient_x_input`.
        baselines: As for `integrated_gradients`.
        count: As for `integrated_gradients`.
        k: As for `integrated_gradients`.
        seed: As for `integrated_gradients`.
        check: As for `integrated_gradients`.
        hypothetical: As for `integrated_gradients`.
        alphabet: As for `gradient_x_input`.
        batch_size: How many pairs of sequence and baseline go through the model together.

    Returns:
        (b, letters, l), as `integrated_gradients`.

    Raises:
        AttributionError: A sum is off by more than `check`.
        UserError: An argument is not as described.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.interpret import deeplift
        >>> model = lambda x: torch.relu(x[:, 2].sum(1, keepdim=True) - 1)
        >>> deeplift(model, DNA.tokens(["AGG"]), baselines="zeros").sum(1)
        tensor([[0.0000, 0.5000, 0.5000]])
    """

    def multipliers(x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradient, out = _gradient("deeplift", model, torch.cat([x, x0]), target, rescale=True)
        return gradient.chunk(2)[0], *out.chunk(2)

    return _attribute(
        "deeplift", multipliers, model, tokens, baselines, count, k, seed, check, hypothetical, alphabet,
        batch_size, "the model has operations that the rescale rule does not know; use integrated_gradients",
    )  # fmt: skip


def _attribute(
    name: str,
    multipliers: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    model: Model,
    tokens: Tensor,
    kind: str | Tensor,
    count: int,
    k: int,
    seed: int | None,
    check: float | None,
    hypothetical: bool,
    alphabet: Alphabet | str,
    batch_size: int,
    advice: str,
) -> Tensor:
    """Multipliers for every pair of sequence and baseline, made into attributions, checked, averaged."""
    letters = _checked(name, tokens, alphabet, batch_size)
    with evaluation(model):
        x = columns(tokens, letters, model)
        x0 = make_baselines(kind, tokens, x, alphabet=letters, count=count, k=k, seed=seed)  # (b, n, c, l)
        pairs = x.unsqueeze(1).expand_as(x0)
        found = [multipliers(*pair) for pair in _parts(pairs, x0, batch_size)]
    slopes, ends, starts = (torch.cat(values) for values in zip(*found, strict=True))
    slopes = slopes.view(x0.shape)
    shares = slopes * (pairs - x0)
    if check is not None:
        _require_sums(name, shares.sum((2, 3)).flatten(), ends, starts, x0.shape[1], check, advice)
    if hypothetical:
        shares = slopes - (slopes * x0).sum(2, keepdim=True)
    return shares.mean(1)


def _parts(x: Tensor, x0: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.flatten(0, 1).split(size), x0.flatten(0, 1).split(size), strict=True)


def _require_sums(
    name: str, sums: Tensor, ends: Tensor, starts: Tensor, baselines: int, check: float, advice: str
) -> None:
    """Attributions must add up to the difference of the outputs.

    Raises:
        AttributionError: They do not.
    """
    gaps = ends - starts
    scale = torch.maximum(gaps.abs().max(), 1e-3 * torch.maximum(ends.abs().max(), starts.abs().max()))
    errors = (sums - gaps).abs()
    worst = int(errors.nan_to_num(torch.inf).argmax())
    if not errors[worst] <= check * scale:
        raise AttributionError(
            f"{name}: sample {worst // baselines} with baseline {worst % baselines}: attributions sum to "
            f"{sums[worst]:.6g}, the outputs differ by {gaps[worst]:.6g}; {advice}, or pass check=None or a "
            f"tolerance above {errors[worst] / scale:.2g}"
        )


def _checked(name: str, tokens: Tensor, alphabet: Alphabet | str, batch_size: int) -> Alphabet:
    check_tokens(name, tokens)
    if batch_size < 1:
        raise UserError(f"{name}: expected batch_size of at least 1, received {batch_size}")
    return alphabet_of(alphabet)


def _gradient(
    name: str, model: Model, x: Tensor, target: Target, *, rescale: bool = False
) -> tuple[Tensor, Tensor]:
    """The gradient at columns (b, letters, l), and the output (b,)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        with Rescale() if rescale else nullcontext():
            out = _output(name, model, x, target)
        if not out.requires_grad:
            raise UserError(f"{name}: expected an output that depends on the columns, received a constant")
        (gradient,) = torch.autograd.grad(out.sum(), x)
    return gradient, out.detach()


def _output(name: str, model: Model, x: Tensor, target: Target) -> Tensor:
    """The output of interest: (b,)."""
    found = predict(name, model, x)
    if callable(target):
        out = target(found)
        if out.shape != (len(x),):
            raise UserError(f"{name}: expected target to return ({len(x)},), received {tuple(out.shape)}")
        return out
    found = found.unsqueeze(1) if found.ndim == 1 else found
    if found.ndim != 2 or not -found.shape[1] <= target < found.shape[1]:
        raise UserError(
            f"{name}: expected target to name one of the outputs, received {target} for outputs "
            f"{tuple(found.shape)}; for outputs of more dimensions give a function that returns (b,)"
        )
    return found[:, target]
