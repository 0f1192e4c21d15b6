"""Tensors without values: what a quantum function computes its angles with while it is being captured.

A `Symbolic` looks to torch and PennyLane like a float tensor, but each element is the number of an expression
in `Nodes`. An operation that only moves elements (select, reshape, cat, ...) is the very same ATen operation
on the int64 numbers, in-place writes and aliasing included; arithmetic adds expressions. Whatever needs a
value
(`float(x)`, `if x > 0`, `x.numpy()`) or is not known here raises, and the layer then calls the function with
real tensors at each forward. So nothing that depends on a value can be fixed by accident.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from qlayers.expressions import FUNCTIONS, Nodes

aten = torch.ops.aten


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


class ValueNeeded(Exception):  # noqa: N818  (not an error of the user: it selects another way to run)
    """The function needs the value of a tensor, not only its expression."""


# operations that move elements: run as they are on the numbers
LAYOUT = _set(
    "view _unsafe_view _reshape_alias reshape select slice narrow permute transpose t expand unsqueeze "
    "squeeze cat stack index index_select gather unbind split split_with_sizes chunk clone alias diagonal "
    "flip roll repeat unfold movedim lift_fresh lift_fresh_copy view_copy expand_copy select_copy "
    "slice_copy permute_copy transpose_copy t_copy unsqueeze_copy squeeze_copy alias_copy unbind_copy "
    "split_copy split_with_sizes_copy diagonal_copy unfold_copy"
)
LIKE = _set("zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty")
TESTS = _set("gt ge lt le eq ne logical_and logical_or logical_xor logical_not") | {
    f"bitwise_{name}" for name in ("and", "or", "xor", "not")
}
SHAPED = _set(
    "mm mv dot vdot bmm sum prod amax amin mean max min var var_mean cumsum cumprod linalg_vector_norm"
)
# compositions that torch spells out safely in the operations above and below
DECOMPOSED = _set(
    "_softmax _log_softmax addmm addmv addr addcmul addcdiv baddbmm addbmm lerp native_layer_norm hardtanh "
    "hardsigmoid hardswish std"
)


class Symbolic(torch.Tensor):
    """A float tensor whose elements are expressions: `ids` (any shape, int64) numbers rows of `nodes`."""

    ids: Tensor
    nodes: Nodes

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, ids: Tensor, nodes: Nodes, dtype: torch.dtype | None = None) -> "Symbolic":
        self = torch.Tensor._make_wrapper_subclass(
            cls, ids.shape, strides=ids.stride(), dtype=dtype or torch.float64, device=ids.device
        )
        self.ids, self.nodes = ids, nodes
        return self

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Symbolic(shape={tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        nodes = next(_symbolics(args, kwargs)).nodes
        name = func._schema.name.removeprefix("aten::")
        try:
            return _dispatch(nodes, func, name, args, kwargs)
        except ValueNeeded as error:
            nodes.refused = str(error)  # for a caller that swallows the exception and goes another way
            raise

    def numpy(self, *, force: bool = False):
        self._refuse("it turns a tensor into a NumPy array")

    def __array__(self, *args, **kwargs):
        self._refuse("it turns a tensor into a NumPy array")

    def tolist(self):
        self._refuse("it turns a tensor into a list")

    def _refuse(self, reason: str):
        self.nodes.refused = reason
        raise ValueNeeded(reason)


def _symbolics(*values) -> Iterator[Symbolic]:
    """The traced tensors among arguments; torch's own walk through any nest costs more than all else here."""
    for value in values:
        if isinstance(value, Symbolic):
            yield value
        elif isinstance(value, tuple | list):
            yield from _symbolics(*value)
        elif isinstance(value, dict):
            yield from _symbolics(*value.values())


