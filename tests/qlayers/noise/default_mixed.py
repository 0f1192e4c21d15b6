"""What the tests of noisy circuits share: every channel, and PennyLane's default.mixed."""

import warnings

import numpy as np
import pennylane as qml
import torch

ISOMETRIES = np.random.default_rng(0)


def kraus(count: int, wires: int) -> np.ndarray:
    """Random Kraus operators (count, 2^k, 2^k)."""
    size = 2**wires
    entries = ISOMETRIES.normal(size=(2, count * size, size))
    return np.linalg.qr(entries[0] + 1j * entries[1])[0].reshape(count, size, size)


ONE, TWO = kraus(3, 1), kraus(2, 2)


# name: (numbers that it takes, from p between 0 and 1/2; how many wires; how it is made of them)
CHANNELS = {
    "BitFlip": (1, 1, lambda p, on: qml.BitFlip(p[0], wires=on)),
    "PhaseFlip": (1, 1, lambda p, on: qml.PhaseFlip(p[0], wires=on)),
    "DepolarizingChannel": (1, 1, lambda p, on: qml.DepolarizingChannel(p[0], wires=on)),
    "PhaseDamping": (1, 1, lambda p, on: qml.PhaseDamping(p[0], wires=on)),
    "AmplitudeDamping": (1, 1, lambda p, on: qml.AmplitudeDamping(p[0], wires=on)),
    "GeneralizedAmplitudeDamping": (2, 1, lambda p, on: qml.GeneralizedAmplitudeDamping(*p, wires=on)),
    "ResetError": (2, 1, lambda p, on: qml.ResetError(p[0], p[1], wires=on)),
    # default.mixed takes no tensors here: slopes are tested by themselves
    "ThermalRelaxationError": (0, 1, lambda p, on: qml.ThermalRelaxationError(0.2, 1.1, 1.4, 0.3, wires=on)),
    "ThermalRelaxationError, short T2": (
        0,
        1,
        lambda p, on: qml.ThermalRelaxationError(0.1, 1.1, 0.5, 0.2, wires=on),
    ),
    # of a letter Y and a tensor default.mixed drops the imaginary part: tested by itself
    "PauliError": (1, 1, lambda p, on: qml.PauliError("X", p[0], wires=on)),
    "PauliError on two": (1, 2, lambda p, on: qml.PauliError("XZ", p[0], wires=on)),
    "QubitChannel": (0, 1, lambda p, on: qml.QubitChannel(list(ONE), wires=on)),
    "QubitChannel on two": (0, 2, lambda p, on: qml.QubitChannel(list(TWO), wires=on)),
}
FLIPS = ("BitFlip", "PhaseFlip", "DepolarizingChannel", "PhaseDamping", "PauliError", "PauliError on two")


def number(value) -> torch.Tensor:
    """A tensor of what PennyLane's channels otherwise mix with NumPy numbers."""
    return torch.as_tensor(value, dtype=torch.float64)


def expected(run, x, w) -> torch.Tensor:
    """(b, numbers): PennyLane's exact results for run(inputs, w, number), complex ones as pairs.

    PennyLane makes some of its matrices in torch's default dtype.
    """
    rows, default = [], torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    for sample in x:
        node = qml.QNode(
            lambda sample=sample: run(sample, w, number), qml.device("default.mixed"), interface="torch"
        )
        with warnings.catch_warnings():  # PauliError casts its table with Y, which is not used here
            warnings.filterwarnings("ignore", "Casting complex values to real")
            rows.append(flat(node(), 1).to(torch.float64))
    torch.set_default_dtype(default)
    return torch.cat(rows)


def flat(results, batch: int) -> torch.Tensor:
    """(b, numbers): everything that was returned, complex numbers as pairs."""
    parts = results if isinstance(results, tuple | list) else [results]
    parts = [torch.view_as_real(part) if part.is_complex() else part for part in map(torch.as_tensor, parts)]
    return torch.cat([part.reshape(batch, -1) for part in parts], -1)


def slopes(out, leaves, cotangent):
    """The gradients of the sum of out * cotangent."""
    if not out.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad((out * cotangent).sum(), leaves, allow_unused=True, materialize_grads=True)
    )
