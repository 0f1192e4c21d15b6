"""What the conformance matrix found: one result per row, and how a set of them prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "not applicable"]


class Mismatch(AssertionError):  # noqa: N818 (it is a finding of a row, not an error of the program)
    """A row found what it must not find; the message says what was expected, and what was received."""


class ConformanceError(AssertionError):
    """An op does not conform: the message lists the failed rows, with what each expected and received."""


@dataclass(frozen=True)
class Result:
    """The outcome of one row on one op: `reason` is why it failed or does not apply."""

    group: str
    name: str
    status: Status
    reason: str = ""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The row as `conforms(rows=...)` takes it."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True)
class Report:
    """The outcome of the matrix on one op.

    Example:
        >>> report = Report("mine::op", (Result("values", "float64", "passed", seconds=0.01),))
        >>> print(report)
        mine::op: conforms (1 row passed, 0 failed, 0 not applicable)
          values/float64  passed  0.0 s
        >>> report.ok
        True
    """

    op: str
    rows: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether no row failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The failed rows."""
        return tuple(row for row in self.rows if row.status == "failed")

    def __iter__(self) -> Iterator[Result]:
        return iter(self.rows)

    def __getitem__(self, row: str) -> Result:
        """The result of the row with this id, for example `report["values/float64"]`."""
        return next(result for result in self.rows if result.id == row)

    def raise_for_failures(self) -> None:
        """Raise if the op does not conform.

        Raises:
            ConformanceError: lists the failed rows.
        """
        if not self.ok:
            lines = [f"  {row.id}: {row.reason}" for row in self.failures]
            raise ConformanceError("\n".join([f"{self.op} fails {_rows(len(lines))}", *lines]))

    def __str__(self) -> str:
        width = max((len(row.id) for row in self.rows), default=0)
        lines = [
            f"  {row.id:<{width}}  {row.status}  {row.seconds:.1f} s{'  ' + row.reason if row.reason else ''}"
            for row in self.rows
        ]
        return "\n".join([self.summary, *lines])

    @property
    def summary(self) -> str:
        """One line: the verdict and the counts."""
        passed, failed, other = (
            sum(row.status == status for row in self.rows)
            for status in ("passed", "failed", "not applicable")
        )
        verdict = "conforms" if self.ok else "does not conform"
        return f"{self.op}: {verdict} ({_rows(passed)} passed, {failed} failed, {other} not applicable)"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"
