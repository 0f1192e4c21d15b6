"""Circuits drawn in text, one row per wire, controls as dots."""

import re

from qlayers.circuit import Circuit, Operation
from qlayers.gates import labels
from qlayers.measure import Measurement, Term
from qlayers.measure_text import label_text, measurement_text, sum_text
from qlayers.noise.channels import KRAUS, word_of
from qlayers.text import Names, coefficient_text

BLOCK_LABELS = {
    "StatePrep": "|ψ>",
    "QubitUnitary": "U",
    "DiagonalQubitUnitary": "D",
    "Projector": "|b><b|",
    KRAUS: "K",
}
LONGEST = 20  # letters of an angle in a drawing before it gets a name


def draw(circuit: Circuit, *, width: int) -> str:
    """The drawing, wrapped at `width` columns, with the named angles and the outputs below."""
    names = Names(circuit, number=lambda value: f"{value:.4g}")
    legend = dict(names.lets)
    columns = _columns(circuit, names, legend)
    heads = [f"{label_text(wire)}: " for wire in circuit.wires]
    heads = [head.rjust(max(map(len, heads))) for head in heads]
    ends, rest = _ends(circuit, names)
    lines = []
    blocks = _wrap(columns, width - len(heads[0]) - 8 if heads else width)
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        tails = [f"─┤{' ' + end if end else ''}" if last else "─···" for end in ends]
        rows = ["".join(row) for row in zip(*block, strict=True)] if block else [""] * len(heads)
        lines += [head + row + tail for head, row, tail in zip(heads, rows, tails, strict=True)]
    if rest:
        lines.append("returns " + ", ".join(rest))
    lines += [f"{name} = {text}" for name, text in legend.items()]
    return "\n".join(lines)


def _columns(circuit: Circuit, names: Names, legend: dict[str, str]) -> list[list[str]]:
    """The columns, each a cell per wire; a gate stands as far left as the wires it spans allow."""
    row_of = {wire: i for i, wire in enumerate(circuit.wires)}
    free = [0] * len(row_of)  # the first column that is free on each wire
    grid: list[list[str]] = []
    for operation in circuit.operations:
        if not operation.wires:  # a global phase, see the legend
            legend[f"{operation.gate}"] = ",".join(names.texts[p] for p in operation.parameters)
            continue
        rows = [row_of[wire] for wire in operation.wires]
        spanned = range(min(rows), max(rows) + 1)
        column = max(free[row] for row in spanned)
        if column == len(grid):
            grid.append([""] * len(row_of))
        cells = dict(zip(rows, _labels(operation, names, legend), strict=True))
        for row in spanned:
            free[row] = column + 1
            grid[column][row] = _bracket(row, spanned) + cells.get(row, "")
    return [_padded(cells) for cells in grid]


def _bracket(row: int, spanned: range) -> str:
    if len(spanned) == 1:
        return "─"
    return "╭" if row == spanned[0] else "╰" if row == spanned[-1] else "├"


def _padded(cells: list[str]) -> list[str]:
    cells = [cell.replace("├", "│", 1) if cell == "├" else cell for cell in cells]
    width = max(map(len, cells))
    return ["─" + cell.ljust(width, "─") for cell in cells]


def _labels(operation: Operation, names: Names, legend: dict[str, str]) -> list[str]:
    word = word_of(operation.gate)
    found = (
        list(labels(operation.gate, len(operation.wires))) if word is None else [*map("Error{}".format, word)]
    )
    if operation.gate in BLOCK_LABELS:
        return [BLOCK_LABELS[operation.gate]] * len(operation.wires)
    if operation.parameters:
        angles = ",".join(_angle(names.texts[p], legend) for p in operation.parameters)
        found = [label if label in "●○" else f"{label}({angles})" for label in found]
    return found


def _angle(text: str, legend: dict[str, str]) -> str:
    if len(text) <= LONGEST:
        return text
    known = {value: name for name, value in legend.items()}
    name = known.get(text, f"e{len(legend)}")
    legend[name] = text
    return name


def _ends(circuit: Circuit, names: Names) -> tuple[list[str], list[str]]:
    """What stands at the end of each wire: <Z>; and all outputs in words, unless those say it all."""
    ends: dict = {wire: [] for wire in circuit.wires}
    simple = True
    for kind, terms, wires, *_ in circuit.measurements:
        if kind == "expval" and _is_letter(terms, names):
            ((letter, wire),) = terms[0].word
            ends[wire].append(f"<{letter}>")
        else:
            simple = False
            for wire in () if kind in ("expval", "var") or terms else wires or circuit.wires:
                ends[wire].append(kind)
    rest = [] if simple else [_result(measurement, names) for measurement in circuit.measurements]
    return [" ".join(dict.fromkeys(found)) for found in ends.values()], rest


def _is_letter(terms: tuple, names: Names) -> bool:
    if len(terms) != 1 or not isinstance(terms[0], Term) or len(terms[0].word) != 1:
        return False
    return names.texts[terms[0].coefficient] == "1"


def _result(measurement: Measurement, names: Names) -> str:
    """A measurement in words: 0.5*<X(0)@Z(1)>, var(Z(0)), probs 0 1; matrices without their entries."""
    factor = coefficient_text(names)
    if measurement.kind == "expval":
        return _short(sum_text(measurement.terms, factor, lambda word: f"<{word}>"))
    if measurement.kind == "var":
        return _short(f"var({sum_text(measurement.terms, factor)})")
    return _short(measurement_text(measurement, factor))


def _short(text: str) -> str:
    return re.sub(r"\[([^]]{12})[^]]+\]", r"[\1...]", text)


def _wrap(columns: list[list[str]], width: int) -> list[list[list[str]]]:
    blocks: list[list[list[str]]] = [[]]
    used = 0
    for column in columns:
        if blocks[-1] and used + len(column[0]) > width:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += len(column[0])
    return blocks
