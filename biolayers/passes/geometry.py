"""Where windows lie: what our ops can say of the ways that PyTorch's can."""

from typing import Any, NamedTuple

from biolayers.passes.nodes import number
from shared.graph import Call, Refused


class Geometry(NamedTuple):
    """Windows of a convolution; the padding is the same at both ends but for `after` more at the end."""

    stride: int
    padding: int
    dilation: int
    after: int = 0

    @property
    def options(self) -> tuple[int, int, int]:
        """As our ops take them."""
        return self.stride, self.padding, self.dilation


def of_conv1d(call: Call, taps: int) -> Geometry:
    """Of a `conv1d`.

    Raises:
        Refused: our ops have no such windows.
    """
    stride, dilation = number(call.args["stride"]), number(call.args["dilation"])
    return _padded(call, stride, call.args["padding"], dilation, taps)


def of_conv2d(call: Call, taps: int) -> Geometry:
    """Of a `conv2d` whose kernel is as high as the image, along the width.

    Raises:
        Refused: our ops have no such windows.
    """
    stride, dilation = _pair(call.args["stride"])[1], _pair(call.args["dilation"])[1]
    padding = call.args["padding"]
    if padding == "same":
        raise Refused('padding="same" pads the letters, too, and the image has no such rows')
    if isinstance(padding, str):
        return _padded(call, stride, padding, dilation, taps)
    above, beside = _pair(padding)
    if above:
        raise Refused("the image is padded above and below, where there are no letters")
    return _padded(call, stride, beside, dilation, taps)


def _padded(call: Call, stride: int, padding: Any, dilation: int, taps: int) -> Geometry:
    if call.args.get("padding_mode", "zeros") != "zeros":
        raise Refused(f"padding must be with zeros, and is {call.args['padding_mode']!r}")
    if padding == "valid":
        return Geometry(stride, 0, dilation)
    if padding == "same":
        reach = dilation * (taps - 1)
        return Geometry(stride, reach // 2, dilation, reach % 2)
    return Geometry(stride, number(padding), dilation)


def window(call: Call) -> tuple[int, int]:
    """Size and stride of a pool's windows along the sequence.

    Raises:
        Refused: our ops have no such windows.
    """
    flat = call.kind == "max_pool2d"
    size = _beside(call.args["kernel_size"], 1) if flat else number(call.args["kernel_size"])
    given = call.args["stride"]
    if given in (None, (), []):
        step = size
    else:
        step = _beside(given, None) if flat else number(given)
    padding = _pair(call.args["padding"])[1] if flat else number(call.args["padding"])
    given = call.args.get("dilation", 1)  # average pooling has none
    dilation = _pair(given)[1] if flat else number(given)
    above = _pair(call.args["padding"])[0] if flat else 0
    indices = call.args.get("return_indices", False)
    if padding or above or dilation != 1 or call.args["ceil_mode"] or indices:
        raise Refused("pooling must be without padding, dilation, ceil_mode and indices")
    return size, step


def _beside(sizes: Any, height: int | None) -> int:
    """The second of two sizes, of which the first must be `height`, or any."""
    first, second = _pair(sizes)
    if height is not None and first != height:
        raise Refused(f"windows of an image of height 1 must have height 1, and have {first}")
    return second


def _pair(sizes: Any) -> tuple[int, int]:
    if isinstance(sizes, (tuple, list)) and len(sizes) == 2:
        return number(sizes[0]), number(sizes[1])
    return number(sizes), number(sizes)
