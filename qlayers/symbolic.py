"""Tensors without values: what a quantum function computes its angles with while it is being captured.

A `Symbolic` looks to torch and PennyLane like a float tensor, but each element is the number of an expression
in `Nodes`. `qlayers.trace` says what an operation does to it. Whatever needs a value (`float(x)`,
`if x > 0`, `x.numpy()`) raises, and the layer then calls the function with real tensors at each forward. So
nothing that depends on a value can be fixed by accident.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from types import EllipsisType, NoneType

import torch
from torch import Tensor

from qlayers.expressions import Nodes

PLACES = frozenset((int, slice, EllipsisType, NoneType))  # what an index that only makes a view is built of
VIEWS = ("__getitem__", "permute", "transpose", "reshape", "unbind", "unsqueeze", "squeeze")


class ValueNeeded(Exception):  # noqa: N818  (not an error of the user: it selects another way to run)
    """The function needs the value of a tensor, not only its expression."""


class Symbolic(torch.Tensor):
    """A float tensor whose elements are expressions: `ids` (any shape, int64) numbers rows of `nodes`."""

    ids: Tensor
    nodes: Nodes

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(
        cls, ids: Tensor, nodes: Nodes, dtype: torch.dtype | None = None, requires_grad: bool = False
    ) -> "Symbolic":
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            ids.shape,
            strides=ids.stride(),
            dtype=dtype or torch.float64,
            device=ids.device,
            requires_grad=requires_grad,
        )
        self.ids, self.nodes = ids, nodes
        return self

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Symbolic(shape={tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        from qlayers.trace import dispatch

        kwargs = kwargs or {}
        nodes = next(symbolics(args, kwargs)).nodes
        try:
            return dispatch(nodes, func, args, kwargs)
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


def _direct(name: str) -> Callable:
    """A method that only moves elements, on inputs and weights without the way through torch's dispatcher.

    Most gates take such elements, the way costs 15 us, and half a second at its first use in a process. The
    elements are leaves that require grad, as inputs and weights are, so torch refuses to write into both.
    """
    method = getattr(torch.Tensor, name)

    @functools.wraps(method)
    def moved(self: Symbolic, *args, **kwargs):
        places = args[0] if args and type(args[0]) is tuple else args
        given = self.requires_grad and self.is_leaf and torch.is_grad_enabled()
        if not given or kwargs or not PLACES.issuperset(map(type, places)):
            return method(self, *args, **kwargs)
        found = method(self.ids, *args)
        if isinstance(found, Tensor):
            return Symbolic(found, self.nodes, self.dtype, requires_grad=True)
        return tuple(Symbolic(ids, self.nodes, self.dtype, requires_grad=True) for ids in found)

    return moved


for _name in VIEWS:
    setattr(Symbolic, _name, _direct(_name))
Symbolic.__module__ = "torch"  # PennyLane and autoray tell the kind of a tensor by the module of its class


def symbolics(*values) -> Iterator[Symbolic]:
    """The traced tensors among arguments; torch's own walk through any nest costs more than all else here."""
    for value in values:
        if isinstance(value, Symbolic):
            yield value
        elif isinstance(value, tuple | list):
            yield from symbolics(*value)
        elif isinstance(value, dict):
            yield from symbolics(*value.values())


def symbolic(ids: Tensor, nodes: Nodes) -> Symbolic:
    """A traced tensor that requires grad, as weights do; ids (any shape, int64) number its expressions."""
    return Symbolic(ids, nodes, requires_grad=True)


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


@contextlib.contextmanager
def known_to_pennylane() -> Iterator[None]:
    """Within this block PennyLane can handle traced tensors.

    It takes them for abstract ones and does not ask for their values, and it makes a tensor of a list with
    some of them. For anything else its answers stay what they are, so that other threads are not disturbed.
    """
    import autoray
    from pennylane import math as of_pennylane

    with _one_at_a_time:
        original, asarray = of_pennylane.is_abstract, autoray.get_lib_fn("torch", "asarray")

        def is_abstract(tensor, like=None):
            return isinstance(tensor, Symbolic) or original(tensor, like)

        def stacked(x, **options):
            found = next(symbolics(x), None) if isinstance(x, list | tuple) else None
            if found is None:
                return asarray(x, **options)
            return Symbolic(torch.stack([numbers(found.nodes, part) for part in x]), found.nodes)

        of_pennylane.is_abstract = is_abstract
        autoray.register_function("torch", "asarray", stacked)
        try:
            yield
        finally:
            of_pennylane.is_abstract = original
            autoray.register_function("torch", "asarray", asarray)


_one_at_a_time = threading.RLock()
