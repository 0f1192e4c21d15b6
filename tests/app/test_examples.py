"""The examples run as they stand, in a process of their own, at a reduced size (`make thorough`)."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
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


def test_migrate_torch_layer():
    out = run("migrate_torch_layer.py", "--steps", "2")
    for what in ("an output", "a gradient"):
        assert float(re.search(rf"difference of {what}: +([\d.e-]+)", out)[1]) < 1e-5


def test_optimize_model():
    out = run("optimize_model.py", "--steps", "2", "--length", "100", "--batch", "8")
    assert "TorchLayer -> QuantumLayer" in out
    assert "-> token_conv1d_max_pool" in out
    assert float(re.search(r"difference of a gradient: +([\d.e-]+)", out)[1]) < 1e-5
    assert "parameters are the model's own:    True" in out


def test_vqe_h2():
    out = run("vqe_h2.py", "--points", "4", "--steps", "15")
    assert float(re.search(r"largest error ([\d.e-]+) hartree", out)[1]) < 1e-6


def test_heat_equation(tmp_path):
    picture = tmp_path / "heat.png"
    out = run("heat_equation.py", "--steps", "60", "--figure", str(picture))
    assert float(re.search(r"largest error of u: ([\d.]+)", out)[1]) < 0.1
    assert picture.stat().st_size > 1000


def test_dna_kernel():
    out = run("dna_kernel.py", "--steps", "4", "--known", "200")
    trained = float(re.search(r"quantum kernel, trained +([\d.]+)", out)[1])
    assert trained > 0.8


def test_train_on_noisy_processor(tmp_path):
    words = ("train_on_noisy_processor.py", "--steps", "2", "--journal", str(tmp_path / "run.db"))
    command = [sys.executable, "-W", "error", str(EXAMPLES / words[0]), *words[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        for line in killed.stdout:
            if line.startswith("step  1"):
                killed.kill()
    assert killed.returncode == -signal.SIGKILL
    first, again = run(*words), run(*words)
    for out, new in ((first, r" 0 new.*[1-9]\d* new"), (again, " 0 new.* 0 new")):
        assert re.search(new, out, re.S)
        assert "to be submitted" in out
    ends = [out.partition("spent in all")[2] for out in (first, again)]
    assert ends[0] == ends[1]
    assert float(re.search(r"perfect processor: ([\d.]+)", first)[1]) > 0


def test_variant_effect(tmp_path):
    table = tmp_path / "effects.csv"
    out = run("variant_effect.py", "--epochs", "3", "--table", str(table))
    assert float(re.search(r"with probability ([\d.]+)", out)[1]) > 0.7
    assert table.read_text().startswith("contig,position,id,ref,alt,acceptor_reference,")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_public_names_only(path):
    text = path.read_text()
    assert not re.search(r"(qlayers|biolayers|shared)[\w.]*\._", text)
    assert not re.search(r"(from|import) (qlayers|biolayers)\.(kernels|ops\.|commands)", text)
    assert len(text.splitlines()) < 150


def test_find_motifs(tmp_path):
    out = run("find_motifs.py", "--out", str(tmp_path))
    assert int(re.search(r"donor: (\d+) sites", out)[1]) > 2 * 33  # by chance at most 33
    assert list(tmp_path.glob("*.bed"))


def test_protein_sites(tmp_path):
    picture = tmp_path / "sites.png"
    out = run("protein_sites.py", "--epochs", "5", "--figure", str(picture))
    assert float(re.search(r"zinc: F1 ([\d.]+)", out)[1]) > 0.5
    assert picture.stat().st_size > 1000


def test_hybrid_dna(tmp_path):
    out = run("hybrid_dna.py", "--epochs", "3", "--seeds", "1", "--figure", str(tmp_path / "hybrid.png"))
    assert "the front is equivariant: True" in out
    assert float(re.search(r"nothing ([\d.]+)", out)[1]) > 0.8
