"""The router: which of an op's faces a call must take, so that every autograd transform is right.

No attachment that PyTorch offers is right under eager training, `torch.func`, forward mode, nesting and
compilation at once; wrong ones train on zeros without a word. Each situation therefore has its own route:

| situation                    | route                            | because |
|------------------------------|----------------------------------|---------|
| a transform while compiling  | the reference                    | Dynamo drops an op's derivative rule |
| forward mode, op has no rule | the reference                    | a registered op has zero tangents |
| a transform in eager mode    | an `autograd.Function` around it | the only attachment that nests |
| plain eager, no gradient     | the kernel itself                | the dispatcher would add time alone |
| plain eager, with gradient   | one node of autograd around it   | the same |
| everything else              | the registered op                | opaque to compile, export, DDP, autocast |

A transform is one of `torch.func`, or forward mode by dual numbers. What is plain `shared.eager` tells;
`tests/shared/test_derive.py` holds each row of the table against plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from shared import autocast, eager

if TYPE_CHECKING:
    from shared.declare import Op


def route(op: Op, args: tuple[Any, ...]) -> Any:
    """Evaluate `op` on `args` by the route that the active transforms need (see the table above)."""
    if not torch.compiler.is_dynamo_compiling():
        args = op.complete(args)
        if eager.is_plain(op.tensors_of(args)):
            if eager.records_gradient(args):
                return op.node(*args)
            return op.run_kernel(*args)
    forward_mode = eager.forward_mode_active()
    if not forward_mode and not eager.transforms_active():
        return op.overload(*args)
    if torch.compiler.is_compiling() or (forward_mode and not op.has_tangent):
        return op.evaluate_reference(*args)
    return op.function.apply(*autocast.cast(op, op.complete(args)))


def setup_context(op: Op, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep what the op's derivative asked for: tensors where autograd knows them, plain values beside."""
    saved = op.saved_for_backward(inputs, output)
    ctx.is_tensor = [isinstance(value, Tensor) for value in saved]
    ctx.values = [value for value in saved if not isinstance(value, Tensor)]
    ctx.save_for_backward(*[value for value in saved if isinstance(value, Tensor)])


