"""How many floating-point operations a step is worth, counted on the program that the circuit's op runs."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from qlayers.kernels.numba.program import CORNERS, DIAGONAL, LANE, Program, schedule

# operations for each complex amplitude: forward, and backward with state, costate and slopes
_TURN = (4, 12)  # a shear: one multiply-add for each real number; two shears and two products
_DIAGONAL = (6, 15)  # a complex factor; two of them and an inner product
_BEGINNING = (12, 44)  # a state doubled until it is whole; two states halved and two inner products
_WORDS = (3, 2)  # squared moduli; weights
_SIGNS = 1  # an addition for each level of a Walsh-Hadamard transform


def useful_operations(step: Callable[[], Any]) -> int:
    """Operations of the simplified circuit, forward once and, if the step has one, backward once.

    That backward goes forward once more, to keep memory low, does not count.
    """
    with _Calls() as calls:
        step()
    return sum(_count(*call) for call in calls.found)


def _count(backward: bool, shared: Any, batched: Any, rotations: Any, words: Any, wires: int, *_: Any) -> int:
    tables = (rotations.numpy().tobytes(), words.numpy().tobytes())
    program = schedule(*tables, wires, 0).program
    return batched.shape[0] * 2**wires * _for_amplitude(program, wires, backward)


def _for_amplitude(program: Program, wires: int, backward: bool) -> int:
    kinds = program.passes[:, 0]
    turns = sum(program.passes[kinds >= LANE, 3] - program.passes[kinds >= LANE, 1])
    assert CORNERS > LANE > DIAGONAL
    diagonal = int((kinds == DIAGONAL).sum())
    count = turns * _TURN[backward] + diagonal * _DIAGONAL[backward] + _BEGINNING[backward] + _WORDS[backward]
    transforms = (diagonal if backward else 0) + bool((program.words[:, 0] == 0).any())
    across = int((program.words[:, 0] != 0).sum())  # words with an X part: an inner product each
    return int(count + transforms * wires * _SIGNS + 4 * across)


class _Calls(TorchDispatchMode):
    """Keeps the calls of the circuit's op."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op.name().startswith("qlayers::pauli_expval"):
            self.found.append((op.name() == "qlayers::pauli_expval_vjp", *args))
        return op(*args, **(kwargs or {}))
