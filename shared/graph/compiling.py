"""Which backend a compilation is for: a question to ask in code that Dynamo traces.

Importing this imports Dynamo, which takes a second.
"""

from typing import Any

import torch._dynamo

_INSIDE = ("_torchdynamo_orig_backend", "__wrapped__", "compiler_fn")  # what torch wraps a backend in


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
