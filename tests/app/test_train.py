"""`qbio train`, `predict` and `doctor` from end to end, on small files."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from shared.app.runs import Run, read_checkpoint

PATTERN = "class=(.*)"


def test_a_run_leaves_everything_that_is_promised(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert 0 <= metrics["test/accuracy"] <= 1
    assert metrics["epochs"] == 3
    assert metrics["records"] == {"train": 96, "val": 12, "test": 12}
    assert set(metrics["per_class"]) == {"motif", "plain"}
    low, high = metrics["test/accuracy_interval"]
    assert low <= metrics["test/accuracy"] <= high
    assert metrics["versions"]["torch"] == torch.__version__
    assert sum(map(sum, metrics["confusion"])) == 12
    assert any((finished / "tensorboard").iterdir())
    assert (finished / "config.yaml").read_text().startswith("fasta: ")


def test_the_report_stands_alone(finished):
    page = (finished / "report.html").read_text()
    assert not re.search(r'(src|href)="[^#]|url\([^#]|https?://|<script|@import', page)
    assert page.count("<svg") == 4
    for part in (
        "held-out accuracy",
        "Confusion matrix",
        "motif",
        "no sequence occurs twice between the parts",
    ):
        assert part in page
    assert "viewport" in page
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_holds_plain_data(finished, name):
    content = torch.load(finished / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert content["qbio"]["classes"] == ["motif", "plain"]


def test_the_same_config_gives_the_same_figures(finished, tmp_path, qbio):
    code, *_ = qbio("train", "--config", finished / "config.yaml", "--out", tmp_path / "again")
    assert code == 0
    first, again = (json.loads((run / "metrics.json").read_text()) for run in (finished, tmp_path / "again"))
    for key in ("test/loss", "test/accuracy", "val/loss", "confusion"):
        assert first[key] == again[key]


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(finished, tmp_path, qbio):
    config = (finished / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace("epochs: 3", "epochs: 300"))
    run = Run(tmp_path / "run")
    words = [
        sys.executable,
        "-m",
        "shared.app.cli",
        "train",
        "--config",
        tmp_path / "config.yaml",
        "--patience",
        "300",
    ]
    process = subprocess.Popen([*map(str, words), "--out", str(run.folder)], stdout=subprocess.DEVNULL)
    try:
        wait_for(run.last)
    finally:
        process.kill()
        process.wait()
    done = read_checkpoint(run.last)["epoch"] + 1
    total = done + 2
    code, out, _ = qbio("train", "--resume", run.folder, "--epochs", total)
    assert code == 0
    assert [int(n) for n in re.findall(r"^epoch (\d+)/", out, re.M)] == [done + 1, done + 2]
    resumed = json.loads(run.metrics.read_text())
    assert resumed["epochs"] == total
    weights = read_checkpoint(run.last)["state_dict"]
    assert all(torch.isfinite(weight).all() for weight in weights.values() if weight.is_floating_point())


def test_resuming_repeats_exactly_what_would_have_come(finished, tmp_path, qbio):
    """Stopped after 2 of 4 epochs and resumed, the weights are those of 4 epochs in one go, bit by bit."""
    config = finished / "config.yaml"
    assert qbio("train", "--config", config, "--epochs", 4, "--out", tmp_path / "whole")[0] == 0
    run = Run(tmp_path / "parts")
    stop_after(2, qbio, "train", "--config", config, "--epochs", 4, "--out", run.folder)
    assert read_checkpoint(run.last)["epoch"] == 1
    assert qbio("train", "--resume", run.folder)[0] == 0
    whole, parts = read_checkpoint(Run(tmp_path / "whole").last), read_checkpoint(run.last)
    for name, weight in whole["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][name], weight, rtol=0, atol=0)


def stop_after(epochs, qbio, *words):
    """Press Ctrl-C once that many epochs are done."""
    from shared.app.callbacks import Lines

    def interrupt(self, trainer, pl_module):
        if trainer.current_epoch + 1 > epochs:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lines, "on_train_epoch_start", interrupt)
        code, _, err = qbio(*words)
    assert code == 130
    assert re.fullmatch(r"qbio: interrupted; continue with: qbio train --resume .*\n", err)


def test_resuming_a_finished_run_trains_nothing(finished, qbio):
    before = read_checkpoint(finished / "checkpoints" / "last.ckpt")["epoch"]
    code, out, _ = qbio("train", "--resume", finished)
    assert code == 0
    assert "epoch " not in out
    assert read_checkpoint(finished / "checkpoints" / "last.ckpt")["epoch"] == before


def test_a_run_goes_on_where_its_folder_was_moved_to(finished, tmp_path, qbio):
    moved = shutil.copytree(finished, tmp_path / "moved")
    before = (finished / "checkpoints" / "best.ckpt").read_bytes()
    code, out, _ = qbio("train", "--resume", moved, "--epochs", 4)
    assert code == 0
    assert re.findall(r"^epoch (\d+)/", out, re.M) == ["4"]
    assert sorted(path.name for path in (moved / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (finished / "checkpoints" / "best.ckpt").read_bytes() == before
    scores = {
        key: state["best_model_score"]
        for key, state in read_checkpoint(moved / "checkpoints" / "last.ckpt")["callbacks"].items()
        if "val/loss" in key and "best_model_score" in state
    }
    figures = json.loads((moved / "metrics.json").read_text())
    assert [float(score) for score in scores.values()] == pytest.approx([figures["val/loss"]])


def test_resume_refuses_other_data(finished, tmp_path, qbio):
    fasta = Path(re.search("fasta: (.*)", (finished / "config.yaml").read_text())[1])
    text = fasta.read_text()
    fasta.write_text(text.replace("GATTACA", "GATTAGA", 1))
    try:
        code, _, err = qbio("train", "--resume", finished)
    finally:
        fasta.write_text(text)
    assert code == 2
    assert "data changed" in err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--resume", "nosuch"], ["nosuch", "config.yaml"]),
        (["--resume", "RUN", "--lr", "0.1"], ["--lr", "config.yaml"]),
        (["--resume", "RUN", "--out", "x"], ["--out"]),
        (["--resume", "RUN", "--epochs", "2"], ["--epochs", "3", "2"]),
    ],
)
def test_resume_says_what_it_cannot_do(finished, qbio, words, parts):
    code, _, err = qbio("train", *(str(finished) if word == "RUN" else word for word in words))
    assert code == 2
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_an_existing_folder_is_not_written_into(finished, fasta, qbio):
    code, _, err = qbio("train", "--fasta", fasta, "--label-pattern", PATTERN, "--out", finished)
    assert code == 2
    assert f"--resume {finished}" in " ".join(err.split())


@pytest.mark.parametrize("place", ["taken", "taken/run", "/proc/run"])
def test_a_run_needs_a_folder_that_can_be_written(fasta, tmp_path, qbio, place):
    (tmp_path / "taken").write_text("mine")
    out = tmp_path / place
    code, shown, err = qbio("train", "--fasta", fasta, "--label-pattern", PATTERN, "--out", out)
    assert (code, shown) == (2, "")
    assert err.count("\n") == 1
    for part in ("--out: expected", str(out), "another"):
        assert part in err
    assert (tmp_path / "taken").read_text() == "mine"


# -- data that cannot be trained on

GOOD = ">a class=x\nACGT\n>b class=y\nACGA\n"


@pytest.mark.parametrize(
    ("content", "words", "parts"),
    [
        (None, ["--label-pattern", PATTERN], ["x.fa"]),
        ("", ["--label-pattern", PATTERN], ["x.fa"]),
        (GOOD, [], ["--label-pattern", "--labels", "none"]),
        (GOOD, ["--label-pattern", PATTERN, "--labels", "t.csv"], ["--label-pattern and --labels"]),
        (GOOD, ["--label-pattern", "kind=(.*)"], ["kind=(.*)", "a"]),
        (GOOD, ["--label-pattern", "class=("], ["class=("]),
        (GOOD, ["--labels", "nosuch.csv"], ["nosuch.csv"]),
        (GOOD.replace("class=y", "class=x"), ["--label-pattern", PATTERN], ["classes", "only 'x'"]),
        (GOOD.replace("ACGA", "AC!A"), ["--label-pattern", PATTERN], ["'b'", "position 3", "'!'"]),
        (GOOD.replace("ACGA", "ACGAA"), ["--label-pattern", PATTERN], ["4", "5", "choose --pad-to longest"]),
        (GOOD, ["--label-pattern", PATTERN, "--pad-to", "3"], ["at most 3", "--pad-to longest"]),
        (GOOD, ["--label-pattern", PATTERN, "--pad-to", "0"], ["--pad-to: expected 'longest' or a length"]),
        (GOOD, ["--label-pattern", PATTERN, "--label-column", "x"], ["--label-column", "give --labels"]),
        (GOOD, ["--label-pattern", "class="], ["--label-pattern 'class='", "group"]),
        ("ACGT\n" + GOOD, ["--label-pattern", PATTERN], ["line 1", "'>'", "'A'"]),
        (GOOD + ">c class=x\n", ["--label-pattern", PATTERN], ["'c'", "no sequence"]),
        (GOOD, ["--label-pattern", PATTERN], ["at least 3 different sequences"]),
        (GOOD, ["--label-pattern", PATTERN, "--model", "nosuch"], ["--model: ", "nosuch", "cnn", "hybrid"]),
        (
            GOOD,
            ["--label-pattern", PATTERN, "--model", "cnn+nosuch"],
            ["--model: ", "'nosuch'", "choose one of quantum"],
        ),
    ],
)
def test_bad_data_gets_one_clear_line(tmp_path, qbio, content, words, parts):
    path = tmp_path / "x.fa"
    if content is not None:
        path.write_text(content)
    code, out, err = qbio("train", "--fasta", path, *words, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.startswith("qbio: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not re.search(r"\w=['\[]", err.replace("class=", ""))  # options, not arguments of Python
    assert not (tmp_path / "run").exists()


def test_one_file_per_class_and_padding(fasta, tmp_path, qbio):
    records = re.findall(r">(\S+) class=(\S+)\n(\w+)\n", fasta.read_text())
    for kind in ("motif", "plain"):
        rows = (
            f">{name}\n{letters[: 24 - i % 3]}\n" for i, (name, k, letters) in enumerate(records) if k == kind
        )
        (tmp_path / f"{kind}.fa").write_text("".join(rows))
    files = [f"--class-files.{kind}={tmp_path / kind}.fa" for kind in ("motif", "plain")]
    code, _, err = qbio("train", *files, "--epochs", 1, "--out", tmp_path / "no")
    assert code == 2
    assert "pad" in err
    code, *_ = qbio("train", *files, "--pad-to", "longest", "--epochs", 1, "--out", tmp_path / "run")
    assert code == 0
    code, *_ = qbio(
        "predict",
        "--checkpoint",
        tmp_path / "run",
        "--fasta",
        tmp_path / "motif.fa",
        "--out",
        tmp_path / "p.csv",
    )
    assert code == 0


def test_a_table_of_labels(fasta, tmp_path, qbio):
    rows = re.findall(r">(\S+) class=(\S+)", fasta.read_text())
    table = tmp_path / "labels.tsv"
    table.write_text("name\tlabel\n" + "".join(f"{name}\t{kind}\n" for name, kind in rows))
    code, *_ = qbio("train", "--fasta", fasta, "--labels", table, "--epochs", 1, "--out", tmp_path / "run")
    assert code == 0


# -- predict


def test_predictions_are_a_table_in_the_order_of_the_file(finished, fasta, tmp_path, qbio):
    out = tmp_path / "p.csv"
    code, text, _ = qbio("predict", "--checkpoint", finished, "--fasta", fasta, "--out", out)
    assert code == 0
    assert "120 predictions" in text
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(rows[0]) == ["name", "predicted", "probability_motif", "probability_plain"]
    assert [row["name"] for row in rows] == [f"seq{i}" for i in range(120)]
    for row in rows:
        chances = {kind: float(row[f"probability_{kind}"]) for kind in ("motif", "plain")}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert chances[row["predicted"]] == max(chances.values())


def test_predictions_do_not_depend_on_the_batch_size(finished, fasta, tmp_path, qbio):
    for size in (7, 1000):
        words = [
            "--checkpoint",
            finished / "checkpoints" / "best.ckpt",
            "--fasta",
            fasta,
            "--batch-size",
            size,
        ]
        assert qbio("predict", *words, "--out", tmp_path / f"{size}.csv")[0] == 0
    few, many = (list(csv.reader((tmp_path / f"{size}.csv").read_text().splitlines())) for size in (7, 1000))
    for one, other in zip(few[1:], many[1:], strict=True):
        assert one[:2] == other[:2]
        assert [float(x) for x in one[2:]] == pytest.approx([float(x) for x in other[2:]], abs=1e-5)


def test_predictions_are_not_overwritten_unasked(finished, fasta, tmp_path, qbio):
    out = tmp_path / "p.csv"
    out.write_text("mine")
    words = ["predict", "--checkpoint", finished, "--fasta", fasta, "--out", out]
    code, _, err = qbio(*words)
    assert code == 2
    assert "--force" in err
    assert out.read_text() == "mine"
    assert qbio(*words, "--force")[0] == 0
    assert out.read_text().startswith("name,predicted,")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--out", "HERE", "--force"], ["--out", "name of a file"]),
        (["--out", "HERE/no/p.csv"], ["--out", "no folder"]),
        (["--out", "/proc/p.csv"], ["--out", "/proc"]),
        (["--batch-size", "0"], ["--batch-size", "from 1"]),
        (["--threads", "0"], ["--threads", "from 1"]),
    ],
)
def test_wrong_options_of_a_prediction_get_one_line(finished, fasta, tmp_path, qbio, words, parts):
    given = [word.replace("HERE", str(tmp_path)) for word in words]
    code, out, err = qbio("predict", "--checkpoint", finished, "--fasta", fasta, *given)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("checkpoint", "letters", "parts"),
    [
        ("missing", "A" * 24, ["missing"]),
        ("noise", "A" * 24, ["noise", "cannot be read"]),
        ("cut", "A" * 24, ["cut", "cannot be read"]),
        ("stub", "A" * 24, ["stub", "cannot be read"]),
        ("empty", "A" * 24, ["empty", "cannot be read"]),
        ("other", "A" * 24, ["other", "not written by"]),
        ("pickle", "A" * 24, ["pickle", "more than plain data"]),
        ("RUN", "A" * 23, ["24", "23"]),
        ("RUN", "A" * 23 + "!", ["position 24", "'!'"]),
    ],
)
def test_what_cannot_be_predicted_gets_one_line(finished, tmp_path, qbio, checkpoint, letters, parts):
    whole = (finished / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "noise").write_bytes(b"not a checkpoint")
    for name, share in (("cut", 0.5), ("stub", 0.06), ("empty", 0)):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    torch.save({"weights": torch.ones(1)}, tmp_path / "other")
    torch.save({"qbio": Path("x"), "state_dict": {}}, tmp_path / "pickle")  # holds an object: never unpickled
    (tmp_path / "x.fa").write_text(f">a\n{letters}\n")
    source = finished if checkpoint == "RUN" else tmp_path / checkpoint
    code, _, err = qbio(
        "predict", "--checkpoint", source, "--fasta", tmp_path / "x.fa", "--out", tmp_path / "p.csv"
    )
    assert code == 2
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not (tmp_path / "p.csv").exists()


# -- signals, in a process of its own


def test_ctrl_c_gives_one_line_and_code_130(finished, tmp_path):
    run = Run(tmp_path / "run")
    words = [
        "train",
        "--config",
        finished / "config.yaml",
        "--epochs",
        1000,
        "--patience",
        1000,
        "--out",
        run.folder,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "shared.app.cli", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(run.last)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == f"qbio: interrupted; continue with: qbio train --resume {run.folder}\n"
    assert read_checkpoint(run.last)["epoch"] >= 0


def test_ctrl_c_is_heard_even_where_its_exception_is_lost(finished, tmp_path, qbio, monkeypatch):
    from shared.app.callbacks import Lines

    def press(self, trainer, pl_module):
        with contextlib.suppress(KeyboardInterrupt):  # as a destructor would
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Lines, "on_train_epoch_start", press)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = qbio("train", "--config", finished / "config.yaml", "--out", tmp_path / "run")
    assert code == 130
    assert "before the first epoch ended" in err
    assert signal.getsignal(signal.SIGINT) is before


def wait_for(path: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
