"""The worker's side of a benchmark: requests in, answers out, one JSON object per line.

A worker is a small script that calls `serve(build)`. `build(case)` gets a dictionary with "wires", "layers",
"inputs" (b, wires), "weights" (layers, wires, 3), "cotangent" (b, wires) as nested lists, and the options of
its row in the benchmark's table of systems; it returns a function without arguments that makes one training
step and returns its outputs and the gradients of inputs and weights. Only the standard library is needed,
so that the worker runs in the peer's own environment, whatever is in there.

    {"do": "versions", "packages": [...]}   ->  {"python": ..., package: version, ...}
    {"do": "prepare", "case": {...}}        ->  {"seconds": first step, "outputs", "inputs", "weights"}
    {"do": "run", "steps": n}               ->  {"seconds": of all n steps}
"""

import json
import os
import platform
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter
from typing import Any

Step = Callable[[], tuple[Any, Any, Any]]


def serve(build: Callable[[dict[str, Any]], Step]) -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up among the answers
    worker = Worker(build)
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

    def versions(self, packages: list[str]) -> dict[str, str]:
        return {"python": platform.python_version(), **{package: version(package) for package in packages}}

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        start = perf_counter()
        self.step = self.build(case)
        found = self.step()
        seconds = perf_counter() - start
        names = ("outputs", "inputs", "weights")
        return {
            "seconds": seconds,
            **{name: value.tolist() for name, value in zip(names, found, strict=True)},
        }

    def run(self, steps: int) -> dict[str, float]:
        start = perf_counter()
        for _ in range(steps):
            self.step()
        return {"seconds": perf_counter() - start}
