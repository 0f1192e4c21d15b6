"""Whether a call is plain: in eager mode, on ordinary CPU tensors, autograd being all that it may concern.

Then PyTorch's dispatcher, which costs a small op more than its arithmetic does, has nothing to add, and
`shared.derive` goes the short way round it. Transforms, tracing, compiling, modes, autocast, subclasses,
wrappers and profiling are not plain. The private names of PyTorch that `shared` needs are all in this file.
Where one that tells plain calls is missing, no call is plain, which costs time and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# without this one no route is right, so there is nothing to fall back on
transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active  # type: ignore[attr-defined]


# a scope in which forward mode is on or off; without it a tangent rule forgets the levels further out
set_forward_mode: Callable[[bool], contextlib.AbstractContextManager[Any]] = forward_ad._set_fwd_grad_enabled


def forward_mode_active() -> bool:
    """Whether a level of forward-mode differentiation is open."""
    return forward_ad._current_level >= 0


def _bits(*keys: str) -> int:
    """A set of dispatch keys as a number."""
    found = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, keys[0]))
    for key in keys[1:]:
        found = found.add(getattr(torch._C.DispatchKey, key))
    return found.raw_repr()


try:
    # An ordinary tensor has these keys, or without the last two if made in inference mode. Lazy negation and
    # conjugation, zeros without memory, sparse layouts and the wrappers of transforms have keys of their own.
    _ORDINARY = frozenset(
        {_bits("CPU", "AutocastCPU", "ADInplaceOrView", "AutogradCPU"), _bits("CPU", "AutocastCPU")}
    )
    # What this thread adds to every call, outside inference mode and in it; tracing, functionalization,
    # transforms and modes add more.
    _QUIET = frozenset({_bits("BackendSelect", "ADInplaceOrView"), _bits("BackendSelect")})
    _AUTOGRAD = torch._C.DispatchKey.AutogradFunctionality
    _keys_of = torch._C._dispatch_keys
    _included = torch._C._dispatch_tls_local_include_set
    _excluded = torch._C._dispatch_tls_is_dispatch_key_excluded
    _function_modes = torch._C._len_torch_function_stack
    _profiling = torch.autograd._profiler_enabled  # pyright: ignore[reportPrivateImportUsage]
    _any_requires_grad = torch._C._any_requires_grad
    AVAILABLE = True
except (AttributeError, TypeError):
    AVAILABLE = False

_TYPES = frozenset({Tensor, torch.nn.Parameter})
_autocast = torch.is_autocast_enabled


def is_plain(tensors: Iterable[Any]) -> bool:
    """Whether a call on these tensors is plain here and now; it takes about 0.4 us per tensor to tell.

    Not for code that Dynamo may trace: ask `torch.compiler.is_dynamo_compiling()` first.

    Example:
        >>> import torch
        >>> is_plain([torch.ones(2)])
        True
        >>> with torch.autocast("cpu"):
        ...     is_plain([torch.ones(2)])
        False
    """
    if (
        not AVAILABLE
        or _included().raw_repr() not in _QUIET
        or _function_modes()
        or forward_ad._current_level >= 0
        or _autocast("cpu")
        or _profiling()
    ):
        return False
    for tensor in tensors:
        if tensor is not None and (
            type(tensor) not in _TYPES or _keys_of(tensor).raw_repr() not in _ORDINARY
        ):
            return False
    return True


def records_gradient(args: Iterable[Any]) -> bool:
    """Whether autograd records a plain call on these arguments."""
    return torch.is_grad_enabled() and _any_requires_grad(*args) and not _excluded(_AUTOGRAD)


def applier(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """`function.apply` for plain calls, without the 2 us in which it prepares for `torch.func`."""
    return getattr(super(torch.autograd.Function, function), "apply", function.apply)
