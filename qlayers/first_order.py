"""Values and gradients that come from evaluations alone, as nodes of autograd: they differentiate once."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.autograd import Function

from shared.errors import UserError


@runtime_checkable
class Job(Protocol):
    """One forward pass and the backward passes that may follow: everything but tensors.

    Attributes:
        once: what to say to whoever asks for a second derivative.
    """

    once: str

    def forward(self, start: Tensor) -> tuple[Tensor, ...]:
        """Values (b, C) at rows (b, P), and further results (b, ...) without a gradient."""
        ...

    def backward(self, start: Tensor, grad: Tensor) -> Tensor:
        """(b, P): the gradient of the sum of grad (b, C) * values."""
        ...


def evaluated(start: Tensor, job: Job) -> tuple[Tensor, ...]:
    """`job.forward(start)`, differentiable once; samples of vmap are further rows."""
    return _Values.apply(start, job)


class _Values(Function):
    @staticmethod
    def forward(start: Tensor, job: Job) -> tuple[Tensor, ...]:
        return job.forward(start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        start, ctx.job = inputs
        ctx.save_for_backward(start)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        (start,) = ctx.saved_tensors
        return _Gradient.apply(start, grad, ctx.job), None

    @staticmethod
    def vmap(info: Any, dims: tuple, start: Tensor, job: Job) -> tuple:
        found = _folded(lambda start: _Values.apply(start, job), info.batch_size, dims, start)
        return found, (0,) * len(found)


class _Gradient(Function):
    @staticmethod
    def forward(start: Tensor, grad: Tensor, job: Job) -> Tensor:
        return job.backward(start, grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.once = inputs[2].once

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        raise UserError(ctx.once)

    @staticmethod
    def vmap(info: Any, dims: tuple, start: Tensor, grad: Tensor, job: Job) -> tuple[Tensor, int]:
        (found,) = _folded(lambda *rows: (_Gradient.apply(*rows, job),), info.batch_size, dims, start, grad)
        return found, 0


def _folded(
    function: Callable[..., tuple[Tensor, ...]], size: int, dims: tuple, *tensors: Tensor
) -> tuple[Tensor, ...]:
    """A function of (b, ...) tensors on (v, b, ...), as one batch of v b."""
    moved = [
        tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, dims, strict=False)  # the job has a dimension, too: None
    ]
    found = function(*[tensor.flatten(0, 1) for tensor in moved])
    return tuple(part.unflatten(0, moved[0].shape[:2]) for part in found)
