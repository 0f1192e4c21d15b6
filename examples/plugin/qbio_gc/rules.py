"""What `shared.optimize` may know about the op: both strands, from either end, have the same content."""

import operator

import torch
from torch import fx

from qbio_gc.ops import content
from shared.graph import Refused, Rule, Rules, Scene


def same_on_both_strands(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`content(tokens.flip(1))` and `content(3 - tokens)` become `content(tokens)`.

    As bytes, 3 - tokens exchanges the plain letters among themselves, C and G too, and all others.
    """
    if node.target not in (content, content.overload):  # a rule's call, or one that tracing has seen
        return None
    tokens = node.args[0]
    call = scene.call(tokens)
    if call is not None and call.kind == "flip":
        if call.args["dims"] not in (1, -1, (1,), (-1,), [1], [-1]):
            raise Refused("the batch is flipped, too")
        scene.put(node, content, call.x)
        return "content of flip", "content"
    if isinstance(tokens, fx.Node) and tokens.target is operator.sub and tokens.args[0] == 3:
        given = tokens.args[1]
        value = scene.value(given) if isinstance(given, fx.Node) else None
        if value is not None and value.dtype == torch.uint8:
            scene.put(node, content, given)
            return "content of complements", "content"
    return None


EQUATION = "content(3 - tokens) = content(tokens.flip(1)) = content(tokens)"
RULES = Rules((Rule("gc_of_strands", EQUATION, same_on_both_strands),))
