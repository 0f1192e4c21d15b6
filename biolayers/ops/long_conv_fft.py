"""`long_conv` and the gradient of its kernel by PyTorch's Fourier transforms: any device, any dtype.

On CPU the last bits depend on the number of threads, so there our own do the work.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.long_conv import check, size_of_lags, size_of_transform, widened


def forward(x: Tensor, kernel: Tensor, offset: int = 0) -> Tensor:
    """`biolayers::long_conv`."""
    check("long_conv", x, kernel.shape, offset)
    if x.shape[0] == 0:
        return torch.empty_like(x, memory_format=torch.contiguous_format)  # no transform of an empty batch
    n = size_of_transform(x.shape[2], kernel.shape[1], offset)
    reaching = kernel[:, : x.shape[2] + offset]  # later taps look before the sequence
    spectrum = torch.fft.rfft(widened(x), n) * torch.fft.rfft(widened(reaching), n)
    return torch.fft.irfft(spectrum, n)[..., offset : offset + x.shape[2]].to(x.dtype).contiguous()


def kernel_grad(x: Tensor, grad: Tensor, k: int, offset: int = 0) -> Tensor:
    """`biolayers::long_conv_kernel_grad`."""
    check("long_conv_kernel_grad", x, (x.shape[1], k), offset, grad)
    if x.shape[0] == 0:
        return x.new_zeros(x.shape[1], k)
    n = size_of_lags(x.shape[2], k, offset)
    spectrum = torch.fft.rfft(widened(x), n).conj() * torch.fft.rfft(widened(grad), n)
    lags = torch.fft.irfft(spectrum.sum(0), n)  # lag m: sum_t grad[t] x[t - m]
    found = lags.roll(offset, -1)[:, : min(k, x.shape[2] + offset)]
    return F.pad(found, (0, k - found.shape[1])).to(x.dtype).contiguous()
