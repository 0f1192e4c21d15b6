"""Pictures of attributions and mutants: letters as high as they matter, through logomaker and Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.interpret.calling import alphabet_of
from shared.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = 0.14  # of width for a letter
_LEAST, _MOST = 4.0, 24.0  # inches of width
_COLORS = {
    "ACGT": "classic",
    "ACGU": "classic",
}  # logomaker's names; others in a colour of each chemical kind
_PROTEIN = "chemistry"


def plot_logo(
    scores: Tensor,
    *,
    information: bool = False,
    start: int = 0,
    alphabet: Alphabet | str = DNA,
    title: str = "",
    ylabel: str | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Draw letters as high as their scores: attributions, or a motif's probabilities.

    Args:
        scores: (letters, l): attributions (negative ones hang below the line), or probabilities.
        information: Take `scores` for probabilities or counts and draw bits against uniform letters, as
            sequence logos do (Schneider & Stephens, 1990).
        start: The number of the first position on the axis.
        alphabet: The letters.
        title: Above the picture.
        ylabel: At the axis; by default what is drawn.
        axes: Where to draw; by default in a new figure.

    Returns:
        The figure; `figure.savefig("logo.png")` keeps it.

    Raises:
        UserError: `scores` has another shape, or is not finite; or, for `information`, a position is negative
            or empty.

    Example:
        >>> import torch
        >>> from biolayers.interpret import plot_logo
        >>> figure = plot_logo(torch.eye(4)[:, [2, 0, 3, 0]], information=True)
        >>> figure.axes[0].get_ylabel()
        'bits'
    """
    letters = alphabet_of(alphabet)
    heights = _matrix("plot_logo", scores, letters)  # (l, letters)
    if information:
        heights = _bits(heights)
    axes = _new(1, len(heights))[1][0] if axes is None else axes
    _draw_logo(axes, heights, letters, start)
    axes.set(title=title, ylabel=ylabel or ("bits" if information else "attribution"), xlabel="position")
    return _figure(axes)


def plot_ism(
    predictions: Tensor,
    tokens: Tensor,
    *,
    output: int = 0,
    start: int = 0,
    alphabet: Alphabet | str = DNA,
    title: str = "",
) -> Figure:
    """Draw the effect of every mutation as a heat map, and above it each letter as high as losing it costs.

    Args:
        predictions: (letters, l, outputs) or (letters, l): what `ism` gives for one sequence, at every
            position.
        tokens: (l,) uint8: the sequence.
        output: The number of the output.
        start: The number of the first position on the axis.
        alphabet: The letters.
        title: Above the picture.

    Returns:
        The figure: effects are differences to the prediction for the sequence itself; a letter of the logo is
        as high as the mean effect of the other letters, negated.

    Raises:
        UserError: Shapes do not fit, a number is not finite, or no position holds a plain letter.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.interpret import ism, plot_ism
        >>> tokens = DNA.tokens(["ACGGCA"])
        >>> figure = plot_ism(ism(lambda x: x[:, 2].sum(1, keepdim=True), tokens)[0], tokens[0])
        >>> [axes.get_ylabel() for axes in figure.axes[:2]]
        ['importance', 'letter']
    """
    letters = alphabet_of(alphabet)
    chosen = predictions[..., output] if predictions.ndim == 3 else predictions
    values = _matrix("plot_ism", chosen, letters)  # (l, letters)
    effects, there = _effects(values, tokens, letters)
    figure, (logo, heat) = _new(2, len(values), height=3.6, ratios=(1.2, 1))
    costs = -effects.sum(1, keepdims=True) / max(1, letters.channels - 1)
    _draw_logo(logo, there * costs, letters, start)
    logo.set(title=title, ylabel="importance")
    logo.tick_params(labelbottom=False)
    _draw_heat(figure, heat, effects.T, there.T, letters, start)
    return figure


def plot_prediction(
    scores: Tensor | Mapping[str, float],
    attribution: Tensor,
    *,
    names: Sequence[str] | None = None,
    start: int = 0,
    alphabet: Alphabet | str = DNA,
    title: str = "",
) -> Figure:
    """Draw what a model predicts for a sequence beside the letters that it rests on.

    Args:
        scores: (outputs,), or names with numbers: what the model predicts.
        attribution: (letters, l): from `deeplift`, `integrated_gradients` or the like.
        names: Of the outputs, where `scores` is a tensor; by default their numbers.
        start: The number of the first position on the axis.
        alphabet: The letters.
        title: Above the picture.

    Returns:
        The figure.

    Raises:
        UserError: Shapes do not fit, or a number is not finite.

    Example:
        >>> import torch
        >>> from biolayers.interpret import plot_prediction
        >>> figure = plot_prediction({"enhancer": 0.9, "none": 0.1}, torch.randn(4, 30))
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['enhancer', 'none']
    """
    letters = alphabet_of(alphabet)
    heights = _matrix("plot_prediction", attribution, letters)
    labels, values = _named(scores, names)
    figure, (bars, logo) = _new(2, len(heights), height=1.9 + 0.22 * len(values), ratios=(len(values), 6))
    bars.barh(range(len(values)), values, color="#3d85c6", height=0.7)
    bars.set_yticks(range(len(values)), labels)
    bars.axvline(0, color="black", linewidth=0.6)
    bars.invert_yaxis()
    bars.spines[["top", "right"]].set_visible(False)
    bars.set(title=title, xlabel="prediction")
    _draw_logo(logo, heights, letters, start)
    logo.set(ylabel="attribution", xlabel="position")
    return figure


