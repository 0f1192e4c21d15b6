"""Which kernel runs, and why: an op is the meaning, a kernel is one provider of it.

A kernel is considered when its package is there, its device and dtypes fit, its `when` predicate gives no
reason against the arguments, and nobody asked for another provider. What rules it out is kept as a sentence,
so that `explain` can print it and an error can list it. The reference is always the last candidate.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shared.errors import UserError

if TYPE_CHECKING:
    from shared.declare import Op

REFERENCE = "reference"
_EVERY_OP = "*"


class NoProviderError(UserError, RuntimeError):
    """No provider of an op can run: the message lists each with its reason, then the arguments."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """One provider of an op: what it needs, what it takes, and how to run it.

    `when` and `available` return None, or the reason why not. `target` ("module:function") is imported when
    the kernel is first wanted, so that declaring a kernel costs nothing; `check` then looks at its signature.
    """

    provider: str
    device: str | None = None
    dtypes: frozenset[torch.dtype] | None = None
    priority: int = 0
    needs: tuple[str, ...] = ()
    available: Callable[[], str | None] | None = None
    when: Callable[..., str | None] | None = None
    target: str | Callable[..., Any] = field(default="", repr=False)
    check: Callable[[Callable[..., Any]], None] | None = field(default=None, repr=False)

    @functools.cached_property
    def run(self) -> Callable[..., Any]:
        """The host function: takes the op's arguments, returns fresh contiguous tensors."""
        if callable(self.target):
            return self.target
        module, _, function = self.target.partition(":")
        run = getattr(importlib.import_module(module), function)
        if self.check is not None:
            self.check(run)
        return run

    @functools.cached_property
    def missing(self) -> str | None:
        """Why this kernel cannot run on this machine at all, or None."""
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed"
        return self.available() if self.available else None

    def refuses_types(self, device: str, dtypes: Sequence[torch.dtype]) -> str | None:
        """Why this kernel cannot take tensors of this device and these floating dtypes, or None."""
        if self.device is not None and device != self.device:
            return f"needs {self.device} tensors, got {device}"
        if self.dtypes is None:
            return None
        foreign = [dtype for dtype in dtypes if dtype not in self.dtypes]
        if foreign:
            return f"takes {_names(sorted(self.dtypes, key=str))}, got {_names(foreign)}"
        if len(set(dtypes)) > 1:
            return f"needs one floating dtype, got {_names(dtypes)}"
        return None


@dataclass(frozen=True)
class Verdict:
    """One line of an explanation: a provider, and None (it can run) or the reason why it does not."""

    provider: str
    reason: str | None
    chosen: bool


@dataclass(frozen=True)
class Explanation:
    """Why a call of an op runs where it runs; prints as a small table."""

    op: str
    verdicts: tuple[Verdict, ...]
    arguments: str

    @property
    def chosen(self) -> str | None:
        """The provider that runs, or None when none can."""
        return next((verdict.provider for verdict in self.verdicts if verdict.chosen), None)

    def __str__(self) -> str:
        width = max(len(verdict.provider) for verdict in self.verdicts)
        lines = [f"{self.op}({self.arguments})"]
        for verdict in self.verdicts:
            lines.append(f"  {verdict.provider:<{width}}  {'chosen' if verdict.chosen else verdict.reason}")
        return "\n".join(lines)

    __repr__ = __str__


# preferences: the innermost `prefer` scope of this context, else the environment

_scopes: ContextVar[Mapping[str, tuple[str, ...]] | None] = ContextVar("qbio_prefer", default=None)


@contextlib.contextmanager
def prefer(*providers: str, op: str = _EVERY_OP) -> Iterator[None]:
    """Force providers within a `with` block: only those named may run, tried in the order given.

    An op that has none of them is not affected. The scope belongs to this thread (and asyncio task); work
    that PyTorch hands to its own device threads, such as a CUDA backward, does not see it: set the
    environment variable `QBIO_PREFER` for that (`QBIO_PREFER=reference`, or by op
    `QBIO_PREFER="qlayers::pauli_expval=numba"`, several separated by semicolons).

    Raises:
        UserError: a name that no registered op has as a provider.

    Example:
        >>> import shared
        >>> with shared.prefer("reference"):
        ...     pass
    """
    _check_known(providers, "prefer()")
    merged = {**(_scopes.get() or _environment()), op: providers}
    if op == _EVERY_OP:
        merged = {_EVERY_OP: providers}
    token = _scopes.set(merged)
    try:
        yield
    finally:
        _scopes.reset(token)


