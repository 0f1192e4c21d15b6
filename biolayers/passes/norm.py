"""Batch normalisation of a token convolution: it becomes part of weight and bias, in training, too."""

import operator

from torch import Tensor, fx, nn

from biolayers.layers.batch_moments import _normalising, folded, folded_by
from biolayers.passes.images import row_of
from biolayers.passes.nodes import alone, arguments, discard, is_conv, once, put_conv
from shared.graph import Call, Refused, Scene
from shared.graph.scene import Attribute

_GIVEN = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def merge_norm(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`batch_norm(token_conv1d(tokens))` becomes `token_conv1d` with weight and bias that normalise.

    A module is asked for its statistics and its parameters in every call, as ever, and in training for its
    mode; the statistics of a batch follow from weights and letters alone, see
    `biolayers.layers.batch_moments`. In evaluation no letters are needed, so that both strands meet the same
    filters.
    """
    norm = scene.call(node)
    if norm is None or norm.kind != "batch_norm":
        return None
    row = row_of(scene, norm.x)  # of an image of height 1, which BatchNorm2d normalises
    conv = norm.x if row is None else row
    if not is_conv(conv):
        return None
    if not alone(norm.x) or not alone(conv):
        raise Refused("what is normalised is used elsewhere, too")
    put_conv(scene, node, *_folded(scene, norm, arguments(conv)), image=row is not None)
    discard(scene, conv)
    return "token_conv1d + batch_norm", "token_conv1d with the norm in its weight"


def still(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias that convolve and normalise at once, by the statistics that a norm has."""
    return _normalising(weight, bias, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)


def _is_still(scene: Scene, node: fx.Node) -> bool:
    """Whether a norm is a module with statistics, in evaluation."""
    if scene.training or scene.observe is None or node.op != "call_module":
        return False
    return scene.root.get_submodule(str(node.target)).running_mean is not None


def _folded(scene: Scene, norm: Call, conv: tuple) -> tuple:
    """The arguments of a convolution that normalises."""
    tokens, weight, bias, *geometry = conv
    graph, node = scene.graph, norm.node
    if _is_still(scene, node):
        scene.relied.add(str(node.target))
        both = once(scene, still, weight, bias, Attribute(str(node.target)))
        return (tokens, *(once(scene, operator.getitem, both, i) for i in range(2)), *geometry)
    with graph.inserting_before(node):
        if node.op == "call_module":
            args = (tokens, weight, bias, graph.get_attr(str(node.target)), tuple(geometry))
            both = graph.call_function(folded, args)
        else:
            given = (norm.args[name] for name in _GIVEN)
            both = graph.call_function(folded_by, (tokens, weight, bias, *given, tuple(geometry)))
        weight, bias = (graph.call_function(operator.getitem, (both, i)) for i in range(2))
    return (tokens, weight, bias, *geometry)