def _matrix(name: str, scores: Tensor, letters: Alphabet) -> np.ndarray:
    """(l, letters) float64."""
    if scores.ndim != 2 or scores.shape[0] != letters.channels or scores.shape[1] == 0:
        raise UserError(
            f"{name}: expected ({letters.channels}, l) for the letters {letters.letters}, one sequence at a "
            f"time, received {tuple(scores.shape)}"
        )
    values = scores.detach().cpu().double().numpy().T
    if not np.isfinite(values).all():
        raise UserError(f"{name}: expected finite numbers, received {values[~np.isfinite(values)][0]}")
    return values


def _bits(counts: np.ndarray) -> np.ndarray:
    """Each letter's share of what a position tells: p (log2(letters) + sum p log2 p)."""
    totals = counts.sum(1, keepdims=True)
    if (counts < 0).any() or (totals == 0).any():
        raise UserError("plot_logo: expected probabilities with a positive sum at every position")
    shares = counts / totals
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1, keepdims=True)
    return shares * (np.log2(counts.shape[1]) - entropy)


def _effects(values: np.ndarray, tokens: Tensor, letters: Alphabet) -> tuple[np.ndarray, np.ndarray]:
    """Differences to the sequence itself, and where its letters are: (l, letters) each."""
    if tokens.shape != (len(values),):
        raise UserError(f"plot_ism: expected tokens ({len(values)},), received {tuple(tokens.shape)}")
    there = tokens.cpu().numpy()[:, None] == np.arange(letters.channels)
    if not there.any():
        raise UserError("plot_ism: expected a sequence with at least one plain letter, received none")
    return values - values[there][0], there


def _named(
    scores: Tensor | Mapping[str, float], names: Sequence[str] | None
) -> tuple[list[str], list[float]]:
    if isinstance(scores, Mapping):
        return [str(name) for name in scores], [float(value) for value in scores.values()]
    values = scores.detach().cpu().flatten().tolist()
    labels = [f"output {i}" for i in range(len(values))] if names is None else list(names)
    if len(labels) != len(values) or scores.ndim > 1:
        raise UserError(
            f"plot_prediction: expected scores (outputs,) and a name for each, received "
            f"{tuple(scores.shape)} and {len(labels)} names"
        )
    return labels, values


def _new(rows: int, length: int, *, height: float = 2.0, ratios: Sequence[float] = (1,)) -> tuple[Any, Any]:
    """A figure as wide as its letters need, and its axes from top to bottom."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(_MOST, max(_LEAST, 1 + _INCHES * length)), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, 1, squeeze=False, height_ratios=ratios)[:, 0]


def _figure(axes: Axes) -> Figure:
    return axes.get_figure(root=True)  # type: ignore[return-value]


def _draw_logo(axes: Axes, heights: np.ndarray, letters: Alphabet, start: int) -> None:
    import logomaker
    import pandas as pd

    table = pd.DataFrame(heights, columns=list(letters.letters))
    table.index += start
    colors = _COLORS.get(letters.letters, _PROTEIN if letters.channels > 4 else "classic")
    logomaker.Logo(table, ax=axes, color_scheme=colors, vpad=0.02)
    _tick_positions(axes, start, len(heights))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_heat(
    figure: Any, axes: Axes, effects: np.ndarray, there: np.ndarray, letters: Alphabet, start: int
) -> None:
    """(letters, l): red raises, blue lowers; a dot marks the letter that stands there."""
    most = np.abs(effects).max() or 1.0
    edges = start - 0.5 + np.arange(effects.shape[1] + 1)
    mesh = axes.pcolormesh(
        edges, np.arange(len(effects) + 1) - 0.5, effects, cmap="RdBu_r", vmin=-most, vmax=most
    )
    rows, places = np.nonzero(there)
    axes.plot(places + start, rows, ".", color="black", markersize=2)
    axes.set_yticks(range(letters.channels), list(letters.letters))
    axes.invert_yaxis()
    axes.set(ylabel="letter", xlabel="position")
    _tick_positions(axes, start, effects.shape[1])
    figure.colorbar(mesh, ax=axes, label="effect", location="bottom", aspect=60, shrink=0.5, pad=0.02)


def _tick_positions(axes: Axes, start: int, length: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(start - 0.5, start + length - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(2, min(20, length // 2)), integer=True))
