"""In a fresh environment with onnxruntime and NumPy alone, a hybrid model gives what it gives in PyTorch.

Run by `make embedded`, as it installs packages: pytest does not find it by its name.
"""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import biolayers
import qlayers
import shared

ROOT = Path(__file__).parents[2]
SPLICE = ROOT / "examples" / "data" / "splice_junctions.fa"
REPLY = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {"tokens": numpy.load(sys.argv[2])})
numpy.save(sys.argv[3], logits)
heavy = {"torch", "qlayers", "biolayers", "shared", "pennylane", "numba", "onnx", "Bio"}
import importlib.util
print(sorted(name for name in heavy if importlib.util.find_spec(name)))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with what `requirements.txt` lists."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=False, symlinks=True)
    found = folder / "bin" / "python"
    wanted = ROOT / "examples" / "embedded" / "requirements.txt"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        found,
        "install",
        "-q",
        "-c",
        ROOT / "constraints.txt",
    ]
    done = subprocess.run([*map(str, command), "-r", str(wanted)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return found


def run(python: Path, *words: object) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-I", *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=python.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained() -> nn.Module:
    """The model of examples/hybrid_splice.py after two epochs."""
    sys.path.insert(0, str(ROOT / "examples"))
    import hybrid_splice as example

    torch.manual_seed(0)
    circuit = qlayers.QuantumLayer(example.circuit, {"weights": (2, example.WIRES, 3)})
    model = example.model_with(nn.Sequential(example.Angles(), circuit))
    data = biolayers.FastaDataset(SPLICE, label_pattern=r"class=(\w+)")
    example.fit(model, data, 2)
    return model.eval()


def test_the_hybrid_model_gives_the_same(python: Path, tmp_path: Path) -> None:
    model, data = trained(), biolayers.FastaDataset(SPLICE, label_pattern=r"class=(\w+)")
    tokens, _ = data.batch(range(len(data)))
    shared.export_onnx(model, tmp_path / "model.onnx", tokens[:2], input_names=["tokens"])
    np.save(tmp_path / "tokens.npy", tokens.numpy())
    names = ("model.onnx", "tokens.npy", "logits.npy")
    assert run(python, "-c", REPLY, *(tmp_path / name for name in names)).strip() == "[]"
    with torch.no_grad():
        wanted = model(tokens).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, atol=1e-5, rtol=0)


def test_the_example_runs_in_less_than_a_millisecond(python: Path) -> None:
    example = ROOT / "examples" / "embedded" / "run.py"
    rows = run(python, example, SPLICE, "--limit", 3).splitlines()
    assert len(rows) == 3
    found = re.search(r"p50 (\d+) us, p99 (\d+) us", run(python, example, SPLICE, "--time", 2000))
    assert found is not None
    print(json.dumps({"p50": int(found[1]), "p99": int(found[2])}))
    assert int(found[1]) < 1000
