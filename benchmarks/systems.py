"""Systems under measurement: each in its own virtual environment, each a process that answers requests."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".bench"


@dataclass(frozen=True)
class System:
    """One row of a comparison: a worker script, the environment it runs in, and what it is told.

    `environment` names `benchmarks/peers/<environment>.txt`; None is the environment of this process.
    """

    name: str
    worker: str
    packages: tuple[str, ...]
    environment: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Process:
    """A running worker: `ask` sends one request and waits for its answer."""

    def __init__(self, system: System, *, threads: int, **variables: str) -> None:
        self.system = system
        self._child = subprocess.Popen(
            [python_of(system.environment), str(HERE / "workers" / system.worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", **variables},
            text=True,
        )

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """The answer to a request of `workers/protocol.py`.

        Raises:
            RuntimeError: the worker failed or ended; its own words stand on stderr.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": do, **details}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(f"{self.system.name}: {do} failed: {answer['error']}")
        return answer

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()  # the worker reads the end of its input and leaves
        self._child.stdout.close()
        self._child.wait()


def python_of(environment: str | None) -> str:
    """The interpreter of an environment, which is made if it is missing or its requirements have changed."""
    if environment is None:
        return sys.executable
    folder = ENVIRONMENTS / environment
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = (HERE / "peers" / f"{environment}.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Making {folder.relative_to(HERE.parent)}; this takes some minutes", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        requirements = str(HERE / "peers" / f"{environment}.txt")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        stamp.write_text(wanted)
    return str(python)
