"""Runs small trainings again and again in processes of their own, each killed at a moment that is asked for.

Reads JSON lines {"training", "folder", "kill_at", "seconds", "jobs"} and answers each with a JSON line
{"signal", "moments", "weights"}. A fork of this process, which has PennyLane loaded, takes milliseconds where
a new interpreter takes seconds. A moment is each statement that the journal gives to SQLite and each stage of
a submission; at the `kill_at`-th the process kills itself with SIGKILL. `seconds` has it killed from outside.
"""

import itertools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pennylane as qml
import torch
from faulty import Faulty

from qlayers import Circuit, QuantumLayer
from qlayers.hardware import Budget, Retries, Runner

STEPS, SHOTS = 4, 20
FAULTS = ("", "time-out after", "", "time-out before", "", "refused", "", "time-out after")
QUICK = Retries(first_wait=0.0, jitter=0.001, tries=6)


def tape(weights, x: float):
    gates = [qml.RX(x, 0), qml.RY(weights[0], 0), qml.CNOT([0, 1]), qml.RX(weights[1], 1)]
    return qml.tape.QuantumScript(gates, [qml.expval(qml.Z(1))])


def train(runner: Runner) -> np.ndarray:
    """Gradient descent by parameter shift; the inputs come back, so circuits repeat from step to step."""
    weights = np.array([0.4, 1.1])
    for step in range(STEPS):
        shifted = [weights, *(weights + s * e for e in np.eye(2) for s in (np.pi / 2, -np.pi / 2))]
        tapes = [tape(w, x) for w in shifted for x in (0.1, 0.8)] + [tape([0.0, 0.0], 0.5)] * 2
        values = np.array(runner.run(tapes)[:10]).reshape(5, 2)
        slope = (values[1::2] - values[2::2]).mean(axis=1) / 2
        weights = weights - 0.5 * slope * values[0].mean() * (1 + step / 7)
    return weights


def train_layer(runner: Runner) -> np.ndarray:
    """Adam on a layer between two others, which torch differentiates."""
    torch.manual_seed(0)
    circuit = Circuit.parse("weights w(2)\nRX(x0) 0\nRY(w[0]) 0\nCNOT 0 1\nRX(w[1]*x0) 1\nexpval Z(1)")
    layer = QuantumLayer(circuit, runner=runner)
    model = torch.nn.Sequential(torch.nn.Linear(3, 1), layer, torch.nn.Linear(1, 1)).double()
    optimizer, x = torch.optim.Adam(model.parameters(), lr=0.3), torch.rand(2, 3, dtype=torch.float64)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (model(x) - 0.7).square().mean().backward()
        optimizer.step()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


# name: the training, and how many circuits it needs; there is no budget for another
TRAININGS = {
    "tapes": (train, STEPS * 11),  # 10 in each step, and one that is asked for twice
    "layer": (train_layer, STEPS * 2 * (1 + 3 * 2)),  # for each sample itself, and each of 3 angles twice
}


def child(request: dict) -> None:
    folder, counter, lock = Path(request["folder"]), itertools.count(1), threading.Lock()
    reached = 0

    def moment(name: str) -> None:
        nonlocal reached
        with lock:
            reached = next(counter)
            if reached == request.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)

    run_training, circuits = TRAININGS[request["training"]]
    device = Faulty(folder / "record", faults=FAULTS, seed=5, moment=moment)
    options = {
        "shots": SHOTS,
        "journal": folder / "run.db",
        "retries": QUICK,
        "budget": Budget(circuits=circuits),
    }
    with Runner(device, circuits_per_job=4, jobs=request.get("jobs", 1), **options) as runner:
        runner.journal._connection.set_trace_callback(moment)
        weights = run_training(runner)
        runner.journal._connection.set_trace_callback(None)
    answer = {"weights": weights.tobytes().hex(), "moments": reached}
    (folder / "answer").write_text(json.dumps(answer))


def run(request: dict) -> dict:
    pid = os.fork()
    if pid == 0:
        try:
            child(request)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    if "seconds" in request:
        time.sleep(request["seconds"])
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    if status:
        return {"failed": os.WEXITSTATUS(status)}
    return json.loads((Path(request["folder"]) / "answer").read_text())


if __name__ == "__main__":
    for run_training, _ in TRAININGS.values():  # so that all that they import is there before any fork
        run_training(Runner(qml.device("default.qubit"), shots=SHOTS))
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
