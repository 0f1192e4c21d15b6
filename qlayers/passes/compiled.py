"""PennyLane's layer under `torch.compile(backend="qbio")`.

Dynamo traces the layer's forward, and stops in the midst of PennyLane. So there the forward is another one
that Dynamo can trace: the captured circuit, run as one op on the layer's own weights. Outside of such a
compilation the forward is PennyLane's.
"""

import functools
import sys
from typing import Any
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from qlayers.layer import QuantumLayer
from qlayers.passes.exchange import is_torch_layer, stand_in
from qlayers.passes.one_call import circuit, remember
from qlayers.passes.running import evaluate
from qlayers.plan import PlanTables
from qlayers.program import Captured
from shared.graph import compiling

_known: "WeakKeyDictionary[nn.Module, QuantumLayer]" = WeakKeyDictionary()


class _Programs:
    """Holds circuits as attributes, which Dynamo finds again and watches one by one."""


_programs = _Programs()


def let_compilers_through() -> None:
    """Give `pennylane.qnn.TorchLayer`, where PennyLane is imported, a forward that Dynamo can trace."""
    found = sys.modules.get("pennylane.qnn.torch")
    layer = getattr(found, "TorchLayer", None)  # None while PennyLane is being imported
    if layer is not None and not hasattr(layer.forward, "_of_pennylane"):
        layer.forward = _with_a_way_through(layer.forward)


def _with_a_way_through(of_pennylane: Any) -> Any:
    in_eager = torch.compiler.disable(of_pennylane)

    @functools.wraps(of_pennylane)
    def forward(self: Any, inputs: Tensor) -> Tensor:
        if not is_dynamo_compiling():
            return of_pennylane(self, inputs)
        features = len(range(inputs.shape[-1]))  # a number to Dynamo, too, where sizes are symbols
        found = way(self, self.qnode, inputs.ndim, features, inputs.dtype, inputs.device)
        if found is None:
            return of_pennylane(self, inputs)
        program, tables, names = found
        if tables:
            return circuit(tables, inputs, [self._parameters[name] for name in names])
        if program:
            return evaluate(getattr(_programs, program), inputs, self._parameters)
        return in_eager(self, inputs)

    forward._of_pennylane = of_pennylane  # type: ignore[attr-defined]
    return forward


@torch.compiler.assume_constant_result
def way(
    layer: nn.Module, qnode: Any, dims: int, features: int, dtype: torch.dtype, device: torch.device
) -> tuple[str, str, tuple[str, ...]] | None:
    """How a layer that Dynamo traces runs; all is asked here at once, as each look of Dynamo's is a guard.

    Args:
        layer: a `TorchLayer`.
        qnode: its QNode; an argument so that Dynamo compiles anew when it is another one.
        dims: of its inputs.
        features: how many a sample has.
        dtype: of its inputs.
        device: of its inputs.

    Returns:
        None where Dynamo does not trace for us; else where `_programs` holds the circuit, or "" where one op
        cannot run it; the name of the tables if a call of `circuit` is all that there is to do, or ""; and
        the names of the weights.
    """
    if not compiling.for_qbio():
        return None
    name = name_of_program(layer, qnode, features)
    if name is None:
        return "", "", ()
    program: Captured = getattr(_programs, name)
    tables = program._tables.get((device, dtype))
    plain = dims == 2 and all(layer._parameters[each].dtype is dtype for each in program.names)
    if (
        not plain
        or program.single
        or not isinstance(tables, PlanTables)
        or not tables.affine
        or tables.results
    ):
        return name, "", program.names
    remember(tables)
    return name, tables.name, program.names


def name_of_program(layer: nn.Module, qnode: Any, features: int) -> str | None:
    """Where `_programs` holds the circuit of a `TorchLayer` with this QNode; None if one op cannot run it."""
    if not is_torch_layer(layer):
        return None
    known = _known.get(layer)
    if known is None or known._function.qnode is not qnode:
        known = _known[layer] = stand_in(layer)
    program = known._ready(features) if known._backend is None else None
    if not isinstance(program, Captured):
        return None
    name = f"program_{id(program)}"
    if not hasattr(_programs, name):
        setattr(_programs, name, program)
        finalize(known, delattr, _programs, name)
    return name
