"""Measurements as text: one line of the format in `qlayers.text`, and back."""

import json
import re
from collections.abc import Callable, Sequence

from qlayers.measure import DRAWN, KINDS, Block, Measurement, Term
from shared.errors import UserError

LABEL = r'(?:-?\d+|"[^"]*")'
_WORD = re.compile(rf"(?:I|[XYZ]\({LABEL}\)(?:@[XYZ]\({LABEL}\))*)$")
_BLOCK = re.compile(r"(hermitian|diagonal|projector)\[([^]]*)\]\(([^()]*)\)$")
_ONLY_LABELS = re.compile(rf"(\s*{LABEL}\s*,?)*\s*$")
_UNQUOTED = r'(?=(?:[^"]*"[^"]*")*[^"]*$)'  # what came before is not inside double quotes


def label_text(wire: int | str) -> str:
    """A wire label as the format writes it."""
    return json.dumps(wire).replace('\\"', "\\u0022") if isinstance(wire, str) else str(wire)


def read_labels(text: str) -> list[int | str]:
    """Wire labels with spaces or commas between them."""
    if not re.fullmatch(rf"(\s*{LABEL}\s*,?)*\s*", text):
        raise UserError("expected wires: integers, or strings in double quotes")
    return [json.loads(label) for label in re.findall(LABEL, text)]


def word_text(word: Sequence[tuple[str, int | str]]) -> str:
    """A Pauli word: X(0)@Z(1), or I."""
    return "@".join(f"{letter}({label_text(wire)})" for letter, wire in word) or "I"


def entries_text(entries: Sequence[complex]) -> str:
    """Numbers with commas between them: 1, 0.5, 1+2j."""
    return ",".join(repr(entry).strip("()") for entry in entries)


def read_entries(text: str) -> tuple[complex, ...]:
    """The numbers of `entries_text`."""
    return tuple(_number(part.strip()) for part in text.split(",") if part.strip())


def _number(text: str) -> complex:
    if "j" in text:
        return complex(text)
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def sum_text(
    terms: Sequence[Term | Block], factor: Callable[[int], str], shown: Callable[[str], str] = str
) -> str:
    """A sum of terms; `factor` writes a coefficient, empty for 1, `shown` decorates each observable."""
    parts = []
    for term in terms:
        text = shown(word_text(term.word) if isinstance(term, Term) else _block_text(term))
        number = factor(term.coefficient)
        parts.append(f"{number}*{text}" if number else text)
    return " + ".join(parts)


def _block_text(block: Block) -> str:
    return f"{block.kind}[{entries_text(block.entries)}]({','.join(map(label_text, block.wires))})"


def measurement_text(measurement: Measurement, factor: Callable[[int], str]) -> str:
    """The line of a measurement: "expval Z(0)", "probs 0 1", "entropy 0 base 2.0"."""
    kind, terms, wires, others, basis, base = measurement
    if kind in ("expval", "var") or terms:
        return f"{kind} {sum_text(terms, factor) or '0.0*I'}"
    parts = [kind]
    if isinstance(basis, tuple):
        parts.append(f"unitary[{entries_text(basis)}]")
    elif basis:
        parts.append(basis)
    parts += map(label_text, wires)
    if others:
        parts += ["with", *map(label_text, others)]
    if base is not None:
        parts += ["base", repr(base)]
    return " ".join(parts)


def read_measurement(line: str, expression: Callable[[str], int], one: Callable[[], int]) -> Measurement:
    """The measurement of a line; `expression` reads a coefficient, `one` gives the coefficient 1."""
    kind, _, rest = line.partition(" ")
    if kind in ("expval", "var") or (kind in DRAWN and not _ONLY_LABELS.match(rest)):
        return Measurement(kind, tuple(_terms(rest, expression, one)))
    rest, _, base = rest.partition("base ")
    rest, _, others = rest.partition("with ")
    basis: str | tuple[complex, ...] = ""
    if match := re.match(r"\s*(?:unitary\[([^]]*)\]|([XYZ]+)(?=\s))", rest):
        basis = match[2] or read_entries(match[1])
        rest = rest[match.end() :]
    wires, others = tuple(read_labels(rest)), tuple(read_labels(others))
    return Measurement(kind, (), wires, others, basis, float(base) if base else None)


def _terms(text: str, expression: Callable[[str], int], one: Callable[[], int]):
    for part in re.split(rf" \+ {_UNQUOTED}", text):
        part = part.strip()
        match = _WORD.search(part) or _BLOCK.search(part)
        if match is None:
            raise UserError(f"expected a Pauli word such as 0.5*X(0)@Z(1), found {part!r}")
        factor = part[: match.start()].strip().removesuffix("*")
        coefficient = expression(factor) if factor else one()
        if match.re is _BLOCK:
            kind, entries, wires = match.groups()
            yield Block(coefficient, kind, tuple(read_labels(wires)), read_entries(entries))
        else:
            pairs = re.findall(rf"([XYZ])\(({LABEL})\)", match[0])
            yield Term(coefficient, tuple((letter, json.loads(label)) for letter, label in pairs))


def is_measurement(keyword: str) -> bool:
    """Whether a line that begins so is a measurement."""
    return keyword in KINDS or keyword in DRAWN
