"""Systems under measurement: each in its own virtual environment, each a process that answers requests."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".bench"
LOOK_SECONDS = 0.1  # how often a working process is looked after


@dataclass(frozen=True)
class System:
    """One row of a comparison: a worker script, the environment it runs in, and what it is told.

    `environment` names `benchmarks/peers/<environment>.txt`; None is the environment of this process.
    """

    key: str
    name: str
    worker: str
    packages: tuple[str, ...]
    environment: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class StoppedError(RuntimeError):
    """A system could not do what was asked; the message is the reason."""


class Process:
    """A worker: `ask` sends one request and waits for its answer; it starts at the first one.

    Args:
        system: whose worker.
        threads: how many threads, and processors, it may use.
        memory: the bytes that it may hold before it is ended.
        variables: what is added to its environment.
    """

    def __init__(self, system: System, *, threads: int, memory: int | None = None, **variables: str) -> None:
        self.system = system
        self._memory = memory
        self._variables = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", **variables}
        self._child: subprocess.Popen | None = None

    def ask(self, do: str, *, within: float | None = None, **details: Any) -> dict[str, Any]:
        """The answer to a request of `workers/protocol.py`.

        Raises:
            StoppedError: the worker failed, or took more than `within` seconds or its memory; what it wrote
                stands on stderr. The next request starts it anew.
        """
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self._child.stdin.flush()
            self._wait(within)
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._end()
            raise StoppedError(f"{do}: the process ended")
        answer = json.loads(line)
        if "error" in answer:
            raise StoppedError(f"{do} failed: {answer['error']}")
        return answer

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [python_of(self.system.environment), str(HERE / "workers" / self.system.worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self._variables},
            text=True,
        )

    def _wait(self, within: float | None) -> None:
        """Until the answer begins, or raise `StoppedError` when the process takes too much."""
        assert self._child is not None
        end = None if within is None else monotonic() + within
        while not select.select([self._child.stdout], [], [], LOOK_SECONDS)[0]:
            held = _resident(self._child.pid)
            if self._memory is not None and held > self._memory:
                self._end(kill=True)
                raise StoppedError(f"more than {self._memory / 1e9:.0f} GB")
            if end is not None and monotonic() > end:
                self._end(kill=True)
                raise StoppedError(f"more than {within:.0f} s")

    def _end(self, *, kill: bool = False) -> None:
        if self._child is None:
            return
        child, self._child = self._child, None
        if kill:
            child.kill()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.close()
        try:
            child.stdin.close()  # the worker reads the end of its input and leaves
        except BrokenPipeError:
            child.kill()
        child.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def _resident(pid: int) -> int:
    """The bytes of memory that a process holds; 0 without a /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


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
        pip = [str(python), "-m", "pip", "install", "--quiet", "-r", requirements]
        if subprocess.run(pip).returncode:
            raise StoppedError(f"pip could not install benchmarks/peers/{environment}.txt")
        stamp.write_text(wanted)
    return str(python)
