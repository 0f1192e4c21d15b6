"""The report's pictures as inline SVG: they take the page's text colour and font, in light and in dark."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#010203"  # stands for the page's text colour; replaced by `currentColor` in the SVG
BLUE, ORANGE = (
    "#3d85c6",
    "#e0802b",
)  # told apart by every kind of colour vision, readable on white and on black
SHADES = LinearSegmentedColormap.from_list("shades", [(0.24, 0.52, 0.78, 0.0), (0.24, 0.52, 0.78, 1.0)])
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: sharp, searchable, in the page's font
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called $x$
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def curves(history: Sequence[dict[str, float]], measure: str, *, best_epoch: int) -> str:
    """One measure ("loss" or "accuracy") of the training and the validation part by epoch."""

    def paint(axes: Axes) -> None:
        epochs = [row["epoch"] for row in history]
        marker = "o" if len(history) == 1 else None
        for part, name, color in (("train", "training", ORANGE), ("val", "validation", BLUE)):
            axes.plot(
                epochs, [row[f"{part}/{measure}"] for row in history], color=color, label=name, marker=marker
            )
        axes.axvline(best_epoch, color=INK, alpha=0.4, linestyle=":", label="weights kept")
        axes.set(title=measure.capitalize(), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return _draw(paint, measure, height=3.0)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Counts of true (rows) against predicted (columns) classes, shaded by the share of the row."""
    matrix = np.asarray(counts)
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))

    def paint(axes: Axes) -> None:
        axes.pcolormesh(shares, cmap=SHADES, vmin=0, vmax=1, edgecolor=INK, linewidth=0.3)
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.6 else INK
            text = f"{count}\n{shares[row, column]:.0%}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color)
        ticks = np.arange(len(classes)) + 0.5
        slanted = {"rotation": 30, "ha": "right"} if len(classes) > 4 else {}
        axes.set_xticks(ticks, classes, **slanted)
        axes.set_yticks(ticks, classes)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(title="Confusion matrix", xlabel="predicted", ylabel="true")

    return _draw(paint, "confusion", height=max(3.0, 1.2 + 0.6 * len(classes)))


def class_scores(per_class: dict[str, dict[str, Any]]) -> str:
    """F1, recall and precision of each class with their 95 % intervals."""
    marks = (("precision", ORANGE, "s"), ("recall", BLUE, "o"), ("f1", INK, "D"))

    def paint(axes: Axes) -> None:
        for offset, (score, color, marker) in zip((-0.22, 0, 0.22), marks, strict=True):
            values = np.array([row[score] for row in per_class.values()])
            edges = np.array([row[f"{score}_interval"] for row in per_class.values()]).T  # (2, classes)
            spread = np.abs(edges - values)
            places = np.arange(len(values)) + offset
            label = {"f1": "F1"}.get(score, score)
            axes.errorbar(values, places, xerr=spread, fmt=marker, color=color, ms=5, capsize=3, label=label)
        axes.set_yticks(range(len(per_class)), list(per_class))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_title("Scores by class, 95 % intervals", pad=26)
        axes.legend(
            ncols=3, loc="lower center", bbox_to_anchor=(0.5, 0.98), columnspacing=1.2, handletextpad=0.3
        )

    return _draw(paint, "scores", height=max(3.0, 1.4 + 0.5 * len(per_class)))


def _draw(paint: Callable[[Axes], None], name: str, *, height: float, width: float = 4.6) -> str:
    # The salt makes ids that are the same in every run and differ between the pictures of one page.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=NO_METADATA)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", svg)
