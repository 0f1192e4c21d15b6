"""Precision, recall and F1 of each class from a confusion matrix, with 95 % intervals."""

import math
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


def wilson(hits: int, trials: int, *, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 22, 1927); (0, 1) when nothing was tried.

    Example:
        >>> tuple(round(edge, 3) for edge in wilson(95, 100))
        (0.888, 0.978)
    """
    if trials == 0:
        return 0.0, 1.0
    p, n = hits / trials, trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def f1_interval(
    confusion: np.ndarray, index: int, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the F1 of one class: records drawn again with replacement, `draws` times."""
    counts = np.array(
        [
            confusion[index, index],
            confusion[index].sum() - confusion[index, index],  # missed
            confusion[:, index].sum() - confusion[index, index],  # false alarms
            np.delete(np.delete(confusion, index, 0), index, 1).sum(),
        ]
    )
    total = counts.sum()
    if total == 0:
        return 0.0, 1.0
    hit, missed, alarm, _ = np.random.default_rng(seed).multinomial(total, counts / total, size=draws).T
    f1 = 2 * hit / np.maximum(1, 2 * hit + missed + alarm)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


def summary(confusion: list[list[int]], classes: list[str]) -> dict[str, Any]:
    """What `metrics.json` says of the held-out part.

    Args:
        confusion: Counts, one row per true class, one column per predicted class.
        classes: Their names.

    Returns:
        "test/accuracy_interval", "confusion" and, by class, "per_class" with support, precision, recall and
        F1, each with its interval (Wilson's; the bootstrap for F1).
    """
    matrix = np.asarray(confusion, dtype=np.int64)
    per_class = {}
    for i, name in enumerate(classes):
        hits, support, predicted = int(matrix[i, i]), int(matrix[i].sum()), int(matrix[:, i].sum())
        per_class[name] = {
            "support": support,
            "precision": hits / max(1, predicted),
            "precision_interval": wilson(hits, predicted),
            "recall": hits / max(1, support),
            "recall_interval": wilson(hits, support),
            "f1": 2 * hits / max(1, support + predicted),
            "f1_interval": f1_interval(matrix, i),
        }
    return {
        "test/accuracy_interval": wilson(int(matrix.trace()), int(matrix.sum())),
        "confusion": matrix.tolist(),
        "per_class": per_class,
    }