@functools.cache
def _environment() -> Mapping[str, tuple[str, ...]]:
    wanted: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in os.environ.get("QBIO_PREFER", "").split(";"))):
        name, _, providers = entry.rpartition("=")
        wanted[name.strip() or _EVERY_OP] = tuple(provider.strip() for provider in providers.split(","))
    for name, providers in wanted.items():
        _check_known(providers, f"QBIO_PREFER ({name})" if name != _EVERY_OP else "QBIO_PREFER")
    return wanted


def preference(op: Op) -> tuple[str, ...]:
    """The providers that may run for `op` here and now; empty when nobody asked for any."""
    wanted = _scopes.get()
    if wanted is None:
        wanted = _environment()
    if not wanted:
        return ()
    return wanted.get(op.name) or wanted.get(_EVERY_OP, ())


def _check_known(providers: Sequence[str], who: str) -> None:
    from shared.declare import registry

    if set(providers) <= {REFERENCE}:
        return
    known = {REFERENCE} | {kernel.provider for op in registry().values() for kernel in op.kernels}
    for provider in providers:
        if provider not in known:
            raise UserError(
                f"{who}: expected a provider among {', '.join(sorted(known))}, received {provider!r}; "
                "import the package that brings it first"
            )


# choosing


def choose(op: Op, args: Sequence[Any]) -> Kernel:
    """The kernel that runs `op` on `args`.

    Raises:
        NoProviderError: no provider can.
    """
    key = (_key(op, args), preference(op))
    candidates = op.candidates.get(key)
    if candidates is None:
        candidates = tuple(k for k, reason in _static_verdicts(op, *key) if reason is None)
        op.candidates[key] = candidates
    for kernel in candidates:
        if kernel.when is None or kernel.when(*args) is None:
            return kernel
    raise NoProviderError(f"no provider can run this call\n{explain(op, *args)}")


def explain(op: Op, *args: Any) -> Explanation:
    """Say which provider would run `op` on these arguments, and why each other one would not.

    Example:
        >>> import torch, shared
        >>> @shared.op("doctest::double")
        ... def double(x: torch.Tensor) -> torch.Tensor:
        ...     return x * 2
        >>> print(shared.explain(double, torch.ones(2)))
        doctest::double(x: float32[2] cpu)
          reference  chosen
    """
    args = op.complete(args)
    verdicts: list[Verdict] = []
    chosen = False
    for kernel, reason in _static_verdicts(op, _key(op, args), preference(op)):
        if reason is None and kernel.when is not None:
            reason = kernel.when(*args)
        runs = reason is None and not chosen
        verdicts.append(Verdict(kernel.provider, None if runs else reason or "outranked", runs))
        chosen = chosen or runs
    return Explanation(op.name, tuple(verdicts), _describe(op, args))


def _key(op: Op, args: Sequence[Any]) -> tuple[Any, ...]:
    """Device and dtypes of the tensor arguments: all that the static part of the choice depends on."""
    return tuple([(t.device, t.dtype) for t in op.tensors_of(args) if t is not None])


def _static_verdicts(
    op: Op, key: tuple[Any, ...], wanted: tuple[str, ...]
) -> Iterator[tuple[Kernel, str | None]]:
    devices = {device.type for device, _ in key}
    device = next(iter(devices)) if len(devices) == 1 else " and ".join(sorted(devices)) or "no"
    dtypes = [dtype for _, dtype in key if dtype.is_floating_point]
    ranked = sorted(op.kernels, key=lambda kernel: -kernel.priority)
    everyone = [*ranked, op.reference_kernel]
    applies = any(kernel.provider in wanted for kernel in everyone)
    if applies:
        everyone.sort(key=lambda k: wanted.index(k.provider) if k.provider in wanted else len(wanted))
    for kernel in everyone:
        if applies and kernel.provider not in wanted:
            yield kernel, f"not preferred here (preferred: {', '.join(wanted)})"
        else:
            yield kernel, kernel.missing or kernel.refuses_types(device, dtypes)


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes))


def _describe(op: Op, args: Sequence[Any]) -> str:
    def one(value: Any) -> str:
        if not isinstance(value, Tensor):
            return repr(value)
        return f"{_names([value.dtype])}[{', '.join(map(str, value.shape))}] {value.device}"

    return ", ".join(f"{name}: {one(value)}" for name, value in zip(op.parameters, args, strict=False))
