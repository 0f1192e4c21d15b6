"""What torch's operations do to tensors without values (`qlayers.symbolic`).

An operation that only moves elements (select, reshape, cat, ...) is the very same ATen operation on the
numbers of their expressions, in-place writes and aliasing included; arithmetic adds expressions
(`qlayers.arithmetic`). What is not known here raises `ValueNeeded`.
"""

import functools

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from qlayers.arithmetic import FORMS, TESTS, elementwise
from qlayers.expressions import Nodes
from qlayers.symbolic import Symbolic, ValueNeeded, numbers, symbolics

aten = torch.ops.aten


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# operations that move elements: run as they are on the numbers
LAYOUT = _set(
    "view _unsafe_view _reshape_alias reshape select slice narrow permute transpose t expand unsqueeze "
    "squeeze cat stack index index_select gather unbind split split_with_sizes chunk clone alias diagonal "
    "flip roll repeat unfold movedim lift_fresh lift_fresh_copy view_copy expand_copy select_copy "
    "slice_copy permute_copy transpose_copy t_copy unsqueeze_copy squeeze_copy alias_copy unbind_copy "
    "split_copy split_with_sizes_copy diagonal_copy unfold_copy"
)
LIKE = _set("zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty")
SHAPED = _set(
    "mm mv dot vdot bmm sum prod amax amin mean max min var var_mean cumsum cumprod linalg_vector_norm"
)
# compositions that torch spells out safely in the operations above and below
DECOMPOSED = _set(
    "_softmax _log_softmax addmm addmv addr addcmul addcdiv baddbmm addbmm lerp native_layer_norm hardtanh "
    "hardsigmoid hardswish std"
)


def dispatch(nodes: Nodes, func, args: tuple, kwargs: dict):
    """The result of an ATen operation some of whose arguments are traced tensors over `nodes`.

    Raises:
        ValueNeeded: it needs values, or has no symbolic form.
    """
    name = func._schema.name.removeprefix("aten::")
    if name.endswith("_") and not name.startswith("_"):
        return _in_place(nodes, func, name, args, kwargs)
    result = _run(nodes, func, name, args, kwargs)
    if torch.is_grad_enabled() or not isinstance(result, Symbolic) or name in LAYOUT:
        return result
    return elementwise(nodes, "detach", result)  # under no_grad the gradient ends here


def _run(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    if name == "detach":  # torch's own way of saying that the gradient ends
        return elementwise(nodes, "detach", args[0])
    if name in LAYOUT:
        return _layout(nodes, func, name, args, kwargs)
    if name in FORMS:
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
        found = FORMS[name](nodes, *args, **kwargs)
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
    found = {x.dtype for x in symbolics(args) if x.dtype.is_floating_point}
    return functools.reduce(torch.promote_types, found) if found else torch.float64


def _meta(x):
    """A tensor without data for shapes only, so of one dtype whatever the constants of the function have."""
    if not isinstance(x, Tensor):
        return x
    dtype = torch.float32 if x.dtype.is_floating_point else x.dtype
    return torch.empty_strided(x.shape, x.stride(), dtype=dtype, device="meta")


def _layout(nodes: Nodes, func, name: str, args: tuple, kwargs: dict):
    dtype = next(symbolics(args)).dtype
    if name in ("cat", "stack"):
        args = ([numbers(nodes, x) for x in args[0]], *args[1:])
    elif next(symbolics(args[1:], kwargs), None) is not None:
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