def _dispatch(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    if name.endswith("_") and not name.startswith("_"):
        return _in_place(nodes, func, name, args, kwargs)
    result = _run(nodes, func, name, args, kwargs)
    if torch.is_grad_enabled() or not isinstance(result, Symbolic) or name in LAYOUT:
        return result
    return _elementwise(nodes, "detach", result)  # under no_grad the gradient ends here


Symbolic.__module__ = "torch"  # PennyLane and autoray tell the kind of a tensor by the module of its class


@contextlib.contextmanager
def known_as_abstract() -> Iterator[None]:
    """Within this block PennyLane takes traced tensors for abstract ones, and does not ask for their values.

    For any other tensor its answer stays what it is, so that other threads are not disturbed.
    """
    from pennylane import math as of_pennylane

    with _one_at_a_time:
        original = of_pennylane.is_abstract

        def is_abstract(tensor, like=None):
            return isinstance(tensor, Symbolic) or original(tensor, like)

        of_pennylane.is_abstract = is_abstract
        try:
            yield
        finally:
            of_pennylane.is_abstract = original


_one_at_a_time = threading.RLock()


def symbolic(ids: list | int, nodes: Nodes, shape: tuple[int, ...]) -> Symbolic:
    """A traced tensor of the given shape that requires grad, as weights do."""
    return Symbolic(torch.tensor(ids, dtype=torch.int64, device="cpu").reshape(shape), nodes).requires_grad_()


def numbers(nodes: Nodes, value) -> Tensor:
    """The expression numbers of anything numeric; plain tensors and Python numbers are constants."""
    if isinstance(value, Symbolic):
        return value.ids
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64, device="cpu")
    if tensor.requires_grad:
        raise ValueNeeded("it uses a tensor that requires grad and is not one of its weights")
    if tensor.is_complex():
        raise ValueNeeded("it computes its angles with complex numbers")
    ids = [nodes.constant(float(v)) for v in tensor.detach().reshape(-1).tolist()]
    return torch.tensor(ids, dtype=torch.int64, device="cpu").reshape(tensor.shape)


