"""The matrix: all rows, run on one op or printed for many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shared.check import compiling, deploy, derivatives, module, system, transforms, values
from shared.check.case import Case
from shared.check.report import Report, Result
from shared.check.row import Row
from shared.declare import Op, registry
from shared.errors import UserError

ROWS: tuple[Row, ...] = (
    *values.ROWS,
    *derivatives.ROWS,
    *transforms.ROWS,
    *compiling.ROWS,
    *deploy.ROWS,
    *module.ROWS,
    *system.ROWS,
)


def conforms(
    op: Op,
    samples: Iterable[tuple[Any, ...]] | None = None,
    *,
    batch_axes: Mapping[str, int] | None = None,
    rows: Sequence[str] | None = None,
    slow: bool = True,
) -> Report:
    """Run the conformance matrix on an op.

    Args:
        op: the op.
        samples: argument tuples (float64, small, at awkward sizes); default: those that the op declares.
        batch_axes: as in `Op.samples`; default: as the op declares.
        rows: groups ("values") or single rows ("func/grad") to run; default: all.
        slow: whether to run the slow rows (Inductor) too.

    Returns:
        A frozen `Report`: `report.ok` is the verdict, `print(report)` the table, and
        `report.raise_for_failures()` an error that lists each failed row with what was expected and received.

    Raises:
        UserError: the op has no samples, or a name in `rows` is unknown.

    Example:
        >>> import torch, shared
        >>> from shared.check import conforms
        >>> @shared.op("doctest::halved")
        ... def halved(x: torch.Tensor) -> torch.Tensor:
        ...     return x / 2
        >>> samples = [(torch.randn(2, 3, dtype=torch.float64),)]
        >>> conforms(halved, samples, batch_axes={"x": 0}, rows=["values/float64"]).ok
        True
    """
    case = case_of(op, samples, batch_axes)
    return Report(op.name, tuple(row.result(case) for row in select(rows, slow=slow)))


def case_of(
    op: Op, samples: Iterable[tuple[Any, ...]] | None = None, batch_axes: Mapping[str, int] | None = None
) -> Case:
    """The op with its samples, given or declared."""
    given = op.sample_arguments() if samples is None else [op.complete(tuple(sample)) for sample in samples]
    if not given:
        raise UserError(
            f"conforms: expected samples for {op.name}, received none; "
            "declare them with .samples, or pass them"
        )
    return Case(op, tuple(given), op.batch_axes if batch_axes is None else batch_axes)


def select(rows: Sequence[str] | None, *, slow: bool) -> tuple[Row, ...]:
    """The rows that these names mean: a slow row needs `slow`, or its own full name."""
    if rows is None:
        return tuple(row for row in ROWS if slow or not row.slow)
    for name in rows:
        if not any(name in (row.group, row.id) for row in ROWS):
            known = ", ".join(dict.fromkeys(row.group for row in ROWS))
            raise UserError(f"rows: expected a group ({known}) or group/name, received {name!r}")
    return tuple(row for row in ROWS if row.id in rows or (row.group in rows and (slow or not row.slow)))


def table(ops: Iterable[Op] | None = None, *, rows: Sequence[str] | None = None, slow: bool = False) -> bool:
    """Run the matrix on many ops and print it, rows down and ops across, then each failure.

    Args:
        ops: default: every registered op that declares samples, those of plug-ins included; an op without
            samples counts as a failure.
        rows: as in `conforms`.
        slow: as in `conforms`.

    Returns:
        Whether every op conforms.
    """
    chosen = list(registry().values() if ops is None else ops)
    picked = select(rows, slow=slow)
    try:
        from shared.check.screen import Screen
    except ModuleNotFoundError:  # rich comes with the extra `train`
        reports = [_report(op, picked, lambda row: None) for op in chosen]
        print("\n\n".join(map(str, reports)))
    else:
        with Screen(len(chosen) * len(picked)) as screen:
            reports = [_report(op, picked, screen.step(op.name)) for op in chosen]
        screen.show(reports, picked)
    return all(report.ok for report in reports)


def _report(op: Op, rows: Sequence[Row], started: Callable[[str], None]) -> Report:
    try:
        case = case_of(op)
    except UserError as error:
        return Report(op.name, (Result("values", "samples", "failed", str(error)),))
    results = []
    for row in rows:
        started(row.id)
        results.append(row.result(case))
    return Report(op.name, tuple(results))
