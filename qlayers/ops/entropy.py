"""The entropy of a mixed state, with derivatives that stay finite where eigenvalues meet or vanish.

PyTorch differentiates an eigendecomposition with factors 1/(a - b) for every pair of eigenvalues. For a
function of the matrix these factors are divided differences, (f(a) - f(b))/(a - b), which have a limit; and
an eigenvalue 0 takes no part, as 0 log 0 = 0.
"""

import torch
from torch import Tensor

from shared import Cost, op


@op("qlayers::entropy")
def entropy(rho: Tensor) -> Tensor:
    """The von Neumann entropy -tr(rho log rho) in nats.

    Args:
        rho: (b, 2, m, m) real and imaginary parts of Hermitian matrices without negative eigenvalues, float32
            or float64. What is not Hermitian in them is ignored.

    Returns:
        (b,) entropies.

    Example:
        >>> import torch
        >>> from qlayers.ops import entropy
        >>> mixed = torch.stack([torch.eye(2) / 2, torch.zeros(2, 2)])
        >>> entropy(mixed[None])  # log 2
        tensor([0.6931])
    """
    values = torch.linalg.eigvalsh(_hermitian(rho))
    return -(values * torch.log(torch.where(values > _least(values), values, 1.0))).sum(-1)


@op("qlayers::entropy_vjp")
def entropy_vjp(rho: Tensor, grad: Tensor) -> Tensor:
    """The gradient of `entropy`: -grad (log rho + 1) on the support of rho, for `grad` (b,)."""
    values, vectors = _eigen(rho)
    slopes = _slope(values) * grad.unsqueeze(-1)
    return _parts(_scaled(vectors, slopes.unsqueeze(-2)) @ _adjoint(vectors))


def _hermitian(rho: Tensor) -> Tensor:
    """The Hermitian part of (b, 2, m, m), complex."""
    re, im = rho.unbind(1)
    return torch.complex((re + re.mT) / 2, (im - im.mT) / 2)


