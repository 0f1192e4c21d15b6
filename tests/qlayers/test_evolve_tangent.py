"""Forward mode and second derivatives of states, over one block or several, against plain PyTorch."""

import pytest
import torch
from torch import func
from torch.utils import _pytree as pytree

from qlayers.ops import pauli_evolve, pauli_evolve_tangent, pauli_evolve_vjp

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}


def problem(states, batch=3, count=21, wires=3, dtype=torch.float64):
    """(state, shared, batched) and the tables: a circuit of more rotations than a block has."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(2**wires, (count, 2), generator=generator)
    places = torch.randint(2, (count, 2), generator=generator)  # angles that several rotations share
    shapes = (states, 2, 2**wires), (2,), (batch, 2)
    moving = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return moving, (torch.cat([masks, places], 1), wires)


def directions(moving):
    return tuple(torch.cos(3 * value + 1) for value in moving)


def total(f):
    return lambda *at: sum(part.sin().sum() for part in pytree.tree_leaves(f(*at)))


MODES = {
    "jvp": lambda f: lambda *at: func.jvp(f, at, directions(at)),
    "jvp of angles": lambda f: (
        lambda state, *at: func.jvp(lambda *at: f(state, *at), tuple(at), directions(at))
    ),
    "jvp of state": lambda f: (
        lambda state, *at: func.jvp(lambda state: f(state, *at), (state,), directions((state,)))
    ),
    "jacfwd": lambda f: func.jacfwd(f, (1, 2)),
    "jvp of jvp": lambda f: MODES["jvp"](MODES["jvp of angles"](f)),
    "grad of jvp": lambda f: func.grad(lambda *at: MODES["jvp"](f)(*at)[1].sin().sum(), (0, 1, 2)),
    "jvp of grad": lambda f: MODES["jvp"](func.grad(total(f), (0, 1, 2))),
    "grad of grad": lambda f: func.grad(total(func.grad(total(f), (0, 1, 2))), (0, 1, 2)),
    "vmap of jvp": lambda f: (
        lambda state, shared, batched: func.vmap(MODES["jvp"](f), (None, 0, None))(
            state, torch.stack([shared, 2 * shared]), batched
        )
    ),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("states", [0, 1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_forward_mode_equals_the_reference(mode, states, dtype, monkeypatch):
    moving, tables = problem(states, dtype=dtype)
    exact = [value.double() for value in moving]
    expected = MODES[mode](lambda *at: pauli_evolve.reference(*at, *tables))(*exact)
    for operation in (pauli_evolve, pauli_evolve_vjp):
        monkeypatch.setattr(operation, "reference", None)  # the kernels alone do it
    found = MODES[mode](lambda *at: pauli_evolve(*at, *tables))(*moving)
    leaves = (pytree.tree_leaves(tree) for tree in (found, expected))
    for output, wanted in zip(*leaves, strict=True):
        assert output.dtype == dtype
        scale = max(1.0, wanted.abs().max().item() if wanted.numel() else 0.0)
        torch.testing.assert_close(output.double(), wanted, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize(("batch", "count"), [(0, 5), (2, 0), (1, 16), (2, 17)])
@pytest.mark.parametrize("numbers", [0, 2**20], ids=["small blocks", "large blocks"])
def test_blocks_of_any_length(batch, count, numbers, monkeypatch):
    monkeypatch.setattr(pauli_evolve_tangent, "_NUMBERS", numbers)
    moving, tables = problem(1, batch, count)
    found, expected = (
        func.jvp(lambda *at, f=f: f(*at, *tables), tuple(moving), directions(moving))
        for f in (pauli_evolve, pauli_evolve.reference)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
