"""The ground state of a hydrogen molecule, at many bond lengths at once (VQE, Peruzzo et al. 2014).

    python examples/vqe_h2.py

The trial state is the Hartree-Fock state and a rotation by t into the doubly excited one; the energy
<psi(t)|H|psi(t)> is lowest at the ground state. Only the factors of H depend on the bond length, so all
molecules are samples of one batch: the circuit measures the words of H, and one call gives all energies.
"""

from pathlib import Path

import numpy as np
import pennylane as qml
import torch
from jsonargparse import auto_cli

import qlayers

BOHR = 0.529177210903  # angstrom (CODATA 2018)
CHEMICAL_ACCURACY = 1.6e-3  # hartree: 1 kcal/mol


def hamiltonians(lengths: np.ndarray) -> tuple[torch.Tensor, list, np.ndarray]:
    """Factors (b, t) of the words (t) in the minimal basis, and the exact ground energies (b) in hartree."""
    tables, exact = [], []
    for length in lengths:
        atoms = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, length / BOHR]])
        hamiltonian, wires = qml.qchem.molecular_hamiltonian(["H", "H"], atoms)
        tables.append(hamiltonian.pauli_rep)
        exact.append(np.linalg.eigvalsh(qml.matrix(hamiltonian, wire_order=range(wires)))[0])
    words = sorted({word for table in tables for word in table}, key=str)
    factors = [[float(table.get(word, 0.0)) for word in words] for table in tables]
    return torch.tensor(factors, dtype=torch.float64), words, np.array(exact)


def main(points: int = 24, steps: int = 12, figure: Path | None = None) -> float:
    """Find the ground states.

    Args:
        points: Bond lengths between 0.3 and 2.5 angstrom.
        steps: Steps of L-BFGS.
        figure: Where to draw the curve of energies, such as h2.png.

    Returns:
        The largest error of an energy in hartree.
    """
    lengths = np.linspace(0.3, 2.5, points)
    factors, words, exact = hamiltonians(lengths)

    def circuit(inputs):
        qml.BasisState([1, 1, 0, 0], wires=range(4))
        qml.DoubleExcitation(inputs[..., 0], wires=range(4))
        return [qml.expval(word.operation(range(4))) for word in words]

    layer = qlayers.QuantumLayer(circuit, {}, features=1)
    print(layer.circuit.plan())

    turn = torch.zeros(points, 1, dtype=torch.float64, requires_grad=True)  # one parameter for each molecule
    optimizer = torch.optim.LBFGS([turn], max_iter=1, line_search_fn="strong_wolfe")

    def energies() -> torch.Tensor:
        return (factors * layer(turn)).sum(-1)  # (b,)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = energies().sum()
        total.backward()
        return total

    for step in range(1, steps + 1):
        total = optimizer.step(closure)
        if step % max(1, steps // 6) == 0:
            print(f"step {step:3d}  sum of the energies {total.item():.8f} hartree")

    found = energies().detach().numpy()
    error, best = float(np.abs(found - exact).max()), int(found.argmin())
    print(f"lowest energy {found[best]:.6f} hartree at {lengths[best]:.3f} angstrom")
    print(f"largest error {error:.1e} hartree; chemical accuracy is {CHEMICAL_ACCURACY:.1e}")
    if figure is not None:
        draw(figure, lengths, found, exact)
    return error


def draw(path: Path, lengths: np.ndarray, found: np.ndarray, exact: np.ndarray) -> None:
    """The curve of energies as a picture."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(6, 4), layout="constrained")
    axes = picture.subplots()
    axes.plot(lengths, exact, color="0.6", label="exact diagonalisation")
    axes.plot(lengths, found, "o", markersize=4, color="tab:blue", label="circuit")
    axes.set(xlabel="bond length, angstrom", ylabel="energy, hartree", title="H$_2$, minimal basis")
    axes.legend(frameon=False)
    picture.savefig(path, dpi=150)
    print(f"drawn in {path}")


if __name__ == "__main__":
    auto_cli(main)
