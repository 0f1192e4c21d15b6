"""`qbio export` on a finished run, and the example of a device that runs what it wrote."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import shared
from biolayers.models import DeepBind

EMBEDDED = Path(__file__).parents[2] / "examples" / "embedded"


def device(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EMBEDDED / "run.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_onnx_of_eight_bits_and_a_device_that_runs_it(finished, tmp_path, qbio):
    file = tmp_path / "model.onnx"
    code, out, err = qbio("export", finished, "--quantize", "int8", "--output", file)
    assert (code, err) == (0, "")
    assert re.search(r"difference from PyTorch: \d\.\de-\d\d", out)
    before, after = map(float, re.search(r"on 12 records: ([\d.]+) before, ([\d.]+) after", out).groups())
    metrics = json.loads((finished / "metrics.json").read_text())
    assert before == pytest.approx(metrics["test/accuracy"], abs=1e-4)
    assert 0 <= after <= 1
    done = device(finished.parent / "data.fa", "--model", file, "--limit", 3)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(seq\d\t(motif|plain)\t[01]\.\d{6}\n){3}", done.stdout)


def test_pt2(finished, tmp_path, qbio):
    file = tmp_path / "model.pt2"
    code, out, _ = qbio("export", finished / "checkpoints" / "best.ckpt", "--to", "pt2", "--output", file)
    assert code == 0
    assert "the same class for 100.00%" in out
    loaded = shared.load(file)
    assert json.loads(loaded.manifest.metadata["classes"]) == ["motif", "plain"]
    assert loaded(torch.zeros(1, 24, dtype=torch.uint8)).shape == (1, 2)


def test_a_saved_model_and_a_run_without_its_data(finished, tmp_path, qbio, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DeepBind(classes=2).save_pretrained(tmp_path / "saved")
    code, out, _ = qbio("export", "saved", "--to", "pt2", "--length", 30)
    assert code == 0
    assert "no data" in out
    assert shared.load("saved.pt2").manifest.inputs[0].shape == ("batch", 30)
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved)
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace("data.fa", "gone.fa"))
    code, out, _ = qbio("export", "moved", "--to", "pt2")
    assert code == 0
    assert "not scored on held-out data" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nosuch"], "nothing at nosuch"),
        (["RUN", "--to", "pt2", "--quantize", "int8"], "--to onnx"),
        (["RUN", "--to", "tflite"], "onnx"),
        (["RUN", "--length", "3"], "--length"),
        (["RUN", "--output", "none/model.onnx"], "no folder"),
    ],
)
def test_mistakes_are_one_line(finished, words, complaint, qbio):
    code, out, err = qbio("export", *[finished if word == "RUN" else word for word in words])
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert complaint in err


def test_the_example_of_a_device(tmp_path):
    splice = EMBEDDED.parent / "data" / "splice_junctions.fa"
    text = (EMBEDDED / "run.py").read_text()
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.M)) <= {
        *sys.stdlib_module_names,
        "numpy",
        "onnxruntime",
    }
    assert len(text.splitlines()) < 150
    assert (EMBEDDED / "splice.onnx").stat().st_size < 2**20
    done = device(splice, "--limit", 400)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    kinds = dict(re.findall(r"^>(\S+).*class=(\w+)", splice.read_text(), re.M))
    assert sum(kinds[name] == kind for name, kind, _ in rows) > 0.9 * len(rows)
    done = device(splice, "--limit", 20, "--time", 300)
    p50 = float(re.search(r"p50 (\d+) us, p99 (\d+) us; resident memory (\d+) MiB", done.stdout)[1])
    assert p50 < 1000
    (tmp_path / "short.fa").write_text(">a\nACGT\n")
    assert device(tmp_path / "short.fa").stderr == "a: expected 60 letters, received 4\n"
    assert device(tmp_path / "none.fa").returncode == 1