def backward(op: Op, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Apply the op's derivative: one gradient, or None, per argument."""
    tensors, values = iter(ctx.saved_tensors), iter(ctx.values)
    saved = tuple([next(tensors) if is_tensor else next(values) for is_tensor in ctx.is_tensor])
    passed = len(ctx.needs_input_grad)  # the dispatcher drops trailing arguments that equal their defaults
    needs = (*ctx.needs_input_grad, *(False,) * (len(op.parameters) - passed))
    found = op.backward_rule(saved, needs, *grads)
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(needs):
        raise TypeError(
            f"{op.name}: the derivative must return one gradient (or None) for each of its {len(needs)} "
            f"arguments, it returned {len(found)}"
        )
    return tuple([grad if need else None for grad, need in zip(found, needs, strict=True)][:passed])


def keep_for_forward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the arguments for the op's tangent rule, which PyTorch asks for right after."""
    ctx.save_for_forward(*[value for value in inputs if isinstance(value, Tensor)])
    ctx.arguments = [None if isinstance(value, Tensor) else (value,) for value in inputs]
    ctx.wanted = [_has_slope(o) for o in (output if isinstance(output, tuple) else (output,))]


def push_forward(op: Op, ctx: Any) -> tuple[Tensor | None, ...]:
    """Apply the op's tangent rule: one tangent per output, None if that is not floating."""
    # PyTorch switches forward mode off here, for the levels further out too, whose tangents would be lost
    with eager.set_forward_mode(True):
        # as duals of this level the arguments would take part in their own derivative: unpacked, they do not
        duals = iter([forward_ad.unpack_dual(tensor) for tensor in ctx.saved_tensors])
        pairs = [next(duals) if plain is None else (*plain, None) for plain in ctx.arguments]
        args, tangents = zip(*pairs, strict=True)
        found = op.evaluate_tangent(args, tangents)
    found = found if isinstance(found, tuple) else (found,)
    received = [isinstance(tangent, Tensor) for tangent in found]
    if received != ctx.wanted:
        raise TypeError(
            f"{op.name}: the tangent rule must return a tensor for each floating output and None for each "
            f"other: expected {_kinds(ctx.wanted)}, received {_kinds(received)}"
        )
    return found


def _kinds(are_tensors: Sequence[bool]) -> str:
    return ", ".join("a tensor" if is_tensor else "None" for is_tensor in are_tensors)


def make_function(op: Op) -> type[torch.autograd.Function]:
    """The `autograd.Function` around `op`'s overload that transforms use in eager mode."""

    def forward(*args: Any) -> Any:
        return op.overload(*args)

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup_context(op, ctx, inputs, output)
        if eager.forward_mode_active():
            keep_for_forward(ctx, inputs, output)

    def pull_back(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return backward(op, ctx, *grads)

    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        return push_forward(op, ctx)

    def vmap(info: Any, dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        return op.apply_batch_rule(info.batch_size, dims, args)

    members = {"forward": forward, "setup_context": save, "backward": pull_back, "jvp": jvp, "vmap": vmap}
    return type(
        f"{_name(op)}_function",
        (torch.autograd.Function,),
        {name: staticmethod(member) for name, member in members.items()},
    )


def make_node(op: Op) -> Callable[..., Any]:
    """The `autograd.Function` around `op`'s kernels that plain calls use, as a function."""

    def forward(ctx: Any, *args: Any) -> Any:
        output = op.run_kernel(*args)
        setup_context(op, ctx, args, output)
        return output

    def pull_back(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return backward(op, ctx, *grads)

    members = {"forward": staticmethod(forward), "backward": staticmethod(pull_back)}
    return eager.applier(type(_name(op), (torch.autograd.Function,), members))


def _name(op: Op) -> str:
    return op.name.replace("::", "_")


def reference_vjp(
    reference: Callable[..., Any], args: Sequence[Any], needs: Sequence[bool], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradient of a reference by differentiating it: the derivative of an op that declares no other.

    It evaluates the reference again, and is itself differentiable to any order.
    """
    wanted = [i for i, need in enumerate(needs) if need]
    # a transform that has ended leaves wrappers, which a new transform takes for its own; any view sheds them
    args = [a.view_as(a) if isinstance(a, Tensor) else a for a in args]
    grads = [grad.view_as(grad) for grad in grads]

    def of_wanted(*tensors: Tensor) -> tuple[Tensor, ...]:
        filled = list(args)
        for i, tensor in zip(wanted, tensors, strict=True):
            filled[i] = tensor
        outputs = reference(*filled)
        return tuple(filter(_has_slope, outputs if isinstance(outputs, tuple) else (outputs,)))

    pull_back = torch.func.vjp(of_wanted, *(args[i] for i in wanted))[1]
    found = pull_back(tuple(filter(_has_slope, grads)))
    gradients: list[Tensor | None] = [None] * len(needs)
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return tuple(gradients)


def _has_slope(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def loop_rule(op: Op, size: int, dims: Sequence[int | None], args: Sequence[Any]) -> tuple[Any, Any]:
    """The batch rule of an op that declares no other: one call per element of the mapped axis, stacked."""

    def element(index: int) -> Any:
        return op(*(a if d is None else a.select(d, index) for a, d in zip(args, dims, strict=True)))

    if size == 0:
        sample = op(
            *(
                a if d is None else a.new_zeros([n for i, n in enumerate(a.shape) if i != d % a.ndim])
                for a, d in zip(args, dims, strict=True)
            )
        )
        outputs = sample if isinstance(sample, tuple) else (sample,)
        stacked = tuple(output.new_empty((0, *output.shape)) for output in outputs)
        single = not isinstance(sample, tuple)
    else:
        results = [element(i) for i in range(size)]
        single = not isinstance(results[0], tuple)
        stacked = (
            (torch.stack(results),)
            if single
            else tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        )
    return (stacked[0], 0) if single else (stacked, (0,) * len(stacked))
