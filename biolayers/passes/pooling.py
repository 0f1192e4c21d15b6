"""Pooling and activation behind a token convolution: one op that never writes what is pooled."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from biolayers.ops import token_conv1d_max_pool
from biolayers.passes.geometry import window
from biolayers.passes.nodes import alone, arguments, discard, is_conv, number
from shared.graph import Call, Refused, Scene

_AMAX = (
    "amax shares the gradient among equal values, pooling gives it to the first: "
    "write x.max(-1).values or AdaptiveMaxPool1d(1)"
)


def pooled(*args: Any) -> Tensor:
    """The values of `biolayers.ops.token_conv1d_max_pool`, without the winners."""
    return token_conv1d_max_pool(*args)[0]


def pooled_over_all(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int, relu: bool
) -> Tensor:
    """The largest value of each filter over all positions, (b, out, 1)."""
    reach = dilation * (weight.shape[2] - 1) + 1
    size = (tokens.shape[1] + 2 * padding - reach) // stride + 1
    return pooled(tokens, weight, bias, stride, padding, dilation, relu, size, 1)


def merge_max_pool(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`max_pool1d(relu(token_conv1d(...)))` becomes one call; a maximum of exp is the exp of the maximum."""
    pool = _pool(scene, node)
    if pool is None:
        return None
    before = scene.call(pool.x)
    rising = before if before is not None and before.kind in ("relu", "exp") else None
    conv = pool.x if rising is None else rising.x
    if not is_conv(conv):
        return None
    if not alone(pool.x) or not alone(conv):
        raise Refused("what is pooled is used elsewhere, too")
    _put(scene, pool, conv, rising)
    name = "" if rising is None else f" + {rising.kind}"
    return f"token_conv1d{name} + {pool.kind}", "token_conv1d_max_pool"


def _pool(scene: Scene, node: fx.Node) -> Call | None:
    """Max-pooling, or the maximum over all positions, of which only the values are used."""
    call = scene.call(node)
    if call is not None and call.kind in ("max_pool1d", "adaptive_max_pool1d"):
        return call
    if call is not None and call.kind == "amax":
        x = scene.call(call.x)
        if is_conv(call.x) or (x is not None and x.kind in ("relu", "exp") and is_conv(x.x)):
            raise Refused(_AMAX)
    return _maximum(node)


def _maximum(node: fx.Node) -> Call | None:
    """`x.max(-1).values`, or `torch.max(x, 2)[0]`: the place of the values."""
    wanted = (operator.getitem, 0), (getattr, "values")
    if node.op != "call_function" or (node.target, node.args[1:2]) not in [(f, (a,)) for f, a in wanted]:
        return None
    largest = node.args[0]
    if not isinstance(largest, fx.Node) or largest.target not in (torch.max, "max") or not alone(largest):
        return None
    given = {"dim": None, "keepdim": False, **dict(zip(("dim", "keepdim"), largest.args[1:], strict=False))}
    given |= largest.kwargs
    x = largest.args[0] if largest.args else None
    if not isinstance(x, fx.Node) or given["dim"] not in (-1, 2) or set(given) != {"dim", "keepdim"}:
        return None
    return Call("max", node, x, {"keepdim": given["keepdim"], "largest": largest})


def _put(scene: Scene, pool: Call, conv: fx.Node, rising: Call | None) -> None:
    relu = rising is not None and rising.kind == "relu"
    args = arguments(conv)
    with scene.graph.inserting_before(pool.node):
        if pool.kind == "max_pool1d":
            found = scene.graph.call_function(pooled, (*args, relu, *window(pool), False))
        else:
            _require_whole(pool)
            found = scene.graph.call_function(pooled_over_all, (*args, relu))
        if rising is not None and not relu:
            found = scene.graph.call_function(torch.exp, (found,))
        if pool.kind == "max" and not pool.args["keepdim"]:
            found = scene.graph.call_function(torch.squeeze, (found, -1))
    _replace(scene, pool, found)
    discard(scene, *([rising.node] if rising else []), conv)


def _require_whole(pool: Call) -> None:
    if pool.kind == "adaptive_max_pool1d" and (
        number(pool.args["output_size"]) != 1 or pool.args["return_indices"]
    ):
        raise Refused("adaptive pooling must be to one value, without indices")


def _replace(scene: Scene, pool: Call, found: fx.Node) -> None:
    if pool.node.name in scene.values:
        scene.values[found.name] = scene.values[pool.node.name]
    pool.node.replace_all_uses_with(found)
    scene.graph.erase_node(pool.node)
    if "largest" in pool.args:
        scene.graph.erase_node(pool.args["largest"])


def merge_late_relu(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """ReLU behind fused pooling becomes part of it: a maximum of ReLU is the ReLU of the maximum."""
    relu = scene.call(node)
    if relu is None or relu.kind != "relu" or relu.x.target not in (pooled, pooled_over_all):
        return None
    if not alone(relu.x):
        raise Refused("what is pooled is used before ReLU, too")
    before = relu.x
    args = (*before.args[:6], True, *before.args[7:])
    scene.put(node, before.target, *args)
    discard(scene, before)
    return "token_conv1d_max_pool + relu", "token_conv1d_max_pool"
