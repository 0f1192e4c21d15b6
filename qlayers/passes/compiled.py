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

from qlayers.layer import QuantumLayer
from qlayers.passes.exchange import is_torch_layer, stand_in
from qlayers.passes.running import evaluate
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
        if not torch.compiler.is_dynamo_compiling() or not compiling.for_qbio():
            return of_pennylane(self, inputs)
        name = name_of_program(self, self.qnode, inputs.shape[-1])
        if name is None:
            return in_eager(self, inputs)
        return evaluate(getattr(_programs, name), inputs, self._parameters)

    forward._of_pennylane = of_pennylane  # type: ignore[attr-defined]
    return forward


@torch.compiler.assume_constant_result
def name_of_program(layer: nn.Module, qnode: Any, features: int) -> str | None:
    """Where `_programs` holds the circuit of a layer that Dynamo traces; None where one op cannot run it.

    Args:
        layer: a `TorchLayer`.
        qnode: its QNode; an argument so that Dynamo compiles anew when it is another one.
        features: how many a sample has.
    """
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
