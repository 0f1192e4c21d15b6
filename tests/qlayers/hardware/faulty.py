"""A PennyLane device that fails in every way a service does, and keeps a durable record of what it executed.

The record stands for the service: it outlives the process that submits. Each line is one job that was
executed, appended and synced in one write, with its circuits and their results. Executing is never undone and
never refused: a job that is submitted twice is executed twice and recorded twice.

Its randomness is that of a physical device in one respect only: the n-th execution of a circuit has its own
noise. That noise is drawn from (seed, circuit, n), so that any two histories can be compared bit for bit.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pennylane as qml
from pennylane.devices import Device, ExecutionConfig

from qlayers.hardware.errors import JobFailed
from qlayers.hardware.identity import Identity, shots_text
from qlayers.hardware.results import decode, encode


class Garbage:
    """Results that no circuit gives, by name."""

    @staticmethod
    def nan(results: list) -> list:
        return [np.full(np.shape(result), np.nan) for result in results]

    @staticmethod
    def short(results: list) -> list:
        return results[:-1]

    @staticmethod
    def range(results: list) -> list:
        return [np.asarray(result) + 7.5 for result in results]

    @staticmethod
    def text(results: list) -> str:
        return "<html>502 Bad Gateway</html>"

    @staticmethod
    def nested(results: list) -> list:
        return [(result, result) for result in results]


class Service:
    """What is on the other side of the network: executes jobs and remembers them.

    Args:
        path: the record.
        seed: of its noise.
    """

    def __init__(self, path: Path, seed: int = 0):
        self.path, self.seed = path, seed
        self._lock = threading.Lock()

    def record(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def executions(self) -> list[tuple]:
        """The circuits of all jobs, in the order of execution."""
        return [tuple(circuit) for job in self.record() for circuit in job["circuits"]]

    def execute(self, job: str, tapes: Sequence) -> None:
        with self._lock:
            names = [_named(tape) for tape in tapes]
            past = self.executions()
            results = []
            for place, (tape, name) in enumerate(zip(tapes, names, strict=True)):
                n = past.count(name) + names[:place].count(name)
                digest = hashlib.sha256(repr((self.seed, name, n)).encode()).digest()
                device = qml.device("default.qubit", seed=int.from_bytes(digest[:4], "little"))
                results.append(encode(device.execute(tape)))
            line = json.dumps({"job": job, "circuits": names, "results": results})
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(file, f"{line}\n".encode())
                os.fsync(file)
            finally:
                os.close(file)

    def results(self, job: str) -> list | None:
        for entry in reversed(self.record()):
            if entry["job"] == job:
                return [decode(text) for text in entry["results"]]
        return None


class Plain(Device):
    """The service as a device that has no hooks: nobody can ask it for a job.

    Args:
        path: the service's record.
        faults: what goes wrong, one name for each submission in turn, then nothing. "time-out before" and
            "time-out after" the execution, "refused" connection, "broken" for a permanent error, "failed"
            for a job without results, or a name of `Garbage`, which is returned after the execution.
        seed: of the service.
        moment: is told each moment at which the process might be killed.
    """

    name = "faulty"

    def __init__(
        self,
        path: Path,
        faults: Sequence[str] = (),
        seed: int = 0,
        wires=None,
        moment: Callable[[str], None] = lambda name: None,
    ):
        super().__init__(wires=wires)
        self.service = Service(path, seed)
        self.moment = moment
        self.submissions: list[int] = []  # how many circuits each has
        self._faults = iter(faults)
        self._lock = threading.Lock()

    def setup_execution_config(self, config=None, circuit=None) -> ExecutionConfig:
        return config or ExecutionConfig()

    def preprocess_transforms(self, execution_config=None):
        return qml.device("default.qubit").preprocess_transforms()

    def execute(self, circuits, execution_config=None):
        return self._submit(f"unnamed {len(self.submissions)} {id(self)}", circuits)

    def _submit(self, job: str, tapes):
        with self._lock:
            fault = next(self._faults, "")
            self.submissions.append(len(tapes))
        self.moment("submitted")
        if fault == "time-out before":
            raise TimeoutError("no answer")
        if fault == "refused":
            raise ConnectionRefusedError("connection refused")
        if fault == "broken":
            raise ValueError("unknown gate")
        self.service.execute(job, tapes)
        self.moment("executed")
        if fault == "time-out after":
            raise TimeoutError("no answer")
        if fault == "failed":
            raise JobFailed("calibration failed")
        results = self.service.results(job)
        self.moment("answered")
        return tuple(results) if not fault or fault == "time-out after" else getattr(Garbage, fault)(results)


class Faulty(Plain):
    """The same with hooks: it hands out the results of jobs that it knows.

    `recover_faults` are like `faults`, for the questions.
    """

    def __init__(self, *args, recover_faults: Sequence[str] = (), **options):
        super().__init__(*args, **options)
        self.questions: list[str] = []
        self._recover_faults = iter(recover_faults)

    def execute_job(self, job: str, circuits, config):
        return self._submit(job, circuits)

    def recover(self, job: str):
        self.questions.append(job)
        self.moment("asked")
        fault = next(self._recover_faults, "")
        if fault == "time-out before":
            raise TimeoutError("no answer")
        if fault == "refused":
            raise ConnectionRefusedError("connection refused")
        if fault == "failed":
            raise JobFailed("job was cancelled")
        results = self.service.results(job)
        return getattr(Garbage, fault)(results) if fault and results is not None else results


def _named(tape) -> tuple:
    identity = Identity(tape)
    return identity.circuit, identity.parameters, shots_text(tape.shots)
