"""A circuit as one call in the graphs that Dynamo makes for `torch.compile(backend="qbio")`.

Dynamo would trace the gathering of angles, the op and the sum of its outputs as calls of their own. Run one
by one they take several nodes of autograd and the dispatcher's time, where a plain pass takes one node (see
`qlayers.node`). So the graph holds a single call. What compiles the graph further traces that call with
tensors that stand for real ones, and finds the op and the arithmetic around it in there.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from qlayers import node
from qlayers.evaluate import angles
from shared.graph import compiling

if TYPE_CHECKING:
    from qlayers.plan import PlanTables

_known: "WeakValueDictionary[str, PlanTables]" = WeakValueDictionary()


def in_graph(tables: "PlanTables", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor | None:
    """What `node.run` returns while Dynamo traces; None where the graph is not for us."""
    if not compiling.for_qbio():
        return None
    remember(tables)
    return circuit(tables.name, inputs, list(weights))


@torch._dynamo.assume_constant_result
def remember(tables: "PlanTables") -> None:
    """Let `circuit` find the tables, as long as they live."""
    _known[tables.name] = tables


@torch._dynamo.allow_in_graph
def circuit(name: str, inputs: Tensor, weights: list[Tensor]) -> Tensor:
    """What `node.run` returns: (b, outputs) of inputs (b, features), all in the tables' dtype.

    Args:
        name: of the tables; Dynamo compiles anew for tables of another name.
        inputs: see above.
        weights: those of the tables' schedule, in its order.
    """
    return OneCall(_known[name])(inputs, weights)


class OneCall:
    """What takes the place of `circuit` in a graph that is compiled: it keeps the tables."""

    def __init__(self, tables: "PlanTables") -> None:
        self.tables, self.__name__ = tables, "circuit"

    def __call__(
        self, inputs: Tensor, weights: list[Tensor], tensors: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """See `circuit`; `tensors` are those of the tables, or stand for them while something traces this."""
        found = node.run(self.tables, inputs, weights)
        if found is None:  # traced, or in a transform, or the like
            tables = _with(self.tables, _stand_ins(self.tables, inputs) if tensors is None else tensors)
            found = tables.measure(*angles(inputs, weights, tables.angles))
        return found


def held(name: str, inputs: Any, weights: Any) -> compiling.Held:
    """A call of `circuit` in a graph of Dynamo's, with the tensors that its tables have."""
    tables = _known[name]
    return compiling.Held(OneCall(tables), (inputs, weights), _tensors(tables))


compiling.HOLDERS[circuit] = held


def _tensors(tables: "PlanTables") -> list[Tensor | None]:
    constants, _, (shared, own) = tables.angles
    return [tables.rotations, tables.words, tables.matrix, tables.offsets, constants, *shared, *own]


def _stand_ins(tables: "PlanTables", inputs: Tensor) -> list[Tensor | None]:
    """The tables' tensors, fake where the inputs are."""
    mode = detect_fake_mode((inputs,))
    return [each if mode is None or each is None else mode.from_tensor(each) for each in _tensors(tables)]


def _with(tables: "PlanTables", tensors: Sequence[Tensor | None]) -> "PlanTables":
    new = copy.copy(tables)
    new.rotations, new.words, new.matrix, new.offsets, constants = tensors[:5]  # type: ignore[assignment]
    new.angles = constants, [], [tuple(tensors[5:8]), tuple(tensors[8:])]
    return new
