"""The examples run as they stand, in a process of their own, at a reduced size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *words: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_add_quantum_layer():
    out = run("add_quantum_layer.py", "--steps", "120")
    assert "QuantumLayer" in out
    assert float(re.search(r"accuracy on new points: ([\d.]+)", out)[1]) > 0.8


def test_train_on_fasta():
    out = run("train_on_fasta.py", "--epochs", "2")
    assert "no sequence occurs twice between the parts" in out
    assert float(re.search(r"held-out sequences: ([\d.]+)", out)[1]) > 0.8


def test_hybrid_splice():
    out = run("hybrid_splice.py", "--epochs", "4", "--compare", "true")
    for kind in ("hybrid", "classical"):
        assert float(re.search(rf"^{kind}: ([\d.]+) of", out, re.M)[1]) > 0.7


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_public_names_only(path):
    text = path.read_text()
    assert not re.search(r"(qlayers|biolayers|shared)[\w.]*\._", text)
    assert not re.search(r"(from|import) (qlayers|biolayers)\.(kernels|ops\.|commands)", text)
    assert len(text.splitlines()) < 150
