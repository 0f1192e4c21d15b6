"""Images of height 1, (b, out, 1, l): the axis of one steps behind what does not need it.

Models in the habit of Basset convolve an image of letters and keep its height of 1 to the end. Each call here
is the same along the width alone, so `f2(x.unsqueeze(2))` becomes `f1(x).unsqueeze(2)`, until a squeeze
takes the axis away.
"""

import torch
import torch.nn.functional as F
from torch import fx

from biolayers.passes.geometry import window
from shared.graph import Call, Refused, Scene

_SAME = ("relu", "gelu", "exp")  # number by number


def flatten(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """A call of an image of height 1 becomes a call of its only row."""
    call = scene.call(node)
    row = None if call is None else row_of(scene, call.x)
    if call is None or row is None:
        return None
    if call.kind == "squeeze" and call.args["dim"] in (2, -2):
        node.replace_all_uses_with(row)
        scene.drop(node)
        return "unsqueeze + squeeze", "nothing"
    if call.kind not in (*_SAME, "max_pool2d"):
        return None
    if len(call.x.users) > 1 or len(row.users) > 1:
        raise Refused("the image is used elsewhere, too")
    with scene.graph.inserting_before(node):
        found = _of_row(scene, call, row)
    scene.put(node, torch.unsqueeze, found, 2)
    return f"{call.kind} of an image of height 1", "the same of its row"


def row_of(scene: Scene, node: fx.Node) -> fx.Node | None:
    """The row (b, out, l) of an image (b, out, 1, l), where a rule has made the one from the other."""
    if node.op != "call_function" or node.target is not torch.unsqueeze or node.args[1:] != (2,):
        return None
    row = node.args[0]
    value = scene.value(row) if isinstance(row, fx.Node) else None
    return row if value is not None and value.ndim == 3 else None


def _of_row(scene: Scene, call: Call, row: fx.Node) -> fx.Node:
    node, value = call.node, scene.value(call.node)
    if call.kind == "max_pool2d":
        found = scene.graph.call_function(F.max_pool1d, (row, *window(call)))
    else:
        found = scene.graph.create_node(node.op, node.target, (row, *node.args[1:]), node.kwargs)
    if value is not None:
        scene.values[found.name] = value.squeeze(2)
    return found
