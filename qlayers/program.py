"""A captured circuit, ready to run: its plan, as tensors for each device and dtype in use."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from qlayers.circuit import Circuit
from qlayers.plan import Plan, PlanTables
from qlayers.states import StatePlan, StateTables
from shared.errors import UserError

SMALL = 16  # wires up to which the tables take little memory
READY = (torch.float32, torch.float64)  # made in advance on the CPU, so that a compiler finds them


class Captured:
    """Runs one circuit on batches with a fixed number of features.

    The index tensors are no buffers of the layer: they follow the inputs' device by themselves, survive
    `to_empty` from the meta device, and DDP does not send them around. They are never changed, so copies
    share them.

    Attributes:
        circuit: what it runs.
        plan: its plan.
        names: the weights that it needs, in order.
        single: whether one bare number is returned.
        trajectories: how many sample the noise of a circuit with channels; None for its density matrix.
    """

    def __init__(self, circuit: Circuit, trajectories: int | None = None):
        self.circuit, self.trajectories = circuit, trajectories
        self.plan: Plan | StatePlan = _plan_of(circuit, trajectories)
        self.names = self.plan.schedule.weights
        self.single = circuit.single and not circuit.shape
        self._tables: dict[tuple[torch.device, torch.dtype], PlanTables | StateTables] = {}
        if self.plan.wires <= SMALL:
            for dtype in READY:
                self._add(torch.device("cpu"), dtype)

    @classmethod
    def of(cls, circuit: Circuit, features: int, *, trajectories: int | None = None) -> "Captured":
        """The circuit for inputs with at least as many features as it uses.

        Args:
            circuit: what to run.
            features: how many a sample has.
            trajectories: of a circuit with noise channels, drawn at each forward pass from torch's random
                numbers, see `qlayers.noise.trajectories`; None for exact results by the density matrix.
        """
        if features < circuit.features_used:
            raise UserError(
                f"The circuit uses {circuit.features_used} input features (x0 to "
                f"x{circuit.features_used - 1}), the inputs have {features} in their last dimension."
            )
        fitted = circuit if features == circuit.features else replace(circuit, features=features)
        return cls(fitted, trajectories)

    def _add(self, device: torch.device, dtype: torch.dtype) -> PlanTables | StateTables:
        if torch.is_inference_mode_enabled():  # the tables serve training, too
            with torch.inference_mode(False):
                return self._add(device, dtype)
        return self._tables.setdefault((device, dtype), self.plan.tables(device, dtype))

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) of inputs (b, features) and the weights `names`, all of one dtype."""
        tables = self._tables.get((inputs.device, inputs.dtype))
        if tables is None:
            tables = self._add(inputs.device, inputs.dtype)
        return tables.run(inputs, weights)

    def __getstate__(self) -> dict:
        return {"circuit": self.circuit, "trajectories": self.trajectories}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["circuit"], state.get("trajectories"))

    def __deepcopy__(self, memo: dict) -> "Captured":
        return self


def _plan_of(circuit: Circuit, trajectories: int | None) -> Plan | StatePlan:
    if trajectories is None or not circuit.noisy:
        return circuit.plan()
    from qlayers.noise.trajectories import trajectory_plan

    return trajectory_plan(circuit.exact, trajectories)
