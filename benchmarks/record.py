"""How results are shown and kept: a table on the terminal, Markdown and JSON in `benchmarks/results/`."""

import json
import os
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def machine(threads: int) -> str:
    """The machine that a measurement ran on, in one line."""
    busy = os.getloadavg()[0]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {threads} threads, load {busy:.1f} at the start, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def show(title: str, table: list[list[str]], notes: list[str], command: str) -> None:
    """Print a table (its first row is the head) and its notes."""
    console = Console()
    pretty = Table(title=title, caption="\n".join([*notes, f"Again: {command}"]), caption_justify="left")
    for i, name in enumerate(table[0]):
        pretty.add_column(name, justify="left" if i < 2 else "right")
    for cells in table[1:]:
        pretty.add_row(*cells)
    console.print(pretty)


def write(name: str, title: str, table: list[list[str]], notes: list[str], content: dict[str, Any]) -> None:
    """Keep a result as `results/NAME.md` and `.json`, and put its table where the README asks for it."""
    RESULTS.mkdir(exist_ok=True)
    rows = markdown(table)
    text = f"# {title}\n\n{rows}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n\nAgain: `make bench`\n"
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    README.write_text(filled(README.read_text(), name, rows))


def markdown(table: list[list[str]]) -> str:
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
