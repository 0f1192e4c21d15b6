"""Results as text: read back bit for bit; and impossible ones, which are refused."""

import json

import numpy as np
import pennylane as qml
import pytest
import torch

from qlayers.hardware.checks import check_result
from qlayers.hardware.errors import InvalidResult
from qlayers.hardware.results import decode, encode

RESULTS = [
    np.float64(1 / 3),
    np.float32(1 / 3),
    np.random.default_rng(0).normal(size=(3, 2)) * 1e-300,
    np.array([1 + 2j, -0.0 - 1e-17j]),
    np.array([[1j]], dtype=np.complex64),
    np.arange(6, dtype=np.int8).reshape(2, 3),
    np.zeros((0, 3)),
    np.array([True, False]),
    np.array([np.inf, -0.0, 5e-324, np.nan]),
]


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_arrays_are_read_back_bit_for_bit(result) -> None:
    back = decode(encode(result))
    assert (back.dtype, back.shape) == (result.dtype, result.shape)
    assert back.tobytes() == result.tobytes()


def test_structures_are_read_back() -> None:
    result = (np.float64(0.5), [{"00": np.int64(3), "11": 7}, {-1.0: 2, 1.0: 8}], torch.tensor([0.25]))
    scalar, (bits, values), array = decode(encode(result))
    assert (scalar, bits, values, array.tolist()) == (0.5, {"00": 3, "11": 7}, {-1.0: 2, 1.0: 8}, [0.25])


def test_big_endian_arrays_are_read_back_as_values() -> None:
    assert decode(encode(np.array([1.5, 2.5], dtype=">f8"))).tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    "result", [None, "text", object(), np.array([object()]), {"00": object()}, {None: 3}]
)
def test_other_things_are_refused(result) -> None:
    with pytest.raises(InvalidResult):
        encode(result)


def test_the_text_is_json() -> None:
    assert json.loads(encode(np.float64(0.1)))["values"] == [0.1]


def tape(*measurements, shots=None, ops=None):
    return qml.tape.QuantumScript(ops or [qml.H(0), qml.CNOT([0, 1])], measurements, shots=shots)


Z = qml.expval(qml.Z(0))
REFUSED = [
    (tape(Z), (0.5, 0.5), "expected an array"),
    (tape(Z, Z), 0.5, "2 measurements"),
    (tape(Z, Z), (0.5,), "2 measurements, received 1"),
    (tape(Z, shots=(5, 5)), (0.5,), "2 copies"),
    (tape(Z), np.nan, "finite"),
    (tape(Z), [0.1, 0.2], "expected an array"),
    (tape(Z), np.array([0.1, 0.2]), r"shape \(\), received \(2,\)"),
    (tape(Z), 1.1, r"in \[-1.0, 1.0\]"),
    (tape(Z), 0.5 + 0.5j, "real"),
    (tape(Z), "0.5", "finite"),
    (tape(qml.expval(3 * qml.Z(0) + 2 * qml.I(0))), 5.1, r"in \[-1.0, 5.0\]"),
    (tape(qml.expval(qml.Hermitian(np.diag([1.0, 4.0]), 0))), 0.9, r"in \[1.0, 4.0\]"),
    (tape(qml.expval(qml.Projector([1], 0))), -0.1, r"in \[0.0, 1.0\]"),
    (tape(qml.var(qml.Z(0))), -0.1, r"in \[0.0, 1.0\]"),
    (tape(qml.var(qml.Z(0))), 1.1, r"in \[0.0, 1.0\]"),
    (tape(qml.probs(wires=[0, 1])), np.full(2, 0.5), r"shape \(4,\)"),
    (tape(qml.probs(wires=0)), np.array([0.5, 0.6]), "sum 1"),
    (tape(qml.probs(wires=0)), np.array([-0.5, 1.5]), r"in \[0.0, 1.0\]"),
    (tape(qml.state()), np.ones(4), "norm 1"),
    (tape(qml.state()), np.array([1.0, 0]), r"shape \(4,\)"),
    (tape(qml.state()), np.eye(2) / 2, r"shape \(4, 4\)"),
    (tape(qml.density_matrix(0)), np.eye(2), "trace 1"),
    (tape(qml.counts(wires=[0, 1]), shots=10), {"00": 4, "11": 5}, "10 counts, received 9"),
    (tape(qml.counts(wires=[0, 1]), shots=10), {"0": 4, "11": 6}, "keys of 2 bits"),
    (tape(qml.counts(wires=[0, 1]), shots=10), {"0x": 10}, "keys of 2 bits"),
    (tape(qml.counts(wires=[0, 1]), shots=10), {"00": 11, "11": -1}, "counts of 0"),
    (tape(qml.counts(wires=[0, 1]), shots=10), {"00": 9.5, "11": 0.5}, "counts of 0"),
    (tape(qml.counts(wires=[0, 1]), shots=10), np.array([5, 5]), "dict"),
    (tape(qml.sample(wires=[0, 1]), shots=4), np.zeros((3, 2)), r"shape \(4, 2\)"),
    (tape(qml.sample(wires=[0, 1]), shots=4), np.full((4, 2), 2), "bits"),
    (tape(qml.purity(wires=0)), np.nan, "finite"),
]


@pytest.mark.parametrize(("circuit", "result", "message"), REFUSED)
def test_impossible_results_are_refused(circuit, result, message: str) -> None:
    with pytest.raises(InvalidResult, match=message):
        check_result(circuit, result)


MEASURED = [
    [Z],
    [qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(0.5 * qml.Y(0) + qml.Z(1)), qml.var(qml.X(1))],
    [qml.expval(qml.Hermitian(np.array([[1, 2j], [-2j, -1]]), 0))],
    [qml.probs(), qml.probs(op=qml.X(0))],
]
EXACT = [[qml.state()], [qml.density_matrix(wires=[0])], [qml.purity(0), qml.vn_entropy(0)]]
SAMPLED = [
    [qml.counts()],
    [qml.counts(wires=[1]), qml.counts(qml.Z(0)), qml.counts(wires=[0], all_outcomes=True)],
    [qml.sample()],
    [qml.sample(wires=[1]), qml.sample(qml.Y(0)), qml.sample(op=qml.Z(0) @ qml.Z(1))],
    [qml.classical_shadow(wires=[0, 1])],
]
CASES = [(m, None) for m in MEASURED + EXACT] + [
    (m, s) for m in MEASURED + SAMPLED for s in (1, 50, (5, 5, 1)) if m is not SAMPLED[-1] or s == 50
]


@pytest.mark.parametrize("name", ["default.qubit", "default.mixed"])
@pytest.mark.parametrize(("measurements", "shots"), CASES)
def test_results_of_devices_are_taken(name: str, measurements: list, shots) -> None:
    device = qml.device(name, wires=2)
    circuit = tape(*measurements, shots=shots)
    config = device.setup_execution_config(circuit=circuit)
    for one in device.preprocess_transforms(config)([circuit])[0]:
        result = device.execute(one, config)
        check_result(one, result, 2)
        encode(result)
