"""The command line: its help, its manners, and one clear line for every mistake."""

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from shared.app import cli
from shared.app.cli import main
from shared.errors import UserError


def test_the_overview_names_every_command(qbio):
    code, out, err = qbio("--help")
    assert code == 0
    assert not err
    for name in ("train", "predict", "demo", "doctor", "fasta"):
        assert f"  {name} " in out


def test_without_a_command_the_overview_is_shown(qbio):
    assert qbio()[:2] == (0, qbio("--help")[1])


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_neither_torch_nor_lightning(words):
    code = (
        "import sys; from shared.app.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'lightning', 'numba', 'pennylane'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, timeout=60)


def test_the_help_of_a_command_comes_from_its_function(qbio):
    code, out, _ = qbio("predict", "--help")
    assert code == 0
    assert "Classify the sequences of a FASTA file" in out
    assert "--batch-size" in out
    assert "Replace the file if it is there" in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nosuch"], ["nosuch", "train"]),
        (["train", "--fast"], ["--fast"]),
        (["train", "--nosuch", "1"], ["--nosuch", "qbio train --help"]),
        (["train", "--batch_size", "3"], ["--batch_size 3", "did you mean --batch-size?"]),
        (["train", "--modle", "cnn"], ["--modle", "did you mean --model?"]),
        (["train", "x.fa"], ["x.fa", "--NAME VALUE"]),
        (["train", "--epochs", "many"], ["--epochs: expected a whole number, received many"]),
        (["train", "--epochs", "1.5"], ["--epochs: expected a whole number, received 1.5"]),
        (["train", "--epochs"], ["--epochs: expected a value, received none"]),
        (["train", "--epochs", "0"], ["--epochs", "received 0"]),
        (["train", "--lr", "-1"], ["--lr", "-1"]),
        (["train", "--lr", "nan"], ["--lr: expected a number, received nan"]),
        (["train", "--threads", "99999999999"], ["--threads", "from 1 to 1024"]),
        (["train", "--threads", "x"], ["--threads: expected a whole number, received x"]),
        (["train", "--pad-to", "wide"], ["--pad-to: expected 'longest' or a whole number, received wide"]),
        (["train", "--class-files", "x.fa"], ["--class-files.NAME VALUE", "x.fa"]),
        (["train", "--alphabet", "KLINGON"], ["alphabet", "KLINGON", "PROTEIN"]),
        (["train", "--config", "nosuch.yaml"], ["--config", "nosuch.yaml"]),
        (["predict"], ["--checkpoint, --fasta"]),
        (["predict", "--force=maybe"], ["--force: expected no value, received 'maybe'"]),
        (["doctor", "extra"], ["extra"]),
    ],
)
def test_a_wrong_option_gets_one_line_and_code_2(qbio, words, parts):
    code, out, err = qbio(*words)
    assert (code, out) == (2, "")
    assert err.startswith("qbio: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"fasta: [\n", ["--config", "YAML", "line 2"]),
        (b"- 1\n", ["--config", "YAML", "- 1"]),
        (b"nosuch: 1\n", ["--config", "'nosuch'", "qbio train"]),
        (b"epochs: many\n", ["--epochs", "whole number", "many"]),
        (b"\xff\xfe\x00", ["--config", "no text"]),
    ],
)
def test_a_wrong_file_of_options_gets_one_line(qbio, tmp_path, content, parts):
    config = tmp_path / "options.yaml"
    config.write_bytes(content)
    code, out, err = qbio("train", "--config", config)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.parametrize("command", ["train", "predict", "demo", "doctor"])
def test_every_command_has_a_help_that_explains_every_option(qbio, command):
    code, out, err = qbio(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: qbio {command} ")
    options = re.findall(r"^  (?:-h, )?(--[\w-]+.*(?:\n {6,}.*)*)", out, re.MULTILINE)
    assert len(options) >= 2
    for option in options:
        assert re.search(r" {2}[a-zA-Z]", option), option  # an explanation after the name


def test_options_may_come_from_a_file(qbio, tmp_path):
    config = tmp_path / "options.yaml"
    config.write_text("fasta: nosuch.fa\nlabel_pattern: class=(.*)\n")
    code, _, err = qbio("train", "--config", config)
    assert code == 2
    assert "nosuch.fa" in err


# -- commands of other packages, and what may go wrong inside any command


@pytest.fixture
def probe(monkeypatch):
    """Make a function the only installed command, called probe."""

    def install(function):
        monkeypatch.setattr(sys.modules[__name__], "installed", function, raising=False)
        entry = EntryPoint("probe", f"{__name__}:installed", cli.GROUP)
        monkeypatch.setattr(cli, "entry_points", lambda group: [entry])

    return install


def test_a_command_gets_its_options_and_gives_the_exit_code(probe):
    seen = {}

    def command(*, how_many: int = 1, where: Path = Path(), loud: bool = False) -> int:
        """Do it."""
        seen.update(how_many=how_many, where=where, loud=loud)
        return 7

    probe(command)
    assert main(["probe", "--how-many", "3", "--where", "x/y", "--loud"]) == 7
    assert seen == {"how_many": 3, "where": Path("x/y"), "loud": True}


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("first\n  second"), 2, "qbio: first second\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.fa"),
            2,
            "qbio: x.fa: No such file or directory\n",
        ),
        (
            ModuleNotFoundError("No module named 'lightning'", name="lightning.pytorch"),
            2,
            'qbio: this command needs lightning.pytorch; install it with: pip install "qbio[train]"\n',
        ),
        (KeyboardInterrupt(), 130, "qbio: interrupted\n"),
        (
            ZeroDivisionError("oops"),
            1,
            "qbio: ZeroDivisionError: oops (this is our mistake; --debug shows where)\n",
        ),
    ],
)
def test_no_error_becomes_a_traceback(probe, capsys, error, code, line):
    def command() -> None:
        """Fail."""
        raise error

    probe(command)
    assert main(["probe"]) == code
    assert capsys.readouterr().err == line


def test_debug_shows_the_traceback(probe, capsys):
    def command() -> None:
        """Fail."""
        raise UserError("wrong")

    probe(command)
    assert main(["probe", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("qbio: wrong\n")


def test_a_package_that_cannot_be_imported_does_not_take_the_overview_down(monkeypatch, capsys):
    broken = EntryPoint("broken", "no_such_module:command", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    assert main(["--help"]) == 0
    assert "no_such_module" in capsys.readouterr().out
