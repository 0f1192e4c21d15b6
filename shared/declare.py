"""Declare an op once: its reference in plain PyTorch is its definition, everything else hangs on it."""

from __future__ import annotations

import functools
import importlib
import inspect
import keyword
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from shared import derive, dispatch, schema
from shared.dispatch import REFERENCE, Explanation, Kernel
from shared.errors import UserError

_REGISTRY: dict[str, Op] = {}
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_contiguous_strides)


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


def registry() -> dict[str, Op]:
    """All ops declared so far, by name, those of installed plug-ins (`qbio.ops` entry points) included."""
    _load_plugins()
    return dict(_REGISTRY)


@functools.cache
def _load_plugins() -> None:
    for entry in entry_points(group="qbio.ops"):
        try:
            entry.load()
        except Exception as error:
            source = entry.dist.name if entry.dist else "an unknown package"
            raise UserError(
                f"plug-in {entry.name!r} of {source}: expected {entry.value} to import, received "
                f"{type(error).__name__}: {error}; repair or uninstall {source}"
            ) from error


class Op:
    """A declared op: call it like a function; its methods add kernels, rules and knowledge.

    Made by `op`. Instances are pickled and copied by name.
    """

    def __init__(self, name: str, reference: Callable[..., Any], *, differentiable: bool) -> None:
        self.name = name
        self.reference = reference
        self.kernels: list[Kernel] = []
        self.candidates: dict[Any, tuple[Kernel, ...]] = {}  # dispatch.choose's cache
        self.reference_kernel = Kernel(REFERENCE, target=self._fresh_reference)
        self.autocast_dtypes: dict[str, torch.dtype] = {}
        self.differentiable = differentiable
        self._fake: Callable[..., Any] | None = None
        self._derivative: Callable[..., Any] | None = None
        self._saves: Callable[..., Sequence[Any]] | None = None
        self._saves_output = False
        self._batch: Callable[..., tuple[Any, Any]] | None = None
        self._cost: Callable[..., Cost] | None = None
        self._samples: Callable[[], Iterable[tuple[Any, ...]]] | None = None
        self.batch_axes: dict[str, int] | None = None
        functools.update_wrapper(self, reference)
        self._read_signature()
        self._register()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = self._positional(args, kwargs)
        return derive.route(self, args)

    def __repr__(self) -> str:
        return f"<op {self.name}{self.schema}: {', '.join([*(k.provider for k in self.kernels), REFERENCE])}>"

    def __reduce__(self) -> tuple[Callable[..., Op], tuple[str, str]]:
        return _restore, (self.reference.__module__, self.name)

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
            torch.library.register_autocast(self.name, device, dtype, lib=self._library)

    def cost(self, function: Callable[..., Cost]) -> Callable[..., Cost]:
        """Set the cost model: the op's arguments (only shapes may be used) to a `Cost`."""
        self._check_signature(function, "cost")
        self._cost = function
        register_flop_formula(self.overload.overloadpacket, get_raw=True)(
            lambda *args, out_val=None, **kwargs: function(*self._positional(args, kwargs)).flops
        )
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
        device = self._autocast_device(args)
        if device is None:
            return self.reference(*args)
        args = self.autocast_arguments(args)
        with torch.autocast(device, enabled=False):
            return self.reference(*args)

    def autocast_arguments(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, cast as the active autocast region wants them."""
        device = self._autocast_device(args)
        if device is None:
            return args
        dtype = self.autocast_dtypes[device]
        return tuple(
            a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != torch.float64 else a
            for a in args
        )

    def complete(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with the missing defaults added at the end."""
        if len(args) == len(self.parameters):
            return args
        return (*args, *self._defaults[len(args) :])

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

    # registration

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

    def _register(self) -> None:
        known = _REGISTRY.get(self.name)
        if known is not None:
            if known.reference.__module__ != self.reference.__module__:
                raise ValueError(
                    f"op {self.name!r} is already declared in {known.reference.__module__}; "
                    "choose another name"
                )
            known._library._destroy()  # a notebook cell or a reloaded module declares again
        namespace, _, bare = self.name.partition("::")
        self._library = torch.library.Library(namespace, "FRAGMENT")
        self._library.define(bare + self.schema, tags=_TAGS)
        self._library.impl(bare, self._run, "CompositeExplicitAutograd")
        torch.library.register_fake(self.name, self._run_fake, lib=self._library)
        torch.library.register_autograd(
            self.name,
            functools.partial(derive.backward, self),
            setup_context=lambda ctx, inputs, output: derive.setup_context(self, ctx, inputs, output),
            lib=self._library,
        )
        torch.library.register_vmap(
            self.name,
            lambda info, dims, *args: self.apply_batch_rule(
                info.batch_size, _padded(dims, self), self.complete(args)
            ),
            lib=self._library,
        )
        self.overload = getattr(getattr(torch.ops, namespace), bare).default
        arguments = self.overload._schema.arguments
        self.tensor_positions = tuple(
            i for i, a in enumerate(arguments) if str(a.type) in ("Tensor", "Optional[Tensor]")
        )
        self.tensors_of = _picker(self.tensor_positions)
        _REGISTRY[self.name] = self

    def _run(self, *args: Any) -> Any:
        return self.run_kernel(*self.complete(args))

    def _run_fake(self, *args: Any) -> Any:
        args = self.complete(args)
        if self._fake is not None:
            return self._fake(*args)
        return _contiguous(self.reference(*args))

    def _fresh_reference(self, *args: Any) -> Any:
        """The reference as a kernel: its outputs are contiguous and share no memory with the arguments."""
        taken = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}

        def fresh(output: Tensor) -> Tensor:
            output = output.resolve_conj().resolve_neg().contiguous()
            if output.untyped_storage().data_ptr() in taken:
                output = output.clone(memory_format=torch.contiguous_format)
            taken.add(output.untyped_storage().data_ptr())
            return output

        output = self.reference(*args)
        return tuple(fresh(o) for o in output) if isinstance(output, tuple) else fresh(output)

    def _autocast_device(self, args: Sequence[Any]) -> str | None:
        if not self.autocast_dtypes:
            return None
        device = next((a.device.type for a in args if isinstance(a, Tensor)), None)
        if device in self.autocast_dtypes and torch.is_autocast_enabled(device):
            return device
        return None

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args

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


def _restore(module: str, name: str) -> Op:
    if name not in _REGISTRY:
        importlib.import_module(module)
    return _REGISTRY[name]


def _picker(positions: tuple[int, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes the arguments at these positions, at once."""
    if len(positions) < 2:
        return lambda args: tuple([args[i] for i in positions])
    return operator.itemgetter(*positions)


def _padded(dims: tuple[Any, ...], op: Op) -> tuple[Any, ...]:
    return (*dims, *(None,) * (len(op.parameters) - len(dims)))


def _contiguous(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_contiguous(o) for o in output)
    return torch.empty_like(output, memory_format=torch.contiguous_format)
