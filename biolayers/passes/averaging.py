"""Average pooling behind a token convolution: one op that never writes what is averaged."""

from typing import Any

import torch
from torch import Tensor, fx

from biolayers.ops import token_conv1d_avg_pool
from biolayers.passes.geometry import window
from biolayers.passes.nodes import alone, arguments, discard, is_conv, number
from shared.graph import Call, Refused, Scene

_ACTIVATIONS = ("relu", "gelu", "exp")
_KINDS = ("avg_pool1d", "adaptive_avg_pool1d", "mean")


def averaged(*args: Any) -> Tensor:
    """`biolayers.ops.token_conv1d_avg_pool`, (b, out, q)."""
    return token_conv1d_avg_pool(*args)


def averaged_over_all(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    activation: str | None,
) -> Tensor:
    """The mean of each filter's activation over all positions, (b, out, 1)."""
    reach = dilation * (weight.shape[2] - 1) + 1
    size = (tokens.shape[1] + 2 * padding - reach) // stride + 1
    return averaged(tokens, weight, bias, stride, padding, dilation, activation, size, 1)


def merge_avg_pool(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`avg_pool1d(relu(token_conv1d(...)))` becomes one call, as does the mean over all positions."""
    pool = scene.call(node)
    if pool is None or pool.kind not in _KINDS:
        return None
    before = scene.call(pool.x)
    active = before if before is not None and before.kind in _ACTIVATIONS else None
    conv = pool.x if active is None else active.x
    if not is_conv(conv):
        return None
    _require(pool, active)
    if not alone(pool.x) or not alone(conv):
        raise Refused("what is averaged is used elsewhere, too")
    _put(scene, pool, conv, None if active is None else active.kind)
    discard(scene, *([active.node] if active else []), conv)
    name = "" if active is None else f" + {active.kind}"
    return f"token_conv1d{name} + {pool.kind}", "token_conv1d_avg_pool"


def _require(pool: Call, active: Call | None) -> None:
    """Raise `Refused` unless the means are over positions, and the activation is one of the op's."""
    if active is not None and active.args.get("approximate", "none") != "none":
        raise Refused("the op knows GELU as it is defined, not its approximation by tanh")
    if pool.kind == "adaptive_avg_pool1d" and number(pool.args["output_size"]) != 1:
        raise Refused("adaptive pooling must be to one value")
    if pool.kind == "mean" and (_axis(pool.args["dim"]) not in (-1, 2) or pool.args["dtype"] is not None):
        raise Refused("a mean must be over the positions, in the dtype of the convolution")


def _axis(dim: Any) -> Any:
    return dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim


def _put(scene: Scene, pool: Call, conv: fx.Node, activation: str | None) -> None:
    args = arguments(conv)
    with scene.graph.inserting_before(pool.node):
        if pool.kind == "avg_pool1d":
            call = (*args, activation, *window(pool), False)
            found = scene.graph.call_function(averaged, call)
        else:
            found = scene.graph.call_function(averaged_over_all, (*args, activation))
        if pool.kind == "mean" and not pool.args["keepdim"]:
            found = scene.graph.call_function(torch.squeeze, (found, -1))
    if pool.node.name in scene.values:
        scene.values[found.name] = scene.values[pool.node.name]
    pool.node.replace_all_uses_with(found)
    scene.graph.erase_node(pool.node)
