"""The ops of `qlayers`: one whole circuit on one whole batch each."""

from qlayers.ops.pauli_expval import pauli_expval, pauli_expval_vjp

__all__ = ["pauli_expval", "pauli_expval_vjp"]
