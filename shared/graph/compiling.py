"""Which backend a compilation is for: a question to ask in code that Dynamo traces.

Importing this imports Dynamo, which takes a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch._dynamo
from torch import Tensor

_INSIDE = ("_torchdynamo_orig_backend", "__wrapped__", "compiler_fn")  # what torch wraps a backend in


@dataclass(frozen=True)
class Held:
    """A call in a graph of Dynamo's that reads tensors which are no arguments of it.

    Args:
        function: takes `args`, and after them `tensors`, or what stands for them while something traces it.
        args: nodes and constants.
        tensors: what the function reads when it is called with `args` alone.
    """

    function: Callable[..., Any]
    args: tuple
    tensors: Sequence[Tensor | None]


# functions that Dynamo puts into graphs (`torch._dynamo.allow_in_graph`), by what tells the call of the
# arguments
HOLDERS: dict[Callable[..., Any], Callable[..., Held]] = {}


@torch._dynamo.assume_constant_result
def for_qbio() -> bool:
    """Whether Dynamo traces for `torch.compile(backend="qbio")`; False where nothing is traced.

    Example:
        >>> for_qbio()
        False
    """
    from torch._dynamo.symbolic_convert import InstructionTranslator
    from torch._dynamo.symbolic_convert import tls as running

    from shared.graph.backend import qbio  # which asks packages to prepare, and they import this

    if not hasattr(running, "current_tx"):
        return False
    found: Any = InstructionTranslator.current_tx().output.compiler_fn
    while found is not None and found is not qbio:
        found = next((vars(found)[name] for name in _INSIDE if name in getattr(found, "__dict__", ())), None)
    return found is not None
