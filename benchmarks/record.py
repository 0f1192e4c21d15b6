"""How results are shown and kept: a table on the terminal, Markdown and JSON in `benchmarks/results/`."""

import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

QUIET = 0.1  # the share of the machine that others may take before a figure stops to count
DISMISSED = "THESE FIGURES DO NOT COUNT"
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def machine(threads: int) -> str:
    """The machine that a measurement ran on, in one line."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {threads} threads, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


class Bystanders:
    """How much of the machine other processes (and other guests of its host) take while we measure.

    Threads that wait for each other suffer far more from company than the share tells: on two busy cores a
    step of a peer can take ten times as long. So a measurement says how quiet the machine was.
    """

    def __init__(self) -> None:
        self._start, self._all, self._own = perf_counter(), _busy_seconds(), _own_seconds()

    def share(self) -> float:
        """The share since the start, 0 to 1; ask when all workers have ended. 0 without a /proc/stat."""
        capacity = (perf_counter() - self._start) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self._all) - (_own_seconds() - self._own)
        return min(1.0, max(0.0, others / capacity))


def _busy_seconds() -> float:
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
    except OSError:
        return 0.0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def quietness(share: float) -> str:
    """The note on how quiet the machine was."""
    verdict = "" if share <= QUIET else f" {DISMISSED}: measure again on a quiet machine."
    return f"Other work took {share:.0%} of the machine meanwhile.{verdict}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


Rows = list[list[str]]  # the cells of a table; the first row is its head


def show(
    title: str, table: Rows, notes: list[str], command: str, more: Mapping[str, Rows] | None = None
) -> None:
    """Print a table and its notes; before it the tables of `more` by their titles."""
    for name, rows in (more or {}).items():
        _print(Table(title=name), rows)
    _print(
        Table(title=title, caption="\n".join([*notes, f"Again: {command}"]), caption_justify="left"), table
    )


def _print(pretty: Table, table: Rows) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=160)
    for i, name in enumerate(table[0]):
        pretty.add_column(name, justify="left" if i < 2 else "right")
    for cells in table[1:]:
        pretty.add_row(*cells)
    console.print(pretty)


def write(
    name: str,
    title: str,
    table: Rows,
    notes: list[str],
    content: dict[str, Any],
    more: Mapping[str, Rows] | None = None,
    command: str = "make bench",
) -> None:
    """Keep a result as `results/NAME.md` (table, notes, more tables) and `.json` (every measurement)."""
    RESULTS.mkdir(exist_ok=True)
    parts = [f"# {title}", markdown(table), "\n".join(f"- {note}" for note in notes)]
    for heading, rows in (more or {}).items():
        parts += [f"## {heading}", markdown(rows)]
    (RESULTS / f"{name}.md").write_text("\n\n".join([*parts, f"Again: `{command}`"]) + "\n")
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def to_readme(name: str) -> None:
    """Put the first table of `results/NAME.md` where the README asks for it, if its figures count."""
    text = (RESULTS / f"{name}.md").read_text()
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    if table and DISMISSED not in text:
        README.write_text(filled(README.read_text(), name, table[0].rstrip()))


def markdown(table: Rows) -> str:
    """The table in Markdown.

    Example:
        >>> print(markdown([["a", "b"], ["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def filled(text: str, name: str, rows: str) -> str:
    r"""`text` with `rows` between `<!-- NAME -->` and `<!-- /NAME -->`; unchanged if it has no such place.

    Example:
        >>> filled("see <!-- a -->old<!-- /a --> here", "a", "new")
        'see <!-- a -->\nnew\n<!-- /a --> here'
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    if not found or end not in rest:
        return text
    return f"{before}{start}\n{rows}\n{end}{rest.partition(end)[2]}"
