"""The matrix on a terminal, by rich: progress while it runs, then the table and what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.check.report import Report, Status
from shared.check.row import Row

_MARKS: dict[Status, str] = {
    "passed": "[green]✓[/]",
    "failed": "[bold red]✗[/]",
    "not applicable": "[dim]·[/]",
}


class Screen:
    """A progress bar over all rows of all ops; afterwards `show` prints the result."""

    def __init__(self, rows: int) -> None:
        self._console = Console()
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=rows, completed=-1)

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, op: str) -> Callable[[str], None]:
        """What to call with the name of each row of `op` as it starts."""
        return lambda row: self._progress.update(self._task, advance=1, description=f"{op}  {row}")

    def show(self, reports: Sequence[Report], rows: Sequence[Row]) -> None:
        """Print rows down, ops across, then the verdicts, the failures, and why rows do not apply."""
        table = Table(title="conformance")
        table.add_column("row", no_wrap=True)
        for report in reports:
            table.add_column(report.op.replace("::", "::\n"), justify="center")
        for i, row in enumerate(rows):
            found = [{result.id: result for result in report}.get(row.id) for report in reports]
            last_of_group = i + 1 == len(rows) or rows[i + 1].group != row.group
            if i == 0 or rows[i - 1].group != row.group:
                table.add_row(f"[bold]{row.group}[/]")
            table.add_row(
                f"  {row.name}", *(_MARKS[r.status] if r else "" for r in found), end_section=last_of_group
            )
        self._console.print(table)
        for report in reports:
            self._console.print(f"{report.summary}, {sum(row.seconds for row in report):.0f} s")
            for result in report:
                if result.status != "passed":
                    style = "red" if result.status == "failed" else "dim"
                    self._console.print(f"  [{style}]{result.id}: {escape(result.reason)}[/]")
