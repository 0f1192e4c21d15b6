"""The hybrid model as users write it: every rewrite is reported, and outputs and gradients stay."""

import copy

import pennylane as qml
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import shared

METHODS = {"default.qubit": "backprop", "lightning.qubit": "adjoint"}
REWRITES = {
    "quantum_layer": "TorchLayer -> QuantumLayer",
    "token_conv1d": "one_hot + conv1d -> token_conv1d",
    "token_conv1d_norm": "token_conv1d + batch_norm -> token_conv1d with the norm in its weight",
    "token_conv1d_max_pool": "token_conv1d + relu + max_pool1d -> token_conv1d_max_pool",
}


class Naive(nn.Module):
    def __init__(self, wires, device, norm):
        super().__init__()

        @qml.qnode(qml.device(device, wires=wires), diff_method=METHODS[device])
        def circuit(inputs, weights):
            qml.AngleEmbedding(inputs, wires=range(wires))
            qml.BasicEntanglerLayers(weights, wires=range(wires))
            return [qml.expval(qml.Z(wire)) for wire in range(wires)]

        self.conv, self.norm = nn.Conv1d(4, 16, 19), nn.BatchNorm1d(16) if norm else None
        self.pool, self.neck = nn.MaxPool1d(10), nn.Linear(16 * 8, wires)
        self.quantum = qml.qnn.TorchLayer(circuit, {"weights": (2, wires)})
        self.head = nn.Linear(wires, 2)

    def forward(self, tokens):
        x = F.one_hot(tokens, 4).transpose(1, 2).float()
        x = self.conv(x) if self.norm is None else self.norm(self.conv(x))
        x = self.pool(F.relu(x)).flatten(1)
        return self.head(self.quantum(self.neck(x)))


def losses(model, tokens, labels, start, steps=3):
    """On the way of a few steps of Adam from a state."""
    model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens), labels)
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


@pytest.mark.parametrize(
    ("wires", "device", "norm"),
    [(4, "default.qubit", False), (8, "default.qubit", True), (4, "lightning.qubit", True)],
)
def test_the_naive_hybrid(wires, device, norm):
    torch.manual_seed(0)
    model, tokens = Naive(wires, device, norm), torch.randint(0, 4, (6, 100))
    labels = torch.randint(0, 2, (6,))
    better = shared.optimize(model, tokens)
    said = {change.rule: f"{change.before} -> {change.after}" for change in better.report.changes}
    wanted = {rule: text for rule, text in REWRITES.items() if norm or rule != "token_conv1d_norm"}
    assert {rule: said.get(rule) for rule in wanted} == wanted
    assert_close(better(tokens), model(tokens), rtol=0, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(F.cross_entropy(each(tokens), labels), list(model.parameters()))
        for each in (better, model)
    )
    assert_close(ours, theirs, rtol=0, atol=1e-5)
    start = copy.deepcopy(model.state_dict())
    assert_close(*(losses(each, tokens, labels, start) for each in (better, model)), rtol=0, atol=1e-4)
    assert not shared.optimize(better, tokens).report.changes