def _run(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    if name == "detach":  # torch's own way of saying that the gradient ends
        return _elementwise(nodes, "detach", args[0])
    if name in LAYOUT:
        return _layout(nodes, func, name, args, kwargs)
    if name in COMPUTED:
        return _symbolic(nodes, func, name, args, kwargs)
    if name in LIKE:
        like = torch.zeros(args[0].shape, dtype=args[0].dtype, device="cpu")
        return Symbolic(
            numbers(nodes, func(like, *args[1:], **{**kwargs, "device": None})), nodes, args[0].dtype
        )
    if name in DECOMPOSED:
        return torch._decomp.decomposition_table[func](*args, **kwargs)
    if name == "_local_scalar_dense":
        row = nodes.rows[int(args[0].ids)]
        if row[0] == "constant":
            return row[1]
        raise ValueNeeded("it turns a tensor into a Python number or decides by its value")
    if func._can_decompose():  # torch's own definition in terms of other operations
        return func.decompose(*args, **kwargs)
    raise ValueNeeded(f"it uses torch's {name}, which has no symbolic form here")


def _symbolic(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    """The symbolic form of an operation; shapes that do not just broadcast are held against torch's."""
    try:
        found = COMPUTED[name](nodes, *args, **kwargs)
    except TypeError as error:  # an overload with arguments that the symbolic form does not take
        raise ValueNeeded(f"it uses torch's {func}, which has no symbolic form here") from error
    if name in SHAPED:
        expected = func(*tree_map(_meta, args), **tree_map(_meta, kwargs))
        if [x.shape for x in tree_leaves(found)] != [x.shape for x in tree_leaves(expected)]:
            raise ValueNeeded(f"it uses torch's {func} in a way that has no symbolic form here")
    if name == "_to_copy":
        return Symbolic(found.ids, nodes, kwargs.get("dtype") or args[0].dtype)
    dtype = torch.bool if name in TESTS else _dtype(args)
    return tree_map(lambda x: Symbolic(x.ids, nodes, dtype), found, is_leaf=lambda x: isinstance(x, Symbolic))


def _dtype(args: tuple) -> torch.dtype:
    """The dtype of a result: what the floating tensors promote to."""
    found = {x.dtype for x in _symbolics(args) if x.dtype.is_floating_point}
    return functools.reduce(torch.promote_types, found) if found else torch.float64


def _meta(x):
    """A tensor without data for shapes only, so of one dtype whatever the constants of the function have."""
    if not isinstance(x, Tensor):
        return x
    dtype = torch.float32 if x.dtype.is_floating_point else x.dtype
    return torch.empty_strided(x.shape, x.stride(), dtype=dtype, device="meta")


def _layout(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    dtype = next(_symbolics(args)).dtype
    if name in ("cat", "stack"):
        args = ([numbers(nodes, x) for x in args[0]], *args[1:])
    elif next(_symbolics(args[1:], kwargs), None) is not None:
        raise ValueNeeded("it uses a computed tensor as an index")
    elif not isinstance(args[0], Symbolic):
        raise ValueNeeded(f"it mixes tensors in torch's {name}")
    else:
        args = (args[0].ids, *args[1:])
    moved = func(*args, **kwargs)
    if isinstance(moved, Tensor):
        return Symbolic(moved, nodes, dtype)
    return [Symbolic(ids, nodes, dtype) for ids in moved]


def _in_place(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    target = args[0]
    if not isinstance(target, Symbolic):
        raise ValueNeeded("it writes computed values into a plain tensor")
    if name == "copy_":
        target.ids.copy_(numbers(nodes, args[1]))
    elif name in ("fill_", "zero_"):
        target.ids.copy_(numbers(nodes, args[1] if name == "fill_" else 0.0))
    elif name == "index_put_" and not (args[3:] and args[3]):
        target.ids.index_put_(args[1], numbers(nodes, args[2]))
    else:
        functional = getattr(getattr(aten, name[:-1], None), func._overloadname, None)
        if functional is None:
            raise ValueNeeded(f"it uses torch's {name}, which has no symbolic form here")
        target.ids.copy_(_run(nodes, functional, name[:-1], args, kwargs).ids)
    return target


def _elementwise(nodes: Nodes, function: str, *operands) -> Symbolic:
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
    total = _reduce(nodes, "sum", _elementwise(nodes, "mul", off, off), dim, keepdim)
    count = x.numel() / max(total.numel(), 1) - (1 if correction is None else correction)
    return _elementwise(nodes, "div", total, count)


def _var_mean(nodes: Nodes, x: Symbolic, dim=None, correction=1, keepdim: bool = False, **_):
    return _var(nodes, x, dim, correction, keepdim), _mean(nodes, x, dim, keepdim)


def _cumulative(nodes: Nodes, function: str, x: Symbolic, dim: int) -> Symbolic:
    columns = list(x.ids.unbind(dim))
    for i in range(1, len(columns)):
        pair = Symbolic(columns[i - 1], nodes), Symbolic(columns[i], nodes)
        columns[i] = _elementwise(nodes, function, *pair).ids
    return Symbolic(torch.stack(columns, dim) if columns else x.ids.clone(), nodes, x.dtype)


def _norm(nodes: Nodes, x: Symbolic, ord=2, dim=None, keepdim: bool = False, **_) -> Symbolic:
    if ord != 2:
        raise ValueNeeded(f"it uses a norm of order {ord}")
    return _elementwise(nodes, "sqrt", _reduce(nodes, "sum", _elementwise(nodes, "mul", x, x), dim, keepdim))


def _matmul(nodes: Nodes, a, b) -> Symbolic:
    """mm, mv, dot and bmm: products, then sums."""
    left, right = numbers(nodes, a), numbers(nodes, b)
    if right.ndim == 1:
        products = _elementwise_ids(nodes, left, right)  # (..., k)
        return _reduce(nodes, "sum", products, -1)
    products = _elementwise_ids(nodes, left.unsqueeze(-1), right.unsqueeze(-3))  # (..., m, k, n)
    return _reduce(nodes, "sum", products, -2)


def _elementwise_ids(nodes: Nodes, a: Tensor, b: Tensor) -> Symbolic:
    return _elementwise(nodes, "mul", Symbolic(a, nodes), Symbolic(b, nodes))


def _affine(nodes: Nodes, x, scale: float, offset: float) -> Symbolic:
    return _map(nodes, lambda i: nodes.affine(scale, offset, i), x)


def _add(nodes: Nodes, a, b, alpha=1, *, sign: float = 1.0) -> Symbolic:
    return _map(nodes, lambda i, j: nodes.apply("sum", i, nodes.affine(sign * alpha, 0.0, j)), a, b)


def _div(nodes: Nodes, a, b, rounding_mode: str | None = None) -> Symbolic:
    quotient = _elementwise(nodes, "div", a, b)
    return quotient if rounding_mode is None else _elementwise(nodes, rounding_mode, quotient)


_POWERS = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


def _pow(nodes: Nodes, a, b) -> Symbolic:
    if isinstance(b, int | float) and not isinstance(a, int | float):
        if b in (1, 2, 3):
            return _map(nodes, lambda i: nodes.apply("prod", *[i] * int(b)) if b > 1 else i, a)
        if b in _POWERS:
            return _elementwise(nodes, _POWERS[b], a)
    return _elementwise(nodes, "pow", a, b)


def _clamp(nodes: Nodes, x, min=None, max=None) -> Symbolic:
    """By selection, so that the gradient at a bound is 1 as in torch.clamp."""
    if min is not None:
        x = _elementwise(nodes, "where", _elementwise(nodes, "lt", x, min), min, x)
    return x if max is None else _elementwise(nodes, "where", _elementwise(nodes, "gt", x, max), max, x)


def _leaky_relu(nodes: Nodes, x, negative_slope=0.01) -> Symbolic:
    return _elementwise(
        nodes, "where", _elementwise(nodes, "gt", x, 0.0), x, _affine(nodes, x, negative_slope, 0.0)
    )


def _softplus(nodes: Nodes, x, beta=1, threshold=20) -> Symbolic:
    if (beta, threshold) != (1, 20):
        raise ValueNeeded("it uses softplus with options")
    return _elementwise(nodes, "softplus", x)


def _gelu(nodes: Nodes, x, *, approximate: str = "none") -> Symbolic:
    return _elementwise(nodes, "gelu" if approximate == "none" else "gelu_tanh", x)


def _to(nodes: Nodes, x: Symbolic, dtype=None, **_) -> Symbolic:
    """A cast between float dtypes is left to the layer's dtype; 0 and 1 stay what they are."""
    if dtype is not None and not dtype.is_floating_point and (x.dtype != torch.bool or dtype.is_complex):
        raise ValueNeeded(f"it casts a tensor to {dtype}")
    return Symbolic(x.ids.clone(), nodes)


def _plain(function: str) -> Callable[..., Symbolic]:
    return lambda nodes, *operands: _elementwise(nodes, function, *operands)


COMPUTED: dict[str, Callable[..., Symbolic]] = {
    **{
        name: _plain(name) for name, (count, _) in FUNCTIONS.items() if count == 1 and name not in ("detach",)
    },
    **{
        name: _plain(name)
        for name in _set("mul atan2 hypot maximum minimum fmod remainder xlogy where copysign")
    },
    **{name: _plain(name) for name in TESTS if not name.startswith("bitwise")},
    **{f"bitwise_{name}": _plain(f"logical_{name}") for name in ("and", "or", "xor", "not")},
    "add": _add,
    "sub": lambda nodes, a, b, alpha=1: _add(nodes, a, b, alpha, sign=-1.0),
    "rsub": lambda nodes, a, b, alpha=1: _add(nodes, b, a, alpha, sign=-1.0),
    "neg": lambda nodes, x: _affine(nodes, x, -1.0, 0.0),
    "div": _div,
    "pow": _pow,
    "square": lambda nodes, x: _elementwise(nodes, "mul", x, x),
    "deg2rad": lambda nodes, x: _affine(nodes, x, math.pi / 180, 0.0),
    "rad2deg": lambda nodes, x: _affine(nodes, x, 180 / math.pi, 0.0),
    "sgn": _plain("sign"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda nodes, x, max: _clamp(nodes, x, None, max),
    "leaky_relu": _leaky_relu,
    "softplus": _softplus,
    "gelu": _gelu,
    "masked_fill": lambda nodes, x, mask, value: _elementwise(nodes, "where", mask, value, x),
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
