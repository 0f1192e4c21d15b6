"""A batch of mutants that a model can be called on: a tensor that knows how little its rows differ.

The class answers PyTorch's functions itself (`__torch_function__`): those in `rules` work on the windows that
a mutation can reach; before any other, the mutants are written out in full, once, and ordinary tensors go on.
So every model gives the right answer, and whatever its code does before that point is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from biolayers.interpret import rules
from biolayers.interpret.patch import Base, Patch

_KNOWN = frozenset(  # answered from shape and dtype alone
    (
        "size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex",
        "element_size", "get_device", "__len__", "__hash__", "is_contiguous", "is_conj", "is_neg",
        "is_inference",
    )
)  # fmt: skip
_KNOWN_FIELDS = frozenset(  # and so are these attributes
    (
        "shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_cuda", "is_cpu", "is_meta",
        "is_sparse", "is_quantized", "is_mkldnn", "is_nested", "is_leaf", "grad_fn", "itemsize", "nbytes",
        "names", "is_mps", "is_xpu", "is_xla", "_backward_hooks",
    )
)  # fmt: skip


class Run:
    """One sequence's passes through a model, a chunk of mutants at a time.

    The base goes along with the first chunk; its activations, and weights in the order that the rules want,
    are kept for the others, by the number of the call.
    """

    def __init__(self, log: Callable[[str, Patch | None], None]) -> None:
        self.log = log
        self._kept: dict[tuple[int, str], Any] = {}
        self._call = 0

    def start(self, patch: Patch) -> Mutants:
        """The input of a pass."""
        self._call = 0
        return Mutants(self, patch)

    def keep(self, what: str, make: Callable[[], Any]) -> Any:
        """What `make` gave at the same call of the first chunk."""
        key = (self._call, what)
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def base(self, make: Callable[[], Tensor]) -> Base:
        """The base after the current call."""
        return self.keep("base", lambda: Base(make()))

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function on mutants: by a rule, or in full."""
        name, in_place = _name(function, kwargs)
        rule = rules.RULES.get(name)
        if rule is not None:
            self._call += 1
            bare = {key: value for key, value in kwargs.items() if key != "inplace"}
            found = rule(self, _patches(args), _patches(bare))
            if found is not NotImplemented:
                return self._answer(found, name, args[0] if in_place else None)
        self.log(name, None)
        return function(*_in_full(args), **_in_full(kwargs))

    def _answer(self, found: Any, name: str, changed: Mutants | None) -> Any:
        if not isinstance(found, (Patch, rules.Flat)):
            self.log(name, None)
            return found
        if isinstance(found, Patch):
            self.log(name, found)
        if changed is not None:
            changed.state = found
            return changed
        return Mutants(self, found)


class Mutants(Tensor):
    """(n, c, l) or, flattened, (n, c l): mutants by what differs from the base."""

    run: Run
    state: Patch | rules.Flat

    @staticmethod
    def __new__(cls, run: Run, state: Patch | rules.Flat) -> Mutants:
        patch = state if isinstance(state, Patch) else state.patch
        columns = patch.base.columns
        rest = columns.shape[1:] if isinstance(state, Patch) else (columns[0].numel(),)
        made = torch.Tensor._make_wrapper_subclass(
            cls, (patch.count, *rest), dtype=columns.dtype, device=columns.device
        )
        made.run, made.state = run, state
        return made

    def in_full(self) -> Tensor:
        """An ordinary tensor with the same values."""
        return self.state.dense()

    def __repr__(self) -> str:
        with torch._C.DisableTorchFunctionSubclass():
            return f"Mutants{tuple(self.shape)}"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in _KNOWN or _field(func) in _KNOWN_FIELDS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return _first(args, kwargs or {}).run.apply(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Whatever reaches the dispatcher past `__torch_function__`: in full."""
        return func(*_in_full(args), **_in_full(kwargs or {}))


def _name(function: Any, kwargs: dict[str, Any]) -> tuple[str, bool]:
    """The plain name of a function, and whether it changes its first argument."""
    name = function.__name__
    if name.startswith("__i") and name[3:-2] in ("add", "sub", "mul"):
        return name[3:-2], True
    if name.startswith("__"):
        return (_field(function) or name).strip("_"), False
    return name.rstrip("_"), name.endswith("_") or bool(kwargs.get("inplace"))


def _field(function: Any) -> str:
    """Whose getter a function is, if it is one."""
    return getattr(getattr(function, "__self__", None), "__name__", "") if _is_getter(function) else ""


def _is_getter(function: Any) -> bool:
    return getattr(function, "__name__", "") == "__get__"


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mutants:
    return next(value for value in _leaves((args, kwargs)) if isinstance(value, Mutants))


def _leaves(value: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(value)


def _in_full(value: Any) -> Any:
    return torch.utils._pytree.tree_map_only(Mutants, Mutants.in_full, value)


def _patches(value: Any) -> Any:
    return torch.utils._pytree.tree_map_only(Mutants, lambda mutants: mutants.state, value)
