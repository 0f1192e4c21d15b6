"""Batch normalisation in evaluation: part of the weight and bias of the layer before it.

Weight and bias are folded anew in each call, from the parameters and statistics of that moment: these are
small where the layer's output is large, and nothing goes stale.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx

from shared.graph.rules import Refused, Rule
from shared.graph.scene import Attribute, Call, Scene

LAYERS = {"linear": F.linear, "conv1d": F.conv1d, "conv2d": F.conv2d}
_GEOMETRY = ("stride", "padding", "dilation", "groups")
# numbers of an output from which on folding is cheaper; below, a norm costs less than six calls
LARGE = 2**18
# products for each number of a convolution up to which the pass of a norm over it shows beside them
PRODUCTS = 128


def folded(
    weight: Tensor, bias: Tensor | None, mean: Tensor, var: Tensor, gain: Tensor | None, shift: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weight and bias of a layer whose outputs are normalised.

    Args:
        weight: (c, ...) of a linear layer or convolution.
        bias: (c,).
        mean: (c,) of the norm, like var, gain and shift.
        var: see above.
        gain: see above.
        shift: see above.
        eps: added to var.

    Example:
        >>> import torch
        >>> folded(torch.ones(1, 2), None, torch.tensor([3.0]), torch.tensor([4.0]), None, None, 0.0)
        (tensor([[0.5000, 0.5000]]), tensor([-1.5000]))
    """
    scale = (var + eps).rsqrt()
    scale = scale if gain is None else scale * gain
    offset = (-mean if bias is None else bias - mean) * scale
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), offset if shift is None else offset + shift


def normed(kind: str, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple, norm: Any) -> Tensor:
    """A layer of `LAYERS` and a norm after it, as one layer where the norm is in evaluation."""
    layer, stats = LAYERS[kind], (norm.running_mean, norm.running_var)
    if norm.training or stats[0] is None or stats[0].dtype is not weight.dtype:
        return norm(layer(x, weight, bias, *geometry))
    return layer(x, *folded(weight, bias, *stats, norm.weight, norm.bias, norm.eps), *geometry)


def fold_norm(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`batch_norm(layer(x))` becomes the layer with another weight and bias, in evaluation."""
    norm = scene.call(node)
    if scene.training or norm is None or norm.kind != "batch_norm" or node.op != "call_module":
        return None
    layer = scene.call(norm.x)
    if layer is None or layer.kind not in LAYERS:
        return None
    _check(scene, layer)
    geometry = tuple(layer.args[name] for name in _GEOMETRY) if layer.kind != "linear" else ()
    held = (layer.args["weight"], layer.args["bias"])
    scene.put(node, normed, layer.kind, layer.x, *held, geometry, Attribute(str(node.target)))
    return f"{layer.kind} + batch_norm", f"{layer.kind} with the norm in its weight"


def _check(scene: Scene, layer: Call) -> None:
    if len(layer.node.users) > 1:
        raise Refused("what is normalised is used elsewhere, too")
    if layer.args.get("padding_mode", "zeros") != "zeros":
        raise Refused(f"padding must be with zeros, and is {layer.args['padding_mode']!r}")
    out, weight = scene.value(layer.node), scene.tensor(layer.args["weight"])
    if out is None or weight is None or (layer.kind == "linear" and out.ndim != 2):
        raise Refused("a linear layer must give (b, features)")
    if out.numel() < LARGE or out.numel() < 4 * weight.numel():
        raise Refused(f"an output of {out.numel()} numbers is cheaper to normalise than a weight to fold")
    products = weight[0].numel()
    if layer.kind != "linear" and products > PRODUCTS:
        raise Refused(
            f"beside {products} products for each number a norm takes next to no time: at most {PRODUCTS} pay"
        )


NORMS = Rule("batch_norm", "batch_norm(layer(x)) = layer'(x) in evaluation", fold_norm)
