"""The symbolic form of torch's functions: what each does to tensors of expressions (`qlayers.symbolic`).

`FORMS` maps the name of an ATen operation to a function of the table of expressions and of the operation's
own arguments, which returns traced tensors of the result's shape; their dtype is set by `qlayers.trace`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from qlayers.expressions import FUNCTIONS, Nodes
from qlayers.expressions import TESTS as COMPARISONS
from qlayers.symbolic import Symbolic, ValueNeeded, numbers

# those that take tensors alone, as `FUNCTIONS` does
PLAIN = (
    *(name for name, (count, _) in FUNCTIONS.items() if count == 1 and name != "detach"),
    *("mul", "atan2", "hypot", "maximum", "minimum", "fmod", "remainder", "xlogy", "where", "copysign"),
)
_LOGIC = ("and", "or", "xor", "not")
TESTS = frozenset(
    [*COMPARISONS.split(), *(f"{kind}_{name}" for kind in ("logical", "bitwise") for name in _LOGIC)]
)


def elementwise(nodes: Nodes, function: str, *operands) -> Symbolic:
    return _map(nodes, lambda *ids: nodes.apply(function, *ids), *operands)


def _map(nodes: Nodes, make: Callable[..., int], *operands) -> Symbolic:
    """Apply `make` to the expression numbers of the broadcast operands, element by element."""
    ids = torch.broadcast_tensors(*[numbers(nodes, operand) for operand in operands])
    made = [make(*row) for row in zip(*[x.reshape(-1).tolist() for x in ids], strict=True)]
    return Symbolic(torch.tensor(made, dtype=torch.int64, device="cpu").reshape(ids[0].shape), nodes)


def _reduce(nodes: Nodes, function: str, x: Symbolic, dim=None, keepdim: bool = False, **_) -> Symbolic:
    """Combine all elements along `dim` (None or empty: all) by a function of any number of arguments."""
    dims = list(range(x.ndim)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else list(dim)
    dims = [d % x.ndim for d in dims] if x.ndim else []
    rest = [d for d in range(x.ndim) if d not in dims]
    table = (
        x.ids.permute(*rest, *dims).reshape(math.prod(x.shape[d] for d in rest), -1)
        if x.ndim
        else x.ids.reshape(1, 1)
    )
    made = [_combine(nodes, function, row) for row in table.tolist()]
    shape = [1 if d in dims else x.shape[d] for d in range(x.ndim)] if keepdim else [x.shape[d] for d in rest]
    return Symbolic(torch.tensor(made, dtype=torch.int64, device="cpu").reshape(shape), nodes, x.dtype)


def _combine(nodes: Nodes, function: str, row: list[int]) -> int:
    if not row:
        return nodes.constant(0.0 if function == "sum" else 1.0)
    if function in ("sum", "prod"):
        return row[0] if len(row) == 1 else nodes.apply(function, *row)
    while len(row) > 1:  # pairwise, so that n elements are log n deep
        row = [
            nodes.apply(function, *row[i : i + 2]) if i + 1 < len(row) else row[i]
            for i in range(0, len(row), 2)
        ]
    return row[0]


def _mean(nodes: Nodes, x: Symbolic, dim=None, keepdim: bool = False, **_) -> Symbolic:
    total = _reduce(nodes, "sum", x, dim, keepdim)
    return _affine(nodes, total, total.numel() / max(x.numel(), 1), 0.0)


def _var(nodes: Nodes, x: Symbolic, dim=None, correction=1, keepdim: bool = False, **_) -> Symbolic:
    off = _add(nodes, x, _mean(nodes, x, dim, True), sign=-1.0)
    total = _reduce(nodes, "sum", elementwise(nodes, "mul", off, off), dim, keepdim)
    count = x.numel() / max(total.numel(), 1) - (1 if correction is None else correction)
    return elementwise(nodes, "div", total, count)


def _var_mean(nodes: Nodes, x: Symbolic, dim=None, correction=1, keepdim: bool = False, **_):
    return _var(nodes, x, dim, correction, keepdim), _mean(nodes, x, dim, keepdim)


def _cumulative(nodes: Nodes, function: str, x: Symbolic, dim: int) -> Symbolic:
    columns = list(x.ids.unbind(dim))
    for i in range(1, len(columns)):
        pair = Symbolic(columns[i - 1], nodes), Symbolic(columns[i], nodes)
        columns[i] = elementwise(nodes, function, *pair).ids
    return Symbolic(torch.stack(columns, dim) if columns else x.ids.clone(), nodes, x.dtype)


def _norm(nodes: Nodes, x: Symbolic, ord=2, dim=None, keepdim: bool = False, **_) -> Symbolic:
    if ord != 2:
        raise ValueNeeded(f"it uses a norm of order {ord}")
    return elementwise(nodes, "sqrt", _reduce(nodes, "sum", elementwise(nodes, "mul", x, x), dim, keepdim))


def _matmul(nodes: Nodes, a, b) -> Symbolic:
    """mm, mv, dot and bmm: products, then sums."""
    left, right = numbers(nodes, a), numbers(nodes, b)
    if right.ndim == 1:
        products = _elementwise_ids(nodes, left, right)  # (..., k)
        return _reduce(nodes, "sum", products, -1)
    products = _elementwise_ids(nodes, left.unsqueeze(-1), right.unsqueeze(-3))  # (..., m, k, n)
    return _reduce(nodes, "sum", products, -2)


def _elementwise_ids(nodes: Nodes, a: Tensor, b: Tensor) -> Symbolic:
    return elementwise(nodes, "mul", Symbolic(a, nodes), Symbolic(b, nodes))


def _affine(nodes: Nodes, x, scale: float, offset: float) -> Symbolic:
    return _map(nodes, lambda i: nodes.affine(scale, offset, i), x)


def _add(nodes: Nodes, a, b, alpha=1, *, sign: float = 1.0) -> Symbolic:
    return _map(nodes, lambda i, j: nodes.apply("sum", i, nodes.affine(sign * alpha, 0.0, j)), a, b)


def _div(nodes: Nodes, a, b, rounding_mode: str | None = None) -> Symbolic:
    quotient = elementwise(nodes, "div", a, b)
    return quotient if rounding_mode is None else elementwise(nodes, rounding_mode, quotient)


_POWERS = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


def _pow(nodes: Nodes, a, b) -> Symbolic:
    if isinstance(b, int | float) and not isinstance(a, int | float):
        if b in (1, 2, 3):
            return _map(nodes, lambda i: nodes.apply("prod", *[i] * int(b)) if b > 1 else i, a)
        if b in _POWERS:
            return elementwise(nodes, _POWERS[b], a)
    return elementwise(nodes, "pow", a, b)


def _clamp(nodes: Nodes, x, min=None, max=None) -> Symbolic:
    """By selection, so that the gradient at a bound is 1 as in torch.clamp."""
    if min is not None:
        x = elementwise(nodes, "where", elementwise(nodes, "lt", x, min), min, x)
    return x if max is None else elementwise(nodes, "where", elementwise(nodes, "gt", x, max), max, x)


def _leaky_relu(nodes: Nodes, x, negative_slope=0.01) -> Symbolic:
    return elementwise(
        nodes, "where", elementwise(nodes, "gt", x, 0.0), x, _affine(nodes, x, negative_slope, 0.0)
    )


def _softplus(nodes: Nodes, x, beta=1, threshold=20) -> Symbolic:
    if (beta, threshold) != (1, 20):
        raise ValueNeeded("it uses softplus with options")
    return elementwise(nodes, "softplus", x)


def _gelu(nodes: Nodes, x, *, approximate: str = "none") -> Symbolic:
    return elementwise(nodes, "gelu" if approximate == "none" else "gelu_tanh", x)


def _to(nodes: Nodes, x: Symbolic, dtype=None, **_) -> Symbolic:
    """A cast between float dtypes is left to the layer's dtype; 0 and 1 stay what they are."""
    if dtype is not None and not dtype.is_floating_point and (x.dtype != torch.bool or dtype.is_complex):
        raise ValueNeeded(f"it casts a tensor to {dtype}")
    return Symbolic(x.ids.clone(), nodes)


