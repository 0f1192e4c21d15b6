"""The ops of `qlayers`: one whole circuit on one whole batch each."""

from qlayers.ops import pauli_evolve_tangent, pauli_expval_tangent  # noqa: F401 (they declare forward mode)
from qlayers.ops.entropy import entropy, entropy_vjp
from qlayers.ops.pauli_evolve import pauli_evolve, pauli_evolve_vjp
from qlayers.ops.pauli_expval import pauli_expval, pauli_expval_vjp
from qlayers.ops.pauli_jet import pauli_expval_jet, pauli_expval_jet_vjp
from qlayers.ops.pauli_transfer import pauli_transfer, pauli_transfer_vjp

__all__ = [
    "entropy",
    "entropy_vjp",
    "pauli_evolve",
    "pauli_evolve_vjp",
    "pauli_expval",
    "pauli_expval_jet",
    "pauli_expval_jet_vjp",
    "pauli_expval_vjp",
    "pauli_transfer",
    "pauli_transfer_vjp",
]