def _eigen(rho: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, as the diagonal of V^dagger rho V, and eigenvectors.

    torch.func fails to differentiate `eigh` twice if both of its results are used.
    """
    matrix = _hermitian(rho)
    _, vectors = torch.linalg.eigh(matrix)
    return torch.diagonal(_adjoint(vectors) @ matrix @ vectors, dim1=-2, dim2=-1).real, vectors


def _adjoint(matrix: Tensor) -> Tensor:
    # a conjugate that is only marked as one would be taken for the matrix itself in a compiled graph
    return torch.complex(matrix.real.mT.contiguous(), -matrix.imag.mT)


def _scaled(matrix: Tensor, factors: Tensor) -> Tensor:
    """A complex matrix times real factors, whose gradients thereby stay real under every transform."""
    return torch.complex(matrix.real * factors, matrix.imag * factors)


def _parts(matrix: Tensor) -> Tensor:
    return torch.stack([matrix.real, matrix.imag], 1)


def _least(values: Tensor) -> float:
    """Eigenvalues up to here are rounding errors of 0."""
    return 4 * torch.finfo(values.dtype).eps


def _slope(values: Tensor) -> Tensor:
    """-(log a + 1), and 0 for eigenvalues 0."""
    positive = values > _least(values)
    return torch.where(positive, -(torch.log(torch.where(positive, values, 1.0)) + 1.0), 0.0)


def _differences(values: Tensor) -> Tensor:
    """Divided differences of -(log a + 1) for each pair of eigenvalues, 0 beside an eigenvalue 0."""
    a, b = values.unsqueeze(-1), values.unsqueeze(-2)
    positive = (a > _least(values)) & (b > _least(values))
    a, b = torch.where(positive, a, 1.0), torch.where(positive, b, 1.0)
    x = (a - b) / b
    close = x.abs() < 1e-4  # log(1 + x)/x by its series, which is exact here to rounding
    safe = torch.where(close, 1.0, x)
    ratio = torch.where(close, 1 - x / 2 + x * x / 3 - x * x * x / 4, torch.log1p(safe) / safe)
    return torch.where(positive, -ratio / b, 0.0)


@entropy.fake
def _(rho):
    return rho.new_empty(rho.shape[:1])


@entropy_vjp.fake
def _(rho, grad):
    return rho.new_empty(rho.shape)


@entropy.derivative(saves=lambda rho: (rho,))
def _(saved, needs, grad):
    return entropy_vjp(*saved, grad)


@entropy_vjp.derivative(saves=lambda rho, grad: (rho, grad))
def _(saved, needs, along):
    rho, grad = saved
    return _slope_along(rho, along) * grad[:, None, None, None], _entropy_along(rho, along)


@entropy.tangent
def _(args, tangents):
    return _entropy_along(*args, *tangents)


@entropy_vjp.tangent
def _(args, tangents):
    (rho, grad), (along, along_grad) = args, tangents
    parts = [] if along is None else [_slope_along(rho, along) * grad[:, None, None, None]]
    if along_grad is not None:
        parts.append(entropy_vjp(rho, along_grad))
    return sum(parts)


def _entropy_along(rho: Tensor, along: Tensor) -> Tensor:
    """(b,): the derivative of `entropy` along a direction."""
    return (entropy_vjp(rho, rho.new_ones(rho.shape[:1])) * along).sum((1, 2, 3))


def _slope_along(rho: Tensor, along: Tensor) -> Tensor:
    """The derivative of `entropy_vjp` for the gradient 1 along a direction; this map is its own adjoint."""
    # Daleckii and Krein: d f(rho)[E] = V (D * V^dagger E V) V^dagger with the divided differences D of f
    values, vectors = _eigen(rho)
    turned = _adjoint(vectors) @ _hermitian(along) @ vectors
    return _parts(vectors @ _scaled(turned, _differences(values)) @ _adjoint(vectors))


@entropy.batch
def _(again, dims, rho):
    rho = rho.movedim(dims[0], 0)
    return again(rho.flatten(0, 1)).unflatten(0, rho.shape[:2]), 0


@entropy_vjp.batch
def _(again, dims, rho, grad):
    size = rho.shape[dims[0]] if dims[0] is not None else grad.shape[dims[1]]
    rho = rho.expand(size, *rho.shape) if dims[0] is None else rho.movedim(dims[0], 0)
    grad = grad.expand(size, *grad.shape) if dims[1] is None else grad.movedim(dims[1], 0)
    return again(rho.flatten(0, 1), grad.flatten(0, 1)).unflatten(0, rho.shape[:2]), 0


@entropy.cost
def _(rho):
    return Cost(flops=10 * rho.numel() * rho.shape[-1], bytes=rho.element_size() * rho.numel())


@entropy_vjp.cost
def _(rho, grad):
    return Cost(flops=25 * rho.numel() * rho.shape[-1], bytes=2 * rho.element_size() * rho.numel())


def _samples():
    generator = torch.Generator().manual_seed(0)
    for batch, size in ((2, 2), (1, 3)):
        root = torch.randn(batch, 2, size, size, generator=generator, dtype=torch.float64)
        re, im = root.unbind(1)
        rho = torch.stack([re @ re.mT + im @ im.mT + torch.eye(size), im @ re.mT - re @ im.mT], 1)
        yield rho / torch.diagonal(rho[:, 0], dim1=-2, dim2=-1).sum(-1)[:, None, None, None]


@entropy.samples(batch_axes={"rho": 0})
def _():
    return [(rho,) for rho in _samples()]


@entropy_vjp.samples(batch_axes={"rho": 0, "grad": 0})
def _():
    return [(rho, torch.linspace(0.5, 1.0, len(rho), dtype=torch.float64)) for rho in _samples()]


for _op in (entropy, entropy_vjp):
    _op.autocast(cpu=torch.float32, cuda=torch.float32)
