"""Small FASTA files, and a way to run the program as a user does."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.app.cli import main


def two_classes(path: Path) -> Path:
    """Write 120 sequences of 24 letters in two classes: one has a GATTACA in its middle."""
    draw = random.Random(1)
    lines = []
    for i in range(120):
        kind = ("motif", "plain")[i % 2]
        letters = "".join(draw.choice("ACGT") for _ in range(24))
        if kind == "motif":
            letters = letters[:8] + "GATTACA" + letters[15:]
        lines.append(f">seq{i} class={kind}\n{letters}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """A file that can be trained on."""
    return two_classes(tmp_path / "two classes.fa")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three epochs."""
    folder = tmp_path_factory.mktemp("finished")
    fasta = two_classes(folder / "data.fa")
    words = [
        "train",
        "--fasta",
        fasta,
        "--label-pattern",
        "class=(.*)",
        "--epochs",
        3,
        "--out",
        folder / "run",
    ]
    assert main([str(word) for word in words]) == 0
    return folder / "run"


@pytest.fixture
def qbio(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: its exit code, and what it wrote on stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run
