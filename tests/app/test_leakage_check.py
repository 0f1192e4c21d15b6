"""`qbio train` says when held-out sequences are similar to those that it trained on, and what to do."""

import json
import logging
import random
from pathlib import Path

import pytest


@pytest.fixture
def similar(tmp_path: Path) -> Path:
    """90 records of 60 letters in two classes; every third differs from the one before in two letters."""
    draw = random.Random(4)
    lines = []
    text = ""
    for i in range(90):
        if i % 3 == 2:
            text = (
                text[:20]
                + ("A" if text[20] != "A" else "C")
                + text[21:40]
                + "GT"[text[40] == "G"]
                + text[41:]
            )
        else:
            text = "".join(draw.choice("ACGT") for _ in range(60))
        lines.append(f">s{i} class={'pq'[i // 3 % 2]}\n{text}\n")
    path = tmp_path / "similar.fa"
    path.write_text("".join(lines))
    return path


def train(qbio, fasta: Path, out: Path, *words: str) -> tuple[dict, str]:
    code, _, err = qbio(
        "train", "--fasta", fasta, "--label-pattern", "class=(.)", "--epochs", 1, "--out", out, *words
    )
    assert code == 0, err
    return json.loads((out / "metrics.json").read_text())["leakage"], (out / "report.html").read_text()


def test_leakage_is_a_warning_and_stands_in_the_report(qbio, similar, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "biolayers"):
        found, report = train(qbio, similar, tmp_path / "run")
    assert set(found) == {"val in train", "test in train", "test in val"}
    count = found["test in train"]["near"]
    assert 0 < count <= found["test in train"]["of"]
    assert found["test in train"]["exact"] == 0
    sentence = f"Leakage, test in train: {count} of {found['test in train']['of']} sequences"
    assert sentence in caplog.text
    assert sentence in report
    assert "--split-by similarity makes parts without" in report


def test_a_split_by_similarity_has_none(qbio, similar, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "biolayers"):
        found, report = train(qbio, similar, tmp_path / "run", "--split-by", "similarity")
    assert all(part["near"] == part["exact"] == 0 for part in found.values())
    assert "Leakage" not in caplog.text
    assert "No sequence of a part is equal or similar to one of another part." in report


def test_the_check_can_be_left_out(qbio, similar, tmp_path, caplog):
    found, report = train(qbio, similar, tmp_path / "run", "--no-leakage-check")
    assert found == {}
    assert "Leakage" not in report + caplog.text
