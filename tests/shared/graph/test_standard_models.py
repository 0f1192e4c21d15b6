"""Seven standard models, each with a quantum layer that its user put in: `optimize` leaves them unharmed."""

import copy
import io
import pickle

import pennylane as qml
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import shared

WIRES = 2


def quantum():
    @qml.qnode(qml.device("default.qubit", wires=WIRES))
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(WIRES))
        qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
        return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]

    return qml.qnn.TorchLayer(circuit, {"weights": (1, WIRES, 3)})


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.norm1(self.first(x)), inplace=True)
        return F.relu(x + self.norm2(self.second(y)), inplace=True)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(Residual(4), nn.MaxPool2d(2), Residual(4))
        self.neck, self.quantum, self.head = nn.Linear(4, WIRES), quantum(), nn.Linear(WIRES, 3)

    def forward(self, x):
        x = self.blocks(self.stem(x)).mean((2, 3))
        return self.head(self.quantum(self.neck(x)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 8), nn.Parameter(torch.randn(6, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.neck, self.quantum, self.head = nn.Linear(8, WIRES), quantum(), nn.Linear(WIRES, 3)

    def forward(self, x):
        x = self.encoder(self.words(x) + self.places)
        return self.head(self.quantum(self.neck(x.mean(1))))


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(9, 5), nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.neck, self.quantum, self.head = nn.Linear(12, WIRES), quantum(), nn.Linear(WIRES, 3)

    def forward(self, x):
        found, (_last, _) = self.lstm(self.words(x))
        return self.head(self.quantum(self.neck(found[:, -1])))


class UNet(nn.Module):
    """The quantum layer sits in the middle, and scales what comes up from there."""

    def __init__(self):
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, WIRES, 3, padding=1), nn.Conv2d(WIRES, WIRES, 3, padding=1)
        self.quantum = quantum()
        self.up = nn.ConvTranspose2d(WIRES, WIRES, 2, stride=2)
        self.out = nn.Conv2d(2 * WIRES, 1, 1)

    def forward(self, x):
        left = F.relu(self.down(x))
        low = F.relu(self.middle(F.max_pool2d(left, 2)))
        low = low * self.quantum(low.mean((2, 3)))[:, :, None, None]
        return self.out(torch.cat((left, self.up(low)), 1)).flatten(1)


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.bert = BertModel(
            BertConfig(
                vocab_size=9,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=8,
            )
        )
        self.neck, self.quantum, self.head = nn.Linear(8, WIRES), quantum(), nn.Linear(WIRES, 3)

    def forward(self, x):
        return self.head(self.quantum(self.neck(self.bert(input_ids=x).pooler_output)))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 4))
        self.channels = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        self.neck, self.quantum, self.head = nn.Linear(8, WIRES), quantum(), nn.Linear(WIRES, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(self.quantum(self.neck(x.mean(1))))


class VAE(nn.Module):
    """Draws what it decodes, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.mean, self.log_var = nn.Linear(8, WIRES), nn.Linear(8, WIRES)
        self.quantum, self.decoder = quantum(), nn.Linear(WIRES, 6)

    def forward(self, x):
        x = self.encoder(x)
        mean, log_var = self.mean(x), self.log_var(x)
        drawn = mean + torch.randn_like(mean) * (log_var / 2).exp()
        return self.decoder(self.quantum(drawn)), mean, log_var


WORDS = lambda: torch.randint(0, 9, (4, 6))  # noqa: E731
MODELS = {
    "resnet": (ResNet, lambda: torch.randn(4, 3, 8, 8)),
    "transformer": (Transformer, WORDS),
    "lstm": (LSTM, WORDS),
    "unet": (UNet, lambda: torch.randn(4, 1, 8, 8)),
    "bert": (Bert, WORDS),
    "mixer": (Mixer, lambda: torch.randn(4, 3, 8, 8)),
    "vae": (VAE, lambda: torch.randn(4, 6)),
}


def loss_of(model, x):
    out = model(x)
    parts = out if isinstance(out, tuple) else (out,)
    return sum((part - 0.1).square().mean() for part in parts)


def curve(model, x, steps=20):
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, x)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    kind, inputs = MODELS[request.param]
    torch.manual_seed(3)
    model, x = kind(), inputs()
    return model, shared.optimize(model, x), x


def seeded(model, x):
    torch.manual_seed(1)
    return model(x)


def test_the_quantum_layer_is_exchanged_and_nothing_else_moves(case):
    model, better, x = case
    assert "TorchLayer -> QuantumLayer" in [f"{c.before} -> {c.after}" for c in better.report.changes]
    assert isinstance(better, type(model))
    assert list(better.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(better.parameters(), model.parameters(), strict=True))
    assert all(a is b for a, b in zip(better.buffers(), model.buffers(), strict=True))
    for mode in (True, False):
        assert_close(seeded(better.train(mode), x), seeded(model.train(mode), x))
    model.train(), better.train()


def test_gradients(case):
    model, better, x = case
    found = []
    for each in (copy.deepcopy(model), copy.deepcopy(better)):
        torch.manual_seed(2)
        found.append(torch.autograd.grad(loss_of(each, x), list(each.parameters()), allow_unused=True))
    assert_close(*found)


def test_the_training_curve(case):
    model, better, x = case
    assert_close(curve(copy.deepcopy(better), x), curve(copy.deepcopy(model), x), rtol=1e-5, atol=1e-6)


def test_twice_is_once(case):
    _model, better, x = case
    again = shared.optimize(better, x)
    assert not again.report.changes, str(again.report)


def test_copies(case):
    model, better, x = case
    better.eval()
    expected = seeded(better, x)
    assert_close(seeded(copy.deepcopy(better), x), expected)
    assert_close(seeded(pickle.loads(pickle.dumps(better)), x), expected)
    stored = io.BytesIO()
    torch.save(better.state_dict(), stored)
    stored.seek(0)
    fresh = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    assert_close(seeded(fresh, x), expected)
    better.train()


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm:UserWarning")  # of every exported LSTM
def test_export(case):
    model, better, x = case
    better.eval()
    program = torch.export.export(better, (x,))
    assert_close(seeded(program.module(), x), seeded(better, x))
    better.train(), model.train()
