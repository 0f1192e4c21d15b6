"""A convolution over columns that come from letters: one op that reads the letters."""

from typing import Any

import torch
from torch import fx

from biolayers.passes.columns import Columns, columns, move
from biolayers.passes.geometry import Geometry, of_conv1d, of_conv2d
from biolayers.passes.nodes import once, put_conv
from biolayers.passes.tokens import contracted, lengthened
from shared.graph import Call, Refused, Scene

_PLAIN = (torch.float32, torch.float64)
_ALPHABETS = (4, 5, 20, 21)  # rows of an input that may well be one-hot letters


def merge_columns(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`conv1d(one_hot(tokens).transpose(1, 2).float())` becomes `token_conv1d(tokens)`."""
    conv = scene.call(node)
    if conv is None or conv.kind not in ("conv1d", "conv2d"):
        return None
    weight = scene.tensor(conv.args["weight"])
    found = columns(scene, conv.x)
    if found is None or weight is None:
        _refuse_ready_columns(scene, conv)
        return None
    if weight.dtype not in _PLAIN:
        raise Refused("the convolution must be in float32 or float64")
    return _of_rows(scene, conv, found, weight) if weight.ndim == 3 else _of_image(scene, conv, found, weight)


def _of_rows(scene: Scene, conv: Call, found: Columns, weight: torch.Tensor) -> tuple[str, str] | None:
    """Filters (out, columns, k) over (b, columns, l)."""
    if found.axes != "bcl":
        return None  # the convolution runs along another axis
    if conv.args["groups"] != 1 or weight.shape[1] != found.width:
        raise Refused("the convolution must not be in groups")
    geometry = of_conv1d(conv, weight.shape[2])
    tokens, filters = _operands(scene, found, conv.args["weight"], geometry)
    put_conv(scene, conv.node, tokens, filters, conv.args["bias"], *geometry.options)
    return f"{_source(found)} + conv1d", "token_conv1d"


def _of_image(scene: Scene, conv: Call, found: Columns, weight: torch.Tensor) -> tuple[str, str]:
    """Filters (out, 1, columns, k) over (b, 1, columns, l): what comes out has height 1."""
    if found.axes != "b1cl" or weight.shape[1:3] != (1, found.width):
        raise Refused("the filters of conv2d must be as high as the image, whose rows are the letters")
    geometry = of_conv2d(conv, weight.shape[3])
    flat = once(scene, torch.squeeze, conv.args["weight"], 1)
    tokens, filters = _operands(scene, found, flat, geometry)
    put_conv(scene, conv.node, tokens, filters, conv.args["bias"], *geometry.options, image=True)
    return f"{_source(found)} + conv2d", "token_conv1d"


def _operands(scene: Scene, found: Columns, weight: Any, geometry: Geometry) -> tuple[fx.Node, Any]:
    """Tokens and filters over letters."""
    tokens = found.narrow(scene)
    if geometry.after:
        tokens = once(scene, lengthened, tokens, 0, geometry.after)
    if found.table is not None:
        if "c" in found.flipped:
            weight = once(scene, torch.flip, weight, (1,))
        weight = once(scene, contracted, weight, found.table, found.padding_idx)
    return tokens, weight


def _source(found: Columns) -> str:
    """How reports call what the columns come from."""
    kind = "one_hot" if found.table is None else "embedding"
    return f"{kind} + flip" if found.flipped & {"l", "c"} else kind


def _refuse_ready_columns(scene: Scene, conv: Call) -> None:
    """Say what would help, where the model's input itself may be one-hot.

    Raises:
        Refused: it may.
    """
    node, value = conv.x, scene.value(conv.x)
    while (call := move(scene, node)) is not None:
        node = call.x
    rows = None if value is None else value.shape[-2] if value.ndim in (3, 4) else None
    if node.op == "placeholder" and rows in _ALPHABETS and conv.args["groups"] == 1:
        raise Refused(
            f"the input is columns of floats with {rows} rows; if they are one-hot letters, no type says so: "
            "let the model take the letters (b, l) and call one_hot, or use biolayers.layers.TokenConv1d"
        )
