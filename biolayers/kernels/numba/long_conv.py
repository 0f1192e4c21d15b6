"""`long_conv` and the gradient of its kernel on CPU by NumPy's transforms, channel by channel on our threads.

PyTorch's transforms give other bits for another number of threads, and hang in a forked process whose parent
used them; NumPy's run on the thread that calls them.
"""

import numpy as np
from torch import Tensor

from biolayers.ops.long_conv import check, size_of_lags, size_of_transform
from shared.threads import parallel

_GRAIN = 30_000  # numbers of a transform that are worth a thread


def forward(x: Tensor, kernel: Tensor, offset: int = 0) -> Tensor:
    """`biolayers::long_conv` for float32 and float64."""
    check("long_conv", x, kernel.shape, offset)
    b, c, l = x.shape
    out = x.new_empty(b, c, l)
    if b:
        n = size_of_transform(l, kernel.shape[1], offset)
        taps = _numpy(kernel)[:, : l + offset]
        parallel(_convolve, c, _numpy(x), taps, offset, n, out.numpy(), grain=max(1, _GRAIN // (b * n)))
    return out


def kernel_grad(x: Tensor, grad: Tensor, k: int, offset: int = 0) -> Tensor:
    """`biolayers::long_conv_kernel_grad` for float32 and float64."""
    check("long_conv_kernel_grad", x, (x.shape[1], k), offset, grad)
    b, c, l = x.shape
    out = x.new_zeros(c, k)
    if b:
        n = size_of_lags(l, k, offset)
        parallel(
            _correlate, c, _numpy(x), _numpy(grad), offset, n, out.numpy(), grain=max(1, _GRAIN // (b * n))
        )
    return out


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _convolve(
    start: int, stop: int, x: np.ndarray, kernel: np.ndarray, offset: int, n: int, out: np.ndarray
) -> None:
    """Channels start .. stop - 1."""
    for c in range(start, stop):
        spectrum = np.fft.rfft(x[:, c], n) * np.fft.rfft(kernel[c], n)
        out[:, c] = np.fft.irfft(spectrum, n)[:, offset : offset + x.shape[2]]


def _correlate(
    start: int, stop: int, x: np.ndarray, grad: np.ndarray, offset: int, n: int, out: np.ndarray
) -> None:
    """Lag m, sum_t grad[t] x[t - m], stands at m, or at n + m where it is negative."""
    taps = min(out.shape[1], x.shape[2] + offset)
    for c in range(start, stop):
        spectrum = (np.fft.rfft(x[:, c], n).conj() * np.fft.rfft(grad[:, c], n)).sum(0)
        out[c, :taps] = np.roll(np.fft.irfft(spectrum, n), offset)[:taps]
