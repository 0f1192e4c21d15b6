"""The worker's side of a benchmark: requests in, answers out, one JSON object per line.

A worker is a small script that calls `serve(Worker(build))`. `build(case)` gets what `circuits.content` makes
and the options of its row in the benchmark's table of systems; it returns a function without arguments that
makes one training step and returns "outputs" (b, outputs) and the gradients of "inputs" (b, features) and
"weights" (K,) by name, each with a method `tolist`; for a case without a cotangent the outputs alone. Only
the standard library is needed, so that the worker runs in the peer's own environment, whatever is in there.

    {"do": "versions", "packages": [...]}   ->  {"python": ..., package: version, ...}
    {"do": "prepare", "case": {...}}        ->  {"seconds": first step, "memory": bytes, "outputs", ...}
    {"do": "run", "steps": n}               ->  {"seconds": of all n steps, "memory": bytes}
    {"do": "release"}                       ->  {}

Memory is the largest that the process held since "prepare", less what it held before.
"""

import ctypes
import gc
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
Step = Callable[[], dict[str, Any]]


def serve(worker: "Worker") -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up among the answers
    if hasattr(os, "sched_setaffinity"):  # for libraries that would take every processor
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


class Worker:
    """One system under measurement; its methods are the requests."""

    def __init__(self, build: Callable[[dict[str, Any]], Step]) -> None:
        self.build = build
        self.step: Step | None = None
        self.before = 0

    def versions(self, packages: list[str]) -> dict[str, str]:
        return {"python": platform.python_version(), **{package: version(package) for package in packages}}

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        self.release()
        self.before = fresh_memory()
        start = perf_counter()
        self.step = self.build(case)
        found = self.step()
        seconds = perf_counter() - start
        return {
            "seconds": seconds,
            "memory": peak_memory() - self.before,
            **{name: value.tolist() for name, value in found.items()},
        }

    def run(self, steps: int) -> dict[str, float]:
        assert self.step is not None
        start = perf_counter()
        for _ in range(steps):
            self.step()
        return {"seconds": perf_counter() - start, "memory": peak_memory() - self.before}

    def release(self) -> dict[str, Any]:
        """Let go of the case, and of memory that is free."""
        self.step = None
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        return {}


class Later:
    """A result that is only worked out when it is asked for, which is outside of the timed step."""

    def __init__(self, work: Callable[[], list]) -> None:
        self.tolist = work


def angles_of(angles: Iterable[Sequence[Any]], inputs: Any, weights: Any) -> list[Any]:
    """The angles of a gate: features (b,) and weights ()."""
    return [inputs[..., index] if source == "x" else weights[index] for source, index in angles]


def flat(values: Any) -> list[float]:
    """The numbers of nested lists, in order."""
    return list(chain.from_iterable(map(flat, values))) if isinstance(values, list) else [values]


def fresh_memory() -> int:
    """Forget the peak, and return the bytes that are resident now."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_memory() -> int:
    """The largest number of bytes that were resident since then."""
    return _status("VmHWM")


def _status(name: str) -> int:
    """Bytes of a field of /proc/self/status; 0 without one."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))
