"""What the common optimizer knows about circuits."""

from torch import nn

from qlayers.layer import QuantumLayer
from qlayers.passes.chains import CHAINS
from qlayers.passes.exchange import QUANTUM_LAYER
from qlayers.passes.frozen import FROZEN
from qlayers.passes.scaling import SCALING
from qlayers.passes.sharing import SHARED_GATES
from shared.graph import Rules


def is_leaf(module: nn.Module) -> bool:
    """Layers are one call each, PennyLane's too."""
    return isinstance(module, QuantumLayer) or type(module).__module__.startswith("pennylane.")


def before_compiling() -> None:
    """Let Dynamo trace PennyLane's layers."""
    from qlayers.passes.compiled import let_compilers_through  # imports Dynamo

    let_compilers_through()


RULES = Rules((QUANTUM_LAYER, SHARED_GATES, SCALING, CHAINS, FROZEN), is_leaf, before_compiling)
