"""A package of somebody else's adds an op, a command and a rule, and all behave like ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the plugin into a folder of its own, which the process then sees beside everything else."""
    target = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target, PLUGIN]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(target), before)))}


def python(environment: dict[str, str], code: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


RUN = "import sys; from shared.app.cli import main; sys.exit(main(sys.argv[1:]))"


def test_its_command_stands_beside_ours(environment):
    done = python(environment, RUN, "--help")
    assert "Print the GC content" in done.stdout
    assert "train" in done.stdout


def test_its_command_runs(environment, tmp_path):
    (tmp_path / "x.fa").write_text(">a\nACGT\n>b\nGGGC\n>c\nNNNN\n")
    done = python(environment, RUN, "gc", "--fasta", tmp_path / "x.fa", "--digits", 2)
    assert (done.returncode, done.stdout) == (0, "a\t0.50\nb\t1.00\nc\t0.00\n")


def test_its_mistakes_are_one_line_too(environment):
    done = python(environment, RUN, "gc", "--fasta", "nosuch.fa")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_doctor_knows_its_op(environment):
    done = python(environment, RUN, "doctor", "--json")
    providers = json.loads(done.stdout)["ops"]["qbio_gc::content"]
    assert [row["provider"] for row in providers] == ["numba", "reference"]
    assert not any(row["missing"] for row in providers)


RULE = """
import torch, shared
from torch import nn
from qbio_gc.ops import content

class Model(nn.Module):
    def forward(self, tokens):
        return content(tokens) + content((3 - tokens).flip(1)) + content(tokens.flip(0))

tokens = torch.randint(0, 6, (3, 20), dtype=torch.uint8)
model = Model()
better = shared.optimize(model, tokens)
assert torch.equal(better(tokens), model(tokens))
assert not shared.optimize(better, tokens).report.changes
print(better.report)
"""


def test_its_rule_is_applied(environment):
    done = python(environment, RULE)
    assert done.returncode == 0, done.stderr
    for line in ("content of flip -> content  [gc_of_strands]", "content of complements -> content"):
        assert line in done.stdout
    assert "the batch is flipped, too" in done.stdout


@pytest.mark.thorough
def test_its_op_conforms(environment):
    code = (
        "from shared import check, registry;"
        "report = check.conforms(registry()['qbio_gc::content'], slow=False);"
        "report.raise_for_failures(); print(report)"
    )
    done = python(environment, code)
    assert done.returncode == 0, done.stderr
    assert "qbio_gc::content: conforms" in done.stdout
