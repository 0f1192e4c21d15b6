"""The two fresh processes for the rows that need one: started when first wanted, kept for the next op."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from shared.check.report import Mismatch

_PATIENCE = 120.0  # seconds for one job


class Worker:
    """A Python process that knows nothing of this one but its import path."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "shared.check.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )
        atexit.register(self.close)

    def start(self, kind: str, folder: Path, **job: Any) -> None:
        """Hand over a job."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"kind": kind, "folder": str(folder), **job}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Wait for the job.

        Raises:
            Mismatch: it failed, with the error of the other process.
        """
        assert self._process.stdout is not None
        timer = threading.Timer(_PATIENCE, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            worker.cache_clear()
            raise Mismatch(f"expected an answer of the other process within {_PATIENCE:.0f} s, received none")
        error = json.loads(line)["error"]
        if error:
            raise Mismatch(f"expected the other process to succeed, received {error}")

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


def finish(*workers: Worker) -> None:
    """Wait for the jobs of all; the first one's error counts, which may be why another waits in vain."""
    with ThreadPoolExecutor(len(workers)) as pool:
        for job in as_completed([pool.submit(one.finish) for one in workers]):
            job.result()


@functools.cache
def worker(rank: int) -> Worker:
    """The first or the second process."""
    return Worker()
