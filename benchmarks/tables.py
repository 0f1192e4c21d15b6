"""From measurements to the rows of tables: ratios are of neighbours in one round."""

from statistics import median
from typing import Any

from circuits import Case
from compare import Found, Timing
from field import OURS, PYTORCH, TENSORCIRCUIT

SUMMARY = [
    "circuit",
    "wires, layers, batch",
    "qlayers",
    "fastest PyTorch peer",
    "ours faster",
    "TensorCircuit-NG, JAX",
    "ours faster",
]
DETAILS = [
    "case",
    "system",
    "step, median",
    "least",
    "ours faster",
    "in rounds",
    "first call",
    "peak memory",
    "error",
]


def rows(case: Case, found: Found) -> list[dict[str, Any]]:
    """What is kept of a case: one entry for each system."""
    ours = found.get(OURS.key)
    return [{"case": str(case), "system": key, **_row(timing, ours)} for key, timing in found.items()]


def _row(timing: Timing | str, ours: Timing | str | None) -> dict[str, Any]:
    if isinstance(timing, str):
        return {"absent": timing}
    pairs = zip(timing.steps, ours.steps, strict=False) if isinstance(ours, Timing) else ()
    ratios = [theirs / own for theirs, own in pairs]
    return {
        "median_ms": 1e3 * median(timing.steps),
        "least_ms": 1e3 * min(timing.steps),
        "steps_ms": [1e3 * step for step in timing.steps],
        "ratio": median(ratios) if ratios else None,
        "ratios": ratios,
        "first_call_s": timing.first,
        "memory_bytes": timing.memory,
        "error": timing.error,
    }


def details(found: list[dict[str, Any]]) -> list[list[str]]:
    """Every system on every case."""
    return [DETAILS, *map(_cells, found)]


def _cells(row: dict[str, Any]) -> list[str]:
    head = [row["case"], row["system"]]
    if "absent" in row:
        return [*head, row["absent"], *[""] * (len(DETAILS) - len(head) - 1)]
    ratios = [] if row["system"] == OURS.key else row["ratios"]
    return [
        *head,
        milliseconds(row["median_ms"]),
        milliseconds(row["least_ms"]),
        times(row["ratio"]) if ratios else "",
        f"{min(ratios):.3g} to {max(ratios):.3g}" if ratios else "",
        f"{row['first_call_s']:.2f} s",
        f"{row['memory_bytes'] / 1e6:.0f} MB",
        f"{row['error']:.0e}",
    ]


def summary(found: list[dict[str, Any]]) -> list[list[str]]:
    """One row for each case: ours, the fastest PyTorch peer, TensorCircuit-NG."""
    cases = list(dict.fromkeys(row["case"] for row in found))
    return [SUMMARY, *(_summary_cells(text, [row for row in found if row["case"] == text]) for text in cases)]


def _summary_cells(text: str, found: list[dict[str, Any]]) -> list[str]:
    case, by_key = Case.parse(text), {row["system"]: row for row in found}
    timed = [by_key[key] for key in PYTORCH & by_key.keys() if "absent" not in by_key[key]]
    fastest = min(timed, key=lambda row: row["median_ms"], default=None)
    name = f", {fastest['system']}" if fastest else ""
    return [
        case.title,
        case.sizes,
        _step(by_key.get(OURS.key)),
        _step(fastest) + name,
        _ratio(fastest),
        _step(by_key.get(TENSORCIRCUIT)),
        _ratio(by_key.get(TENSORCIRCUIT)),
    ]


def _step(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return row["absent"] if "absent" in row else milliseconds(row["median_ms"])


def _ratio(row: dict[str, Any] | None) -> str:
    return times(row["ratio"]) if row and row.get("ratio") else ""


def milliseconds(value: float) -> str:
    """A time to three digits.

    Example:
        >>> milliseconds(0.0531), milliseconds(41.26), milliseconds(4617.2)
        ('0.0531 ms', '41.3 ms', '4,617 ms')
    """
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def times(ratio: float) -> str:
    """A ratio to three digits.

    Example:
        >>> times(2.345), times(1234.6)
        ('2.35x', '1,235x')
    """
    return f"{ratio:.3g}x" if ratio < 1000 else f"{ratio:,.0f}x"
