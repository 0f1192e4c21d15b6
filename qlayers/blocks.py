"""Operations of a circuit that are no product of Pauli rotations, and what their numbers must be.

    StatePrep              2^k amplitudes; only where nothing has acted before
    QubitUnitary           a 2^k x 2^k matrix, row after row
    DiagonalQubitUnitary   the 2^k numbers on a diagonal
    Projector              k bits: keeps what agrees with them, and normalises (a postselected measurement)

The numbers are constants (`entries` of an `Operation`) or expressions (its `parameters`: 2^k real ones, or
the real parts and then the imaginary parts).
"""

import numpy as np

from shared.errors import UserError

# name: how many numbers it takes on k wires
BLOCKS = {
    "StatePrep": lambda k: 2**k,
    "QubitUnitary": lambda k: 4**k,
    "DiagonalQubitUnitary": lambda k: 2**k,
    "Projector": lambda k: k,
}
PRECISION = 1e-5  # how far a norm may be from 1: float32 data has errors of 1e-7 per number


def check_block(name: str, wires: tuple, parameters: int, entries: tuple) -> None:
    """Raise a `UserError` unless the numbers of a block are as many as it takes, and make sense."""
    size = BLOCKS[name](len(wires))
    if entries and parameters:
        raise UserError(f"{name} on wires {list(wires)} has both constants and expressions; give one kind.")
    allowed = (size,) if entries or name == "Projector" else (size, 2 * size)
    if (len(entries) or parameters) not in allowed:
        raise UserError(
            f"{name} on {len(wires)} wires takes {size} numbers, {len(entries) or parameters} are given; "
            "change the wires or the numbers."
        )
    if entries:
        _CHECKS[name](name, wires, np.array(entries))


def _check_norm(name: str, wires: tuple, state: np.ndarray) -> None:
    norm = float(np.linalg.norm(state))
    if not abs(norm - 1.0) < PRECISION:
        raise UserError(
            f"{name} on wires {list(wires)}: expected a state of norm 1, received one of norm {norm:.6g}; "
            "divide it by its norm, or use normalize=True."
        )


def _check_unitary(name: str, wires: tuple, matrix: np.ndarray) -> None:
    matrix = matrix.reshape(2 ** len(wires), -1)
    error = float(np.abs(matrix @ matrix.conj().T - np.eye(len(matrix))).max())
    if not error < PRECISION:
        raise UserError(
            f"{name} on wires {list(wires)}: expected a unitary matrix U, received one with "
            f"U U^dagger off the identity by {error:.3g}; check the matrix, or orthonormalise it."
        )


def _check_phases(name: str, wires: tuple, diagonal: np.ndarray) -> None:
    error = float(np.abs(np.abs(diagonal) - 1.0).max())
    if not error < PRECISION:
        raise UserError(
            f"{name} on wires {list(wires)}: expected numbers of absolute value 1, received one that is off "
            f"by {error:.3g}; write them as exp(i phase)."
        )


def _check_bits(name: str, wires: tuple, bits: np.ndarray) -> None:
    if not np.isin(bits, (0, 1)).all():
        raise UserError(f"{name} on wires {list(wires)}: expected bits 0 and 1, received {bits.tolist()}.")


_CHECKS = {
    "StatePrep": _check_norm,
    "QubitUnitary": _check_unitary,
    "DiagonalQubitUnitary": _check_phases,
    "Projector": _check_bits,
}
