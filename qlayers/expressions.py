"""Angle expressions: scalars made of input features, weight elements and constants, each stored once.

`Nodes` is a table of rows; a row's arguments are the numbers of earlier rows, so equal expressions are the
same row. A frozen table (a tuple of rows) is what a `Circuit` holds: it compares, hashes and pickles as plain
data.

    ("input", k)                  feature k of the sample
    ("weight", name, i)           element i of the flattened weight
    ("constant", value)
    ("affine", scale, offset, child)
    (function, child, ...)        a function of `FUNCTIONS`; "sum" and "prod" take any number of children
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Row = tuple
LEAVES = ("input", "weight", "constant")


def _as_number(test: Callable) -> Callable:
    """A comparison as 1 and 0 in the dtype of its first argument."""
    return lambda a, *others: test(a, *others).to(a.dtype)


UNARY = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh erf erfc erfinv exp exp2 expm1 floor frac lgamma "
    "digamma log log10 log1p log2 reciprocal relu round rsqrt sigmoid sign sin sinc sinh sqrt tan tanh "
    "trunc detach"
)
BINARY = "sub mul div pow atan2 hypot maximum minimum fmod remainder xlogy copysign"
TESTS = "gt ge lt le eq ne logical_and logical_or logical_xor"

# name: (number of arguments, the function on tensors)
FUNCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    **{name: (1, getattr(torch, name)) for name in UNARY.split()},
    "softplus": (1, torch.nn.functional.softplus),
    "silu": (1, torch.nn.functional.silu),
    "gelu": (1, torch.nn.functional.gelu),
    "gelu_tanh": (1, lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
    "logical_not": (1, _as_number(torch.logical_not)),
    **{name: (2, getattr(torch, name)) for name in BINARY.split()},
    **{name: (2, _as_number(getattr(torch, name))) for name in TESTS.split()},
    "where": (3, lambda test, a, b: torch.where(test != 0, a, b)),
}
MANY: dict[str, Callable[[Tensor], Tensor]] = {"sum": lambda x: x.sum(-1), "prod": lambda x: x.prod(-1)}


def compute(function: str, arguments: Sequence[Tensor]) -> Tensor:
    """One function on tensors of one shape; "sum" and "prod" see their arguments side by side."""
    if function in MANY:
        return MANY[function](torch.stack(torch.broadcast_tensors(*arguments), -1))
    return FUNCTIONS[function][1](*arguments)


class Nodes:
    """A growing table of expressions; every method returns the number of a row.

    >>> nodes = Nodes()
    >>> x = nodes.input(0)
    >>> nodes.rows[nodes.apply("mul", nodes.constant(2.0), nodes.affine(1.0, 3.0, x))]
    ('affine', 2.0, 6.0, 0)
    """

    def __init__(self, rows: Iterable[Row] = ()):
        self.rows: list[Row] = []
        self._number: dict[Row, int] = {}
        self.refused: str | None = None  # why tracing had to stop, see `qlayers.symbolic`
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> int:
        number = self._number.setdefault(row, len(self.rows))
        if number == len(self.rows):
            self.rows.append(row)
        return number

    def input(self, feature: int) -> int:
        return self._add(("input", feature))

    def weight(self, name: str, element: int) -> int:
        return self._add(("weight", name, element))

    def constant(self, value: float) -> int:
        return self._add(("constant", float(value)))

    def affine(self, scale: float, offset: float, child: int) -> int:
        """Scale * child + offset, with an affine or constant child folded in."""
        row = self.rows[child]
        if row[0] == "constant":
            return self.constant(scale * row[1] + offset)
        if row[0] == "affine":
            scale, offset, child = scale * row[1], scale * row[2] + offset, row[3]
        if scale == 1.0 and offset == 0.0:
            return child
        return self._add(("affine", float(scale), float(offset), child))

    def apply(self, function: str, *children: int) -> int:
        """`function` of the children; constants are computed, and affine cases folded."""
        constants = [self.rows[child][1] if self.rows[child][0] == "constant" else None for child in children]
        if None not in constants:
            values = [torch.tensor(value, dtype=torch.float64) for value in constants]
            return self.constant(compute(function, values).item())
        if fold := _FOLDS.get(function):
            folded = fold(self, children, constants)
            if folded is not None:
                return folded
        return self._add((function, *children))


def _fold_sum(nodes: Nodes, children: Sequence[int], constants: Sequence[float | None]) -> int | None:
    """Constants of a sum go into an offset, single children stand alone."""
    offset = sum(value for value in constants if value is not None)
    rest = tuple(child for child, value in zip(children, constants, strict=True) if value is None)
    total = rest[0] if len(rest) == 1 else nodes._add(("sum", *rest))
    return nodes.affine(1.0, offset, total)


def _fold_prod(nodes: Nodes, children: Sequence[int], constants: Sequence[float | None]) -> int | None:
    scale = 1.0
    for value in constants:
        scale *= 1.0 if value is None else value
    rest = tuple(child for child, value in zip(children, constants, strict=True) if value is None)
    total = rest[0] if len(rest) == 1 else nodes._add(("mul" if len(rest) == 2 else "prod", *rest))
    return nodes.affine(scale, 0.0, total)


def _fold_sub(nodes: Nodes, children: Sequence[int], constants: Sequence[float | None]) -> int | None:
    if constants[0] is not None:
        return nodes.affine(-1.0, constants[0], children[1])
    return nodes.affine(1.0, -constants[1], children[0]) if constants[1] is not None else None


def _fold_div(nodes: Nodes, children: Sequence[int], constants: Sequence[float | None]) -> int | None:
    return nodes.affine(1.0 / constants[1], 0.0, children[0]) if constants[1] else None


_FOLDS = {"sum": _fold_sum, "prod": _fold_prod, "mul": _fold_prod, "sub": _fold_sub, "div": _fold_div}


def children_of(row: Row) -> tuple[int, ...]:
    """The rows that a row refers to."""
    if row[0] in LEAVES:
        return ()
    return row[3:] if row[0] == "affine" else row[1:]


def with_children(row: Row, children: Sequence[int]) -> Row:
    """The row with other children."""
    head = row[:3] if row[0] == "affine" else row[:1]
    return row if row[0] in LEAVES else (*head, *children)


def reachable(rows: Sequence[Row], roots: Iterable[int]) -> list[int]:
    """The numbers of all rows that the roots need, children first, in order of first use."""
    seen: dict[int, None] = {}
    for root in roots:
        stack = [(root, False)]
        while stack:
            number, ready = stack.pop()
            if number in seen:
                continue
            if ready:
                seen[number] = None
            else:
                stack.append((number, True))
                stack.extend((child, False) for child in reversed(children_of(rows[number])))
    return list(seen)


def compact(rows: Sequence[Row], roots: Sequence[int]) -> tuple[tuple[Row, ...], dict[int, int]]:
    """The canonical table for these roots: what they need, numbered by first use; and old number -> new."""
    number = {old: new for new, old in enumerate(reachable(rows, roots))}
    table = tuple(
        with_children(rows[old], [number[child] for child in children_of(rows[old])]) for old in number
    )
    return table, number
