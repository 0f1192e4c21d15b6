"""Declare an op once: its reference in plain PyTorch is its definition, everything else hangs on it."""

from __future__ import annotations

import functools
import inspect
import keyword
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared import autocast, catalogue, derive, dispatch, fallback, library, schema
from shared.catalogue import registry
from shared.dispatch import REFERENCE, Explanation, Kernel

__all__ = ["Cost", "NotDifferentiableError", "Op", "op", "registry"]


@dataclass(frozen=True)
class Cost:
    """What one call of an op has to do at least: floating-point operations, and bytes read and written."""

    flops: int
    bytes: int


def op(name: str, *, differentiable: bool = True) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op; the decorated function is its reference and thereby its definition.

    The reference is plain PyTorch: functional, readable as the mathematics, annotated with types that
    `torch.library.infer_schema` knows (`Tensor`, `int`, `float`, `bool`, `str`, lists of the plain ones;
    jaxtyping's array types count as `Tensor`). It may not depend on the values in its tensors for shapes or
    control flow, so that every transform can trace it. From it the op has at once: a schema, a kernel on any
    device, a fake kernel for `torch.compile` and `torch.export`, derivatives of any order and mode, and a
    batch rule. Each can then be replaced by something faster: see the methods of `Op`.

    Args:
        name: `"namespace::name"`.
        differentiable: False for an op whose derivative does not exist or whose reference is too large to
            differentiate; a backward through it is then an error that names the op.

    Raises:
        ValueError: the name is malformed or already declared elsewhere, or the signature cannot be a schema.

    Example:
        >>> import torch, shared
        >>> @shared.op("doctest::scaled_sum")
        ... def scaled_sum(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        ...     return scale * x.sum(-1)
        >>> x = torch.ones(2, 3, requires_grad=True)
        >>> scaled_sum(x).sum().backward()
        >>> x.grad[0]
        tensor([2., 2., 2.])
        >>> torch.func.vmap(torch.func.grad(scaled_sum))(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    namespace, separator, bare = name.partition("::")
    if not separator or not all(
        part.isidentifier() and not keyword.iskeyword(part) for part in (namespace, bare)
    ):
        raise ValueError(f'op: expected a name like "namespace::name", received {name!r}')

    def declare(reference: Callable[..., Any]) -> Op:
        return Op(name, reference, differentiable=differentiable)

    return declare


class Op:
    """A declared op: call it like a function; its methods add kernels, rules and knowledge.

    Made by `op`. Instances are pickled and copied by name.
    """

    def __init__(self, name: str, reference: Callable[..., Any], *, differentiable: bool) -> None:
        self.name = name
        self.reference = reference
        self.kernels: list[Kernel] = []
        self.candidates: dict[Any, tuple[Kernel, ...]] = {}  # dispatch.choose's cache
        self.reference_kernel = Kernel(REFERENCE, target=fallback.as_kernel(self))
        self.autocast_dtypes: dict[str, torch.dtype] = {}
        self.differentiable = differentiable
        self._fake: Callable[..., Any] | None = None
        self._derivative: Callable[..., Any] | None = None
        self._saves: Callable[..., Sequence[Any]] | None = None
        self._saves_output = False
        self._tangent: Callable[..., Any] | None = None
        self._batch: Callable[..., tuple[Any, Any]] | None = None
        self._cost: Callable[..., Cost] | None = None
        self._samples: Callable[[], Iterable[tuple[Any, ...]]] | None = None
        self.batch_axes: dict[str, int] | None = None
        functools.update_wrapper(self, reference)
        self._read_signature()
        catalogue.make_room(self)
        self.library, self.overload = library.register(self)
        catalogue.add(self)
        arguments = self.overload._schema.arguments
        self.tensor_positions = tuple(
            i for i, a in enumerate(arguments) if str(a.type) in ("Tensor", "Optional[Tensor]")
        )
        self.tensors_of = _picker(self.tensor_positions)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = self.positional(args, kwargs)
        return derive.route(self, args)

    def __repr__(self) -> str:
        return f"<op {self.name}{self.schema}: {', '.join([*(k.provider for k in self.kernels), REFERENCE])}>"

    def __reduce__(self) -> tuple[Callable[..., Op], tuple[str, str]]:
        return catalogue.restore, (self.reference.__module__, self.name)

    # what a declaration can add

    def kernel(
        self,
        provider: str,
        *,
        target: str | None = None,
        device: str | None = None,
        dtypes: Iterable[torch.dtype] | None = None,
        needs: Sequence[str] = (),
        available: Callable[[], str | None] | None = None,
        when: Callable[..., str | None] | None = None,
        priority: int = 0,
    ) -> Any:
        """Add a provider; with `target="module:function"` directly, else as a decorator of the host function.

        Args:
            provider: its name in `explain` and `prefer`.
            target: where the host function lives; imported when first wanted.
            device: device type whose tensors it takes (None: any).
            dtypes: floating dtypes that it takes, one for all floating arguments of a call (None: any).
            needs: packages that must be importable.
            available: returns None, or the reason why this machine cannot run it; asked once.
            when: takes the op's arguments, returns None or the reason against this call; must also hold on
                symbolic shapes.
            priority: the highest goes first; the reference is always last.

        Raises:
            TypeError: the host function's parameters differ from the reference's (a `target` is looked at
                when it is imported).
        """

        def add(run: str | Callable[..., Any]) -> Any:
            def check(function: Callable[..., Any]) -> None:
                self._check_signature(function, f"kernel {provider!r}")

            if callable(run):
                check(run)
            self.kernels.append(
                Kernel(
                    provider=provider,
                    device=device,
                    dtypes=None if dtypes is None else frozenset(dtypes),
                    priority=priority,
                    needs=tuple(needs),
                    available=available,
                    when=when,
                    target=run,
                    check=check,
                )
            )
            self.candidates.clear()
            return run

        return add if target is None else add(target)

    def fake(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule for shapes and dtypes (default: the reference on fake tensors)."""
        self._check_signature(function, "fake")
        self._fake = function
        return function

    def derivative(self, *, saves: Callable[..., Sequence[Any]]) -> Callable[..., Any]:
        """Set the derivative (default: the reference is evaluated again and differentiated).

        The decorated function `(saved, needs, *grads)` gets what `saves(*args)` returned (`saves` may take
        `output=` too), which arguments need a gradient, and the gradient of each output; it returns one
        gradient, or None, per argument. Write it in PyTorch and ops, and it differentiates again.
        """
        self._saves = saves
        self._saves_output = "output" in inspect.signature(saves).parameters

        def keep(function: Callable[..., Any]) -> Callable[..., Any]:
            self._derivative = function
            return function

        return keep

    def tangent(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule of forward mode (default: the reference is evaluated and differentiated).

        The decorated function `(args, tangents)` gets all arguments, and for each its direction, or None
        where it does not move; at least one moves. It returns the derivative of the output along the
        directions; of several outputs, a tuple with one for each floating and None for each other. Write it
        in PyTorch and ops, and it differentiates again, in either mode.

        Example:
            >>> import torch, shared
            >>> @shared.op("doctest::squared")
            ... def squared(x: torch.Tensor) -> torch.Tensor:
            ...     return x * x
            >>> @squared.tangent
            ... def _(args, tangents):
            ...     (x,), (along,) = args, tangents
            ...     return 2 * x * along
            >>> torch.func.jvp(squared, (torch.tensor(3.0),), (torch.tensor(1.0),))
            (tensor(9.), tensor(6.))
        """
        self._tangent = rule
        return rule

    def batch(self, rule: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
        """Set the `vmap` rule `(again, dims, *args) -> (output, out_dim)`; default: a loop over the axis.

        `dims` holds the mapped axis of each argument, or None; `again` is the op, to be called on arguments
        into which the mapped axis has been folded.
        """
        self._batch = rule
        return rule

    def autocast(self, **dtypes: torch.dtype) -> None:
        """Compute in this dtype inside `torch.autocast` regions: `autocast(cpu=torch.float32)`."""
        for device, dtype in dtypes.items():
            self.autocast_dtypes[device] = dtype
            torch.library.register_autocast(self.name, device, dtype, lib=self.library)

    def cost(self, function: Callable[..., Cost]) -> Callable[..., Cost]:
        """Set the cost model: the op's arguments (only shapes may be used) to a `Cost`."""
        self._check_signature(function, "cost")
        self._cost = function
        library.register_flops(self)
        return function

    def samples(
        self,
        function: Callable[[], Iterable[tuple[Any, ...]]] | None = None,
        *,
        batch_axes: Mapping[str, int] | None = None,
    ) -> Callable[..., Any]:
        """Set the example arguments that the conformance matrix runs on: as `@f.samples`, or with options.

        Args:
            function: returns argument tuples, float64 and small (a few dozen elements), at awkward sizes; at
                least one with a batch of two or more, and together they should reach every kernel.
            batch_axes: which axis of which tensor argument runs over the batch, by parameter name; `{}` for
                an op without one. Cutting all of them into parts must give the parts of the result, or
                addends of it. The matrix then also tries an empty batch, other batch sizes, and two processes
                that share the batch.

        Raises:
            ValueError: `batch_axes` names something that is not a tensor parameter.

        Example:
            >>> import torch, shared
            >>> @shared.op("doctest::centred")
            ... def centred(x: torch.Tensor) -> torch.Tensor:
            ...     return x - x.mean(-1, keepdim=True)
            >>> @centred.samples(batch_axes={"x": 0})
            ... def _():
            ...     return [(torch.randn(n, 5, dtype=torch.float64),) for n in (1, 2)]
            >>> [x.shape for (x,) in centred.sample_arguments()]
            [torch.Size([1, 5]), torch.Size([2, 5])]
        """
        tensors = [self.parameters[i] for i in self.tensor_positions]
        for name in batch_axes or {}:
            if name not in tensors:
                raise ValueError(f"{self.name}: batch_axes takes {', '.join(tensors)}, received {name!r}")

        def keep(samples: Callable[[], Iterable[tuple[Any, ...]]]) -> Callable[..., Any]:
            self._samples = samples
            self.batch_axes = None if batch_axes is None else dict(batch_axes)
            return samples

        return keep if function is None else keep(function)

    # what an op can be asked

    def explain(self, *args: Any) -> Explanation:
        """Say which provider would run on these arguments, and why each other would not."""
        return dispatch.explain(self, *args)

    def prefer(self, *providers: str) -> Any:
        """`shared.prefer` for this op alone."""
        return dispatch.prefer(*providers, op=self.name)

    def estimate(self, *args: Any) -> Cost:
        """The cost model's answer for these arguments.

        Raises:
            ValueError: the op declares no cost model.
        """
        if self._cost is None:
            raise ValueError(f"{self.name} declares no cost model; add one with its method .cost")
        return self._cost(*self.complete(args))

    def sample_arguments(self) -> list[tuple[Any, ...]]:
        """Fresh copies of the declared samples, complete with default arguments."""
        return [self.complete(tuple(sample)) for sample in self._samples()] if self._samples else []

    # the faces that derive.route chooses from

    @functools.cached_property
    def function(self) -> type[torch.autograd.Function]:
        """The `autograd.Function` around the registered op."""
        return derive.make_function(self)

    def run_kernel(self, *args: Any) -> Any:
        """Run the chosen kernel, beside autograd and all else: for plain calls only, see `shared.eager`."""
        return dispatch.choose(self, args).run(*args)

    @functools.cached_property
    def node(self) -> Callable[..., Any]:
        """The kernels as one node of autograd, for plain calls."""
        return derive.make_node(self)

    def evaluate_reference(self, *args: Any) -> Any:
        """The reference, inside an autocast region with the casts that the registered op would make."""
        args = autocast.cast(self, args)
        with autocast.outside(self, args):
            return self.reference(*args)

    def evaluate_fake(self, *args: Any) -> Any:
        """The declared rule for shapes and dtypes, or the reference's."""
        return fallback.as_fake(self, args) if self._fake is None else self._fake(*args)

    @property
    def has_tangent(self) -> bool:
        """Whether forward mode has a rule of its own."""
        return self._tangent is not None

    def evaluate_tangent(self, args: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        """The declared tangent of arguments that autocast has already cast."""
        assert self._tangent is not None
        with autocast.outside(self, args):
            return self._tangent(args, tangents)

    def complete(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with the missing defaults added at the end."""
        if len(args) == len(self.parameters):
            return args
        return (*args, *self._defaults[len(args) :])

    def positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments of a call, in order."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args

    def saved_for_backward(self, inputs: tuple[Any, ...], output: Any) -> Sequence[Any]:
        """What the derivative wants to see again."""
        if self._saves is None:
            return inputs
        return self._saves(*inputs, output=output) if self._saves_output else self._saves(*inputs)

    def backward_rule(self, saved: tuple[Any, ...], needs: tuple[bool, ...], *grads: Tensor) -> Any:
        """The declared derivative, or the reference's own."""
        if self._derivative is not None:
            return self._derivative(saved, needs, *grads)
        if not self.differentiable:
            raise NotDifferentiableError(self.name)
        return derive.reference_vjp(self.reference, saved, needs, grads)

    def apply_batch_rule(self, size: int, dims: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, Any]:
        """The declared batch rule, or a loop."""
        if self._batch is not None:
            return self._batch(self, dims, *args)
        return derive.loop_rule(self, size, dims, args)

    # the signature

    def _read_signature(self) -> None:
        signature = inspect.signature(self.reference)
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        if kinds - {inspect.Parameter.POSITIONAL_OR_KEYWORD}:
            raise ValueError(
                f"{self.name}: expected plain parameters, received {signature}; "
                "drop *, / and keyword-only ones"
            )
        self.parameters: tuple[str, ...] = tuple(signature.parameters)
        required = [p for p in signature.parameters.values() if p.default is inspect.Parameter.empty]
        self._defaults = (
            *(None,) * len(required),
            *(p.default for p in list(signature.parameters.values())[len(required) :]),
        )
        self._signature = signature
        self.schema: str = schema.infer(self.name, self.reference)

    def _check_signature(self, function: Callable[..., Any], what: str) -> None:
        given = tuple(inspect.signature(function).parameters)
        if given != self.parameters:
            raise TypeError(
                f"{self.name}: {what} must take ({', '.join(self.parameters)}), it takes ({', '.join(given)})"
            )


class NotDifferentiableError(RuntimeError):
    """A backward reached an op that declares no derivative."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has no derivative; detach its inputs, or declare one with .derivative")


def _picker(positions: tuple[int, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes the arguments at these positions, at once."""
    if len(positions) < 2:
        return lambda args: tuple([args[i] for i in positions])
    return operator.itemgetter(*positions)
