"""Calls that give back what they are given: `nn.Identity`, dropout in evaluation, a move and its way back."""

from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from shared.graph.duplicates import called, changed_later, returned
from shared.graph.rules import Refused, Rule
from shared.graph.scene import Call, Scene, hooked

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)


def drop_identity(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """A call that returns its argument is left out, so that the calls around it meet.

    Dropout asks for its own mode in each call. It may be left out nevertheless: the copy notices when a
    dropout of its own is switched on alone, see `shared.graph.attributes`.
    """
    before = _given_back(scene, node)
    if before is None:
        return None
    what = called(scene, node)
    node.replace_all_uses_with(before)
    scene.graph.erase_node(node)
    return what, "nothing"


def drop_round_trip(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`x.transpose(1, 2).transpose(2, 1)` is x, and `x.contiguous().contiguous()` is `x.contiguous()`."""
    last = scene.call(node)
    first = None if last is None else scene.call(last.x)
    if last is None or first is None or first.kind != last.kind or scene.observe is None:
        return None
    if last.kind == "contiguous":
        source, left = first.node, "contiguous"
    elif last.kind == "transpose" and _axes(first) == _axes(last):
        source, left = first.x, "nothing"
    else:
        return None
    if changed_later(scene, source, node) or (returned(scene, source) and returned(scene, node)):
        raise Refused(
            f"it gives {source.name} back, but one of the two is changed in place, or both returned"
        )
    node.replace_all_uses_with(source)
    scene.drop(node)
    return f"{last.kind} + {last.kind}", left


def _given_back(scene: Scene, node: fx.Node) -> fx.Node | None:
    """The argument that a call returns as it is."""
    if node.op == "call_function" and node.target in _FUNCTIONS:
        given = {**dict(zip(("input", "p", "training"), node.args, strict=False)), **node.kwargs}
        return given["input"] if given.get("training", True) is False else None  # type: ignore[return-value]
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs or scene.observe is None:
        return None
    module = scene.root.get_submodule(str(node.target))
    same = type(module) is nn.Identity or (type(module) in DROPOUTS and not scene.training)
    found: Any = node.args[0]
    return found if same and not hooked(module) and isinstance(found, fx.Node) else None


def _axes(call: Call) -> frozenset[Any]:
    """Which axes change places, by their numbers as written: how many there are may differ between calls."""
    return frozenset((call.args["dim0"], call.args["dim1"]))


IDENTITIES = Rule("identity", "f(x) that returns x = x", drop_identity)
ROUND_TRIPS = Rule("round_trip", "f(f(x)) = x, or f(x)", drop_round_trip)
