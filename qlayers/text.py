"""Circuits as text, one thing per line, so that a circuit can be read, compared and kept in a file.

    wires 0 1 "aux"            labels in order: integers, or strings in double quotes
    features 2                 input features of a sample, x0 and x1
    weights w(2,3) v()         names and shapes; an element is w[0,2], a scalar is v
    let e0 = sin(x0)           an expression that is used more than once (or is deep)
    RX(0.5*e0+1.0) 0           a gate of qlayers.gates, parameters in brackets, then wires
    C(Adjoint(S)) 0 "aux"
    PauliRot[XYZ](w[0,2]) 0 1 "aux"
    StatePrep[0.6,0.8j] 0      a block of qlayers.blocks: constants in square brackets, or parameters
    AmplitudeDamping(0.1) 0    a channel of qlayers.noise.channels; PauliError[XY](0.1) 0 1
    QubitChannel[1,0,0,1] 0    its Kraus operators, one after the other, row after row
    expval Z(0)                a measurement: a sum of Pauli words with coefficients; I is the identity
    expval 0.5*X(0)@Z(1) + 2.0*I
    expval 0.5*hermitian[1,0,0,-1](0) + diagonal[0,1](1) + projector[0,1](0,1)
    var Z(0)
    probs 0 1                  without wires: of all; "probs XY 0 1" in the basis of X and Y
    state                      amplitudes; then density 0, purity 0, entropy 0 base 2,
    mutual_info 0 with 1       and the mutual information of two parts

"single expval Z(0)" is a measurement returned bare. "#" begins a comment. H, X, Y, Z, CPhase, SQISW are also
understood.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable
from math import inf, nan, prod

from qlayers.blocks import BLOCKS
from qlayers.circuit import Circuit, Operation, assembled
from qlayers.expressions import FUNCTIONS, LEAVES, MANY, Nodes, Row, children_of
from qlayers.measure import Measurement
from qlayers.measure_text import (
    LABEL,
    entries_text,
    is_measurement,
    label_text,
    measurement_text,
    read_entries,
    read_labels,
    read_measurement,
)
from qlayers.noise.channels import KRAUS
from shared.errors import UserError

ALIASES = {
    "H": "Hadamard",
    "X": "PauliX",
    "Y": "PauliY",
    "Z": "PauliZ",
    "CPhase": "ControlledPhaseShift",
    "SQISW": "SISWAP",
}
NUMBERS = {"inf": inf, "nan": nan}
DEEPEST = 12  # brackets within brackets before an expression gets a name
_HEAD = rf"({'|'.join((*BLOCKS, KRAUS))})\[([^]]*)\]"  # a block or channel with constants


class Names:
    """The text of each expression, `texts[number]`, and the (name, text) of shared ones, `lets`."""

    def __init__(self, circuit: Circuit, number: Callable[[float], str] = repr):
        self._shapes = dict(circuit.weights)
        self._number = number
        self.texts: list[str] = []
        self.lets: list[tuple[str, str]] = []
        used = Counter(child for row in circuit.nodes for child in children_of(row))
        used.update(parameter for operation in circuit.operations for parameter in operation.parameters)
        depths: list[int] = []
        for i, row in enumerate(circuit.nodes):
            text = self._text(row)
            depth = 0 if row[0] in LEAVES else 1 + max(depths[child] for child in children_of(row))
            if depth > DEEPEST or (used[i] > 1 and depth > (row[0] == "affine")):
                name = f"e{len(self.lets)}"
                self.lets.append((name, text))
                text, depth = name, 0
            self.texts.append(text)
            depths.append(depth)

    def _text(self, row: Row) -> str:
        kind = row[0]
        if kind == "input":
            return f"x{row[1]}"
        if kind == "weight":
            return self._weight(row[1], row[2])
        if kind == "constant":
            return self._number(row[1])
        children = [self.texts[child] for child in children_of(row)]
        if kind == "affine":
            return self._affine(row[1], row[2], _atom(children[0]))
        return "*".join(map(_atom, children)) if kind == "mul" else f"{kind}({','.join(children)})"

    def _affine(self, scale: float, offset: float, child: str) -> str:
        first = {1.0: child, -1.0: "-" + child}.get(scale, f"{self._number(scale)}*{child}")
        if offset == 0.0:
            return first
        return first + (self._number(offset) if offset < 0 else "+" + self._number(offset))

    def _weight(self, name: str, element: int) -> str:
        index = []
        for size in reversed(self._shapes[name]):
            element, i = divmod(element, size)
            index.append(str(i))
        if index:
            return f"{name}[{','.join(reversed(index))}]"
        return f"{name}[()]" if re.fullmatch(r"[xe]\d+|inf|nan", name) else name


def _atom(text: str) -> str:
    """The text in brackets if it is a sum, product or negative."""
    return text if re.fullmatch(r"\w+(\[[^\]]*\])?|\w+\([^()]*\)", text) else f"({text})"


def coefficient_text(names: Names) -> Callable[[int], str]:
    """How a coefficient is written before an observable: not at all if it is 1."""

    def text(number: int) -> str:
        factor = names.texts[number]
        return "" if factor in ("1.0", "1") else _atom_factor(factor)

    return text


def _atom_factor(text: str) -> str:
    return text if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text) else _atom(text)


def to_text(circuit: Circuit) -> str:
    """The text of a circuit."""
    names = Names(circuit)
    lines = [" ".join(["wires", *map(label_text, circuit.wires)]), f"features {circuit.features}"]
    if circuit.weights:
        shapes = [f"{name}({','.join(map(str, shape))})" for name, shape in circuit.weights]
        lines.append(" ".join(["weights", *shapes]))
    lines += [f"let {name} = {text}" for name, text in names.lets]
    for name, wires, parameters, entries in circuit.operations:
        head = f"{name}[{entries_text(entries)}]" if entries else name
        head += f"({', '.join(names.texts[p] for p in parameters)})" if parameters else ""
        lines.append(" ".join([head, *map(label_text, wires)]))
    single = "single " if circuit.single else ""
    factor = coefficient_text(names)
    lines += [single + measurement_text(measurement, factor) for measurement in circuit.measurements]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Circuit:
    """The circuit that the text describes.

    Raises:
        UserError: with the number of the line that cannot be read.
    """
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), start=1):
        line = re.sub(r'#(?=(?:[^"]*"[^"]*")*[^"]*$).*', "", line).strip()
        try:
            if line:
                reader.read(line)
        except (UserError, ValueError, KeyError, SyntaxError, IndexError) as error:
            raise UserError(f"Line {number} of the circuit cannot be read: {line!r} ({error}).") from None
    return reader.circuit()


class _Reader:
    """Reads lines into the fields of a circuit."""

    def __init__(self):
        self.nodes = Nodes()
        self.wires: list[int | str] = []
        self.features: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.lets: dict[str, int] = {}
        self.operations: list[Operation] = []
        self.measurements: list[Measurement] = []
        self.single = False

    def read(self, line: str) -> None:
        keyword, _, rest = line.partition(" ")
        if keyword == "wires":
            self.wires = read_labels(rest)
        elif keyword == "features":
            self.features = int(rest)
        elif keyword == "weights":
            if not re.fullmatch(r"(\w+\([\d, ]*\)\s*)*", rest):
                raise UserError("expected weights with their shapes, such as w(2,3)")
            for name, shape in re.findall(r"(\w+)\(([\d, ]*)\)", rest):
                self.shapes[name] = tuple(int(n) for n in shape.split(",") if n.strip())
        elif keyword == "let":
            name, _, expression = rest.partition("=")
            self.lets[name.strip()] = self.expression(expression)
        elif keyword == "single":
            self.single = True
            self._measurement(rest)
        elif is_measurement(keyword):
            self._measurement(line)
        else:
            self._operation(line)

    def _operation(self, line: str) -> None:
        match = re.fullmatch(rf"(.*?)((?:\s+{LABEL})*)", line)
        head, wires, entries = match[1], tuple(read_labels(match[2])), ()
        if block := re.match(_HEAD, head):
            entries, head = read_entries(block[2]), block[1] + head[block.end() :]
        name, parameters = _split_parameters(head)
        found = tuple(self.expression(parameter) for parameter in parameters)
        self.operations.append(Operation(ALIASES.get(name, name), wires, found, entries))

    def _measurement(self, line: str) -> None:
        found = read_measurement(line, self.expression, lambda: self.nodes.constant(1.0))
        self.measurements.append(found)

    def expression(self, text: str) -> int:
        return self._node(ast.parse(text.strip(), mode="eval").body)

    def _node(self, node: ast.expr) -> int:
        nodes = self.nodes
        match node:
            case ast.Constant(value=int() | float() as value):
                return nodes.constant(value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return nodes.affine(-1.0, 0.0, self._node(operand))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return nodes.apply("sum", self._node(left), self._node(right))
            case ast.BinOp(left=left, op=ast.Sub() | ast.Mult() | ast.Div() as op, right=right):
                name = {ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}[type(op)]
                return nodes.apply(name, self._node(left), self._node(right))
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in (*FUNCTIONS, *MANY):
                if name in FUNCTIONS and len(arguments) != FUNCTIONS[name][0]:
                    raise UserError(
                        f"{name} takes {FUNCTIONS[name][0]} arguments, {len(arguments)} are given"
                    )
                return nodes.apply(name, *map(self._node, arguments))
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                return nodes.weight(name, self._element(name, ast.literal_eval(index)))
            case ast.Name(id=name):
                return self._name(name)
        raise UserError(f"expected an expression, found {ast.unparse(node)!r}")

    def _name(self, name: str) -> int:
        if name in self.lets:
            return self.lets[name]
        if name in NUMBERS:
            return self.nodes.constant(NUMBERS[name])
        if re.fullmatch(r"x\d+", name):
            return self.nodes.input(int(name[1:]))
        return self.nodes.weight(name, self._element(name, ()))

    def _element(self, name: str, index: int | tuple[int, ...]) -> int:
        if name not in self.shapes:
            raise UserError(f"there is no weight {name!r}; declare it on a line 'weights {name}(shape)'")
        index, shape = index if isinstance(index, tuple) else (index,), self.shapes[name]
        if len(index) != len(shape) or any(not 0 <= i < n for i, n in zip(index, shape, strict=False)):
            raise UserError(f"weight {name} of shape {shape} has no element {list(index)}")
        return sum(i * prod(shape[d + 1 :]) for d, i in enumerate(index))

    def circuit(self) -> Circuit:
        used = [wire for operation in self.operations for wire in operation.wires]
        used += [wire for measurement in self.measurements for wire in measurement.used]
        features = 1 + max((row[1] for row in self.nodes.rows if row[0] == "input"), default=-1)
        if self.features is not None and self.features < features:
            raise UserError(
                f"The circuit uses feature x{features - 1}, but declares {self.features} features."
            )
        return assembled(
            self.nodes.rows,
            self.operations,
            self.measurements,
            wires=tuple(self.wires or dict.fromkeys(used)),
            features=features if self.features is None else self.features,
            weights=tuple(self.shapes.items()),
            single=self.single,
        )


def _split_parameters(head: str) -> tuple[str, list[str]]:
    """("C(RX)", ["x0", "sum(x0,x1)"]) from "C(RX)(x0, sum(x0,x1))"."""
    depth, start, parts = 0, None, []
    if not re.match(r"^(C0?|Adjoint)\(.*\)$", head) and "(" in head:
        start = head.index("(")
    elif ")(" in head:
        start = head.index(")(") + 1
    if start is None:
        return head, []
    begin = start + 1
    for i, letter in enumerate(head[start:], start):
        depth += (letter in "([") - (letter in ")]")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            parts.append(head[begin:i])
            begin = i + 1
    if depth != 0:
        raise UserError("a bracket is not closed")
    return head[:start], parts