def _plain(function: str) -> Callable[..., Symbolic]:
    return lambda nodes, *operands: elementwise(nodes, function, *operands)


FORMS: dict[str, Callable[..., Symbolic]] = {
    **{name: _plain(name) for name in PLAIN},
    **{name: _plain(name) for name in TESTS if not name.startswith("bitwise")},
    **{f"bitwise_{name}": _plain(f"logical_{name}") for name in _LOGIC},
    "add": _add,
    "sub": lambda nodes, a, b, alpha=1: _add(nodes, a, b, alpha, sign=-1.0),
    "rsub": lambda nodes, a, b, alpha=1: _add(nodes, b, a, alpha, sign=-1.0),
    "neg": lambda nodes, x: _affine(nodes, x, -1.0, 0.0),
    "div": _div,
    "pow": _pow,
    "square": lambda nodes, x: elementwise(nodes, "mul", x, x),
    "deg2rad": lambda nodes, x: _affine(nodes, x, math.pi / 180, 0.0),
    "rad2deg": lambda nodes, x: _affine(nodes, x, 180 / math.pi, 0.0),
    "sgn": _plain("sign"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda nodes, x, max: _clamp(nodes, x, None, max),
    "leaky_relu": _leaky_relu,
    "softplus": _softplus,
    "gelu": _gelu,
    "masked_fill": lambda nodes, x, mask, value: elementwise(nodes, "where", mask, value, x),
    "_to_copy": _to,
    "sum": lambda nodes, x, dim=None, keepdim=False, **_: _reduce(nodes, "sum", x, dim, keepdim),
    "prod": lambda nodes, x, dim=None, keepdim=False, **_: _reduce(nodes, "prod", x, dim, keepdim),
    "amax": lambda nodes, x, dim=None, keepdim=False: _reduce(nodes, "maximum", x, dim, keepdim),
    "amin": lambda nodes, x, dim=None, keepdim=False: _reduce(nodes, "minimum", x, dim, keepdim),
    "mean": _mean,
    "max": lambda nodes, x: _reduce(nodes, "maximum", x),
    "min": lambda nodes, x: _reduce(nodes, "minimum", x),
    "var": _var,
    "var_mean": _var_mean,
    "cumsum": lambda nodes, x, dim, **_: _cumulative(nodes, "sum", x, dim),
    "cumprod": lambda nodes, x, dim, **_: _cumulative(nodes, "prod", x, dim),
    "linalg_vector_norm": _norm,
    **dict.fromkeys(("mm", "mv", "dot", "vdot", "bmm"), _matmul),
}
