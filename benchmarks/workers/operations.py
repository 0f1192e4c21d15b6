"""How many operations a step is worth: what `shared.op` declares as the cost of the circuit's op."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def useful_operations(step: Callable[[], Any]) -> int:
    """Floating-point operations of the simplified circuit, forward and, if the step has one, backward.

    The cost of the backward op includes the forward pass, which it makes again; only the dearer op counts, so
    that a step is not credited with the same work twice.
    """
    with _Costs() as costs:
        step()
    return max(costs.found, default=0)


class _Costs(TorchDispatchMode):
    """Keeps what each op with a declared cost would need."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        if op.namespace == "qlayers":
            self.found.append(flop_registry[op._overloadpacket](*args, **(kwargs or {}), out_val=result))
        return result
