"""Circuits one after another on the same wires."""

import torch
from torch import Tensor, fx

from qlayers.ops import pauli_evolve
from qlayers.passes.running import layer_of
from shared.graph import Refused, Rule, Scene

WORTH = 2**15  # numbers of a state from which on a pass over it costs more than joining the tables


def join_evolutions(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`pauli_evolve(pauli_evolve(state, ...), ...)` becomes one call with the rotations of both."""
    if layer_of(scene, node) is not None and layer_of(scene, node.args[0]) is not None:
        raise Refused(f"{node.args[0].target} ends with a measurement, so there is no state to go on with")
    if not _evolves(node) or not _evolves(node.args[0]):
        return None
    first, value = node.args[0], scene.value(node)
    if len(first.users) > 1:
        raise Refused("the state in between is used elsewhere, too")
    if first.args[4] != node.args[4] or value is None:
        raise Refused("both must have the same, known number of wires")
    if value.numel() < WORTH:
        raise Refused(f"a state of {value.numel()} numbers is passed over sooner than two tables are joined")
    scene.put(node, evolved, first.args[0], *first.args[1:4], *node.args[1:])
    for each in (node, first):
        if not each._erased and not each.users:
            scene.graph.erase_node(each)
    return "pauli_evolve + pauli_evolve", "pauli_evolve"


def evolved(
    state: Tensor, shared: Tensor, batched: Tensor, rotations: Tensor,
    more_shared: Tensor, more_batched: Tensor, more_rotations: Tensor, wires: int,
) -> Tensor:  # fmt: skip
    """`qlayers.ops.pauli_evolve` of two circuits, one after another.

    Args:
        state: where the first begins, see there.
        shared: angles of the first.
        batched: angles of the first for each sample.
        rotations: of the first.
        more_shared: of the second, like the next two.
        more_batched: see above.
        more_rotations: see above.
        wires: of both.
    """
    columns = torch.where(more_rotations[:, 2] == 0, shared.shape[0], batched.shape[1])
    moved = torch.cat([more_rotations[:, :3], (more_rotations[:, 3] + columns)[:, None]], 1)
    own = torch.cat([batched.expand(more_batched.shape[0], -1), more_batched], 1)
    return pauli_evolve(state, torch.cat([shared, more_shared]), own, torch.cat([rotations, moved]), wires)


def _evolves(node: object) -> bool:
    plain = isinstance(node, fx.Node) and node.op == "call_function" and not node.kwargs
    return plain and len(node.args) == 5 and node.target in (pauli_evolve, pauli_evolve.overload)


CHAINS = Rule(
    "consecutive_circuits", "evolve(evolve(state, a), b) = evolve(state, a then b)", join_evolutions
)
