"""Packages of machine code: the same results in a fresh process, loaded only where they are trusted.

Run by `make embedded`, as the compiler takes its time: pytest does not find it by its name.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from biolayers.layers import TokenConv1d
from qlayers import Circuit, QuantumLayer
from shared.store import DamagedError, StoreError, load_compiled, save_compiled

CIRCUIT = (
    "weights w(2)\nRX(x0) 0\nRX(x1) 1\nRY(w[0]) 0\nCNOT 0 1\nRZ(w[1]) 1\nRX(w[1]) 1\nexpval Z(0)\nexpval Z(1)"
)


def test_a_compiled_model(tmp_path: Path) -> None:
    model = nn.Sequential(
        TokenConv1d(4, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(60, 2),
        QuantumLayer(Circuit.parse(CIRCUIT)),
    )
    path, x = tmp_path / "model.pt2", torch.randint(0, 6, (7, 12)).to(torch.uint8)
    save_compiled(model, path, x[:3])
    with pytest.raises(StoreError, match="trusted=True"):
        load_compiled(path)
    with torch.no_grad():
        wanted = model(x)
    torch.testing.assert_close(load_compiled(path, trusted=True)(x), wanted, atol=1e-5, rtol=0)
    torch.save((x, wanted), tmp_path / "wanted.pt")
    code = (
        "import sys, torch; from shared.store import load_compiled; "
        "x, y = torch.load(sys.argv[2], weights_only=True); "
        "print(float((load_compiled(sys.argv[1], trusted=True)(x) - y).abs().max()))"
    )
    words = [sys.executable, "-c", code, str(path), str(tmp_path / "wanted.pt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
    for cut in (0, 100, len(path.read_bytes()) // 2):
        (tmp_path / "cut.pt2").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DamagedError):
            load_compiled(tmp_path / "cut.pt2", trusted=True)
