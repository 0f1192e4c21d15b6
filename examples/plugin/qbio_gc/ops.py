"""The op: what it means, in plain PyTorch, and where a faster kernel is."""

import torch
from torch import Tensor

from shared import op

GC = (1, 2)  # the DNA tokens of C and G; A and T are 0 and 3, everything else is no plain letter


@op("qbio_gc::content", differentiable=False)
def content(tokens: Tensor) -> Tensor:
    """The share of G and C among the plain letters of each sequence; 0 where there are none.

    Args:
        tokens: (b, l) uint8.

    Returns:
        (b,) float32.

    Example:
        >>> content(torch.tensor([[0, 1, 2, 4]], dtype=torch.uint8))
        tensor([0.6667])
    """
    plain = (tokens < 4).sum(1)
    strong = ((tokens == GC[0]) | (tokens == GC[1])).sum(1)
    return strong.float() / plain.clamp(min=1).float()


content.kernel("numba", device="cpu", target="qbio_gc.kernels:content", needs=("numba",))


@content.samples(batch_axes={"tokens": 0})
def _() -> list[tuple[Tensor]]:
    make = torch.Generator().manual_seed(0)
    sizes = ((1, 1), (3, 7), (2, 64))
    return [(torch.randint(0, 6, size, dtype=torch.uint8, generator=make),) for size in sizes]
