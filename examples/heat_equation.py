"""A physics-informed circuit: the heat equation, learned from nothing but itself (Raissi et al. 2019).

    python examples/heat_equation.py

The equation u_t = a u_xx on 0 <= x <= 1 with u(x, 0) = sin(pi x) and u = 0 at both ends. The loss
differentiates the circuit twice with respect to an input and once with respect to the weights; no value of
the solution, u = exp(-a pi^2 t) sin(pi x), is seen in training. Place and time are inputs of their own.
"""

import math
from pathlib import Path

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import nn

import qlayers

WIRES = 4
REPEATS = (
    3  # how often the data is encoded: the circuit is a Fourier series with that many times the frequencies
)
DIFFUSIVITY = 0.1


def circuit(x, t, scales, weights):
    """Place and time, encoded again and again between trained rotations (Perez-Salinas et al. 2020)."""
    for repeat in range(REPEATS):
        for wire in range(WIRES):
            data = x if wire % 2 == 0 else t
            qml.RY(scales[repeat, wire] * data[..., 0], wires=wire)
        qml.StronglyEntanglingLayers(weights[repeat : repeat + 1], wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


class Temperature(nn.Module):
    """u(x, t) as a weighted sum of a circuit's expectation values."""

    def __init__(self):
        super().__init__()
        shapes = {"scales": (REPEATS, WIRES), "weights": (REPEATS, WIRES, 3)}
        self.circuit = qlayers.QuantumLayer(circuit, shapes, input_arg=("x", "t"))
        self.sum = nn.Linear(WIRES, 1)

    def forward(self, x, t):
        """Temperatures (n) at places (n) and times (n)."""
        return self.sum(self.circuit(x=x.unsqueeze(-1), t=t.unsqueeze(-1))).squeeze(-1)


def derivative(values: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """The slopes d values[i] / d of[i], which can be differentiated again."""
    return torch.autograd.grad(values.sum(), of, create_graph=True)[0]


def residual(model: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """u_t - a u_xx at the points."""
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    u = model(x, t)
    return derivative(u, t) - DIFFUSIVITY * derivative(derivative(u, x), x)


def main(steps: int = 150, points: int = 256, seed: int = 0, figure: Path | None = None) -> float:
    """Solve the equation.

    Args:
        steps: Steps of L-BFGS.
        points: Places and times inside, where the equation is held against the circuit.
        seed: Of the points and the weights.
        figure: Where to draw the solution, such as heat.png.

    Returns:
        The largest error of u on a grid; u lies between 0 and 1.
    """
    torch.manual_seed(seed)
    model = Temperature().double()
    x, t = torch.rand(2, points, dtype=torch.float64)
    edge = torch.linspace(0, 1, 32, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=1, history_size=50, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        start = model(edge, torch.zeros_like(edge)) - torch.sin(math.pi * edge)
        ends = torch.cat([model(torch.zeros_like(edge), edge), model(torch.ones_like(edge), edge)])
        loss = residual(model, x, t).square().mean() + 10 * (start.square().mean() + ends.square().mean())
        loss.backward()
        return loss

    for step in range(1, steps + 1):
        loss = optimizer.step(closure)
        if step % max(1, steps // 10) == 0:
            print(f"step {step:4d}  loss {loss.item():.2e}")

    with torch.no_grad():
        places, times = torch.meshgrid(edge, edge, indexing="ij")
        found = model(places.reshape(-1), times.reshape(-1)).view_as(places)
    exact = torch.exp(-DIFFUSIVITY * math.pi**2 * times) * torch.sin(math.pi * places)
    error = (found - exact).abs().max().item()
    print(f"largest error of u: {error:.4f}")
    if figure is not None:
        draw(figure, found, found - exact)
    return error


def draw(path: Path, found: torch.Tensor, error: torch.Tensor) -> None:
    """The solution and its error as a picture."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, values, title in zip(picture.subplots(1, 2), (found, error), ("u", "error of u"), strict=True):
        image = axes.imshow(values.T.flip(0).numpy(), extent=(0, 1, 0, 1), aspect="auto")
        axes.set(xlabel="x", ylabel="t", title=title)
        picture.colorbar(image, ax=axes)
    picture.savefig(path, dpi=150)
    print(f"drawn in {path}")


if __name__ == "__main__":
    auto_cli(main)
