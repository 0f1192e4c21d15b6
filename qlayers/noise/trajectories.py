"""Which plan samples the trajectories of a noisy circuit."""

from typing import TYPE_CHECKING

from qlayers.blocks import BLOCKS
from qlayers.noise.channels import KRAUS, channel, is_channel
from qlayers.noise.flips import FlipPlan, flip_plan
from qlayers.noise.jumps import JumpPlan, jump_plan
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.circuit import Circuit


def trajectory_plan(circuit: "Circuit", trajectories: int) -> FlipPlan | JumpPlan:
    """The plan that runs a circuit with channels by random trajectories.

    Where all channels are flips (bit and phase flips, depolarizing and phase damping, Pauli errors), a
    trajectory is the circuit with other signs, and nothing but rotations is computed; other channels,
    prepared states and matrices take states. Expectation values, probabilities and density matrices, and
    their gradients, have the exact ones as their means; variances, purities and entropies are those of the
    mean density matrix of the trajectories, with a bias of the order of 1 / trajectories.

    Args:
        circuit: has noise channels.
        trajectories: how many are drawn for each sample and forward pass, from torch's random numbers.

    Raises:
        UserError: the number is not positive, or a measurement has no meaning for mixed states.
    """
    if isinstance(trajectories, bool) or not isinstance(trajectories, int) or trajectories < 1:
        raise UserError(f"trajectories: expected a number of at least 1, received {trajectories!r}; try 100.")
    names = [operation.gate for operation in circuit.operations]
    of_states = any(name in BLOCKS or name == KRAUS for name in names)
    relaxes = any(channel(name).relaxes is not None for name in names if is_channel(name))
    plan = jump_plan if of_states or relaxes else flip_plan
    return plan(circuit, trajectories)
