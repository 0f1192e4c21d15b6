"""Batch normalisation of a token convolution: it becomes part of weight and bias, in training, too."""

import operator

from torch import fx

from biolayers.layers.batch_moments import folded, folded_by
from biolayers.passes.images import row_of
from biolayers.passes.nodes import alone, arguments, discard, is_conv, put_conv
from shared.graph import Call, Refused, Scene

_GIVEN = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def merge_norm(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`batch_norm(token_conv1d(tokens))` becomes `token_conv1d` with weight and bias that normalise.

    A module is asked for its mode, its statistics and its parameters in every call, as ever; the statistics
    of a batch follow from weights and letters alone, see `biolayers.layers.batch_moments`.
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


def _folded(scene: Scene, norm: Call, conv: tuple) -> tuple:
    """The arguments of a convolution that normalises."""
    tokens, weight, bias, *geometry = conv
    graph, node = scene.graph, norm.node
    with graph.inserting_before(node):
        if node.op == "call_module":
            args = (tokens, weight, bias, graph.get_attr(str(node.target)), tuple(geometry))
            both = graph.call_function(folded, args)
        else:
            given = (norm.args[name] for name in _GIVEN)
            both = graph.call_function(folded_by, (tokens, weight, bias, *given, tuple(geometry)))
        weight, bias = (graph.call_function(operator.getitem, (both, i)) for i in range(2))
    return (tokens, weight, bias, *geometry)
