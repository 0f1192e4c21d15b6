"""The matrix in pytest: one test per row that applies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shared.declare import Op


def conformance_tests(
    *ops: Op,
    samples: Iterable[tuple[Any, ...]] | None = None,
    batch_axes: Mapping[str, int] | None = None,
    rows: Sequence[str] | None = None,
    slow: bool = False,
) -> Callable[..., None]:
    """A pytest test with one case per op and row of the conformance matrix that applies to it.

    Assign it to a name that pytest collects:

        from shared.check import conformance_tests
        from my_package.ops import my_op, my_other_op

        test_conformance = conformance_tests(my_op, my_other_op)

    The cases are then called `test_conformance[my::op-values/float64]` and so on, so that `pytest -k` picks
    them. Rows that do not apply make no case; `conforms(op)` says why.

    Args:
        ops: one op or several.
        samples: argument tuples instead of those that the op declares (one op only).
        batch_axes: as in `Op.samples`; default: as the op declares.
        rows: groups or rows; default: all.
        slow: whether to include the slow rows (Inductor).

    Raises:
        UserError: an op has no samples.
    """
    import pytest

    from shared.check.matrix import case_of, select

    given = None if samples is None else list(samples)
    cases = [case_of(op, given, batch_axes) for op in ops]
    chosen = [
        pytest.param(case, row, id=f"{case.op.name}-{row.id}")
        for case in cases
        for row in select(rows, slow=slow)
        if row.unless(case) is None
    ]

    @pytest.mark.parametrize(("case", "row"), chosen)
    def test(case: Any, row: Any) -> None:
        result = row.result(case)
        assert result.status == "passed", f"{case.op.name}, {result.id}: {result.reason}"

    return test
