"""A training that is killed at any moment goes on to the same weights, and nothing is executed twice.

Once with circuits that are given to the runner, and once with a layer in a model, by a torch optimizer.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from faulty import Service

HERE = Path(__file__).parent
MOMENTS = 20
KILLED = {"signal": signal.SIGKILL}
CIRCUITS = {"tapes": 44, "layer": 56}


class Nursery:
    def __init__(self, training: str):
        self.training = training
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "OMP_NUM_THREADS": "1"},
        )

    def run(self, folder: Path, **request) -> dict:
        self.process.stdin.write(
            json.dumps({"training": self.training, "folder": str(folder), **request}) + "\n"
        )
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module", params=CIRCUITS)
def nursery(request):
    nursery = Nursery(request.param)
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def uninterrupted(nursery, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("uninterrupted")
    answer = nursery.run(folder)
    executions = sorted(Service(folder / "record").executions())
    assert len(executions) == CIRCUITS[nursery.training]
    return {**answer, "executions": executions}


def check(folder: Path, answer: dict, uninterrupted: dict) -> None:
    """The end of a run that was killed: weights, what the device executed, what the journal says."""
    assert answer["weights"] == uninterrupted["weights"]
    assert sorted(Service(folder / "record").executions()) == uninterrupted["executions"]
    journal = sqlite3.connect(folder / "run.db")
    results = journal.execute("SELECT count(*), count(result) FROM executions").fetchone()
    spent = journal.execute("SELECT circuits, shots FROM spent").fetchone()
    states = {state for (state,) in journal.execute("SELECT DISTINCT state FROM jobs")}
    journal.close()
    count = len(uninterrupted["executions"])
    assert results == (count, count)
    assert spent == (count, count * 20)
    assert states <= {"done", "withdrawn"}


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("number", range(MOMENTS))
def test_killed_at_a_moment(nursery, uninterrupted, tmp_path, number: int, jobs: int) -> None:
    moments = uninterrupted["moments"]
    spread = random.Random(number).uniform(number, number + 1) / MOMENTS  # one in each twentieth of the run
    at = 1 + int(spread * (moments - 10))
    assert nursery.run(tmp_path, kill_at=at, jobs=jobs) == KILLED
    check(tmp_path, nursery.run(tmp_path, jobs=jobs), uninterrupted)


def test_killed_again_and_again(nursery, uninterrupted, tmp_path) -> None:
    draw, kills = random.Random(0), 0
    while (answer := nursery.run(tmp_path, kill_at=draw.randint(20, 120))) == KILLED:
        kills += 1
    assert kills >= 2
    check(tmp_path, answer, uninterrupted)


@pytest.mark.parametrize("number", range(5))
def test_killed_from_outside(nursery, uninterrupted, tmp_path, number: int) -> None:
    """Whatever the moment is: also within a statement of SQLite, or when the run has ended already."""
    nursery.run(tmp_path, seconds=random.Random(number).uniform(0.0, 0.3))
    check(tmp_path, nursery.run(tmp_path), uninterrupted)


def test_a_new_journal_executes_again(nursery, uninterrupted, tmp_path) -> None:
    """What the other tests count does change where a result is paid twice."""
    nursery.run(tmp_path)
    for file in tmp_path.glob("run.db*"):
        file.unlink()
    nursery.run(tmp_path)
    assert len(Service(tmp_path / "record").executions()) == 2 * CIRCUITS[nursery.training]
    shutil.rmtree(tmp_path)
