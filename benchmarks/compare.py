"""One case on every system: prepare it everywhere, check that all agree, then time all in turn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import circuits
from circuits import Case
from field import absence
from systems import Process, StoppedError
from workers.protocol import flat

TOLERANCE = 2e-5  # of values, and of gradients relative to the largest, both in single precision
LIMIT_SECONDS = 180.0  # for a first call, compilation included, and for a step
BURST_SECONDS = 0.2  # how long one system runs before the next has its turn; a slow one makes one step
TURNS_SECONDS = 5.0  # how long a slow system may take for all its turns
ONCE_SECONDS = 20.0  # from here on a step is run once


@dataclass(frozen=True)
class Timing:
    """What was measured of one system on one case: seconds, bytes, and how far it is from the reference."""

    first: float
    memory: int
    error: float
    steps: list[float]


Found = dict[str, Timing | str]  # by a system's key: what was measured, or why nothing was


class DisagreementError(RuntimeError):
    """Two systems computed different things: no time is worth printing."""


def measure(processes: Sequence[Process], case: Case, rounds: int) -> Found:
    """The timing of each system by its key, or the reason why it has none.

    Raises:
        DisagreementError: the first system that ran and another computed different values or gradients.
    """
    found: Found = {}
    answers = prepare(processes, case, found)
    ready = [process for process in processes if process.system.key in answers]
    first = answers[ready[0].system.key] if ready else {}
    errors = {key: check_agreement(key, answer, first) for key, answer in answers.items()}
    steps: dict[str, list[float]] = {process.system.key: [] for process in ready}
    plans = {}
    for process in ready:
        with _reasons(process, found):
            plans[process] = Turns.of(process, rounds)
    for turn in range(rounds):
        for process, plan in plans.items():
            key = process.system.key
            if turn < plan.count and key not in found:
                with _reasons(process, found):
                    answer = process.ask("run", steps=plan.burst, within=LIMIT_SECONDS)
                    steps[key].append(answer["seconds"] / plan.burst)
                    answers[key]["memory"] = answer["memory"]
    for process, plan in plans.items():
        key, answer = process.system.key, answers[process.system.key]
        if key not in found:
            seen = steps[key] or [plan.seconds]
            found[key] = Timing(answer["seconds"], answer["memory"], errors[key], seen)
        with suppress(StoppedError):
            process.ask("release")
    return found


def prepare(processes: Sequence[Process], case: Case, found: Found) -> dict[str, dict[str, Any]]:
    """The answers of all that can run the case; of the others the reason goes into `found`."""
    content, answers = circuits.content(case), {}
    for process in processes:
        key = process.system.key
        if reason := absence(key, case):
            found[key] = reason
            continue
        with _reasons(process, found):
            request = {**content, **process.system.options}
            answers[key] = process.ask("prepare", case=request, within=LIMIT_SECONDS)
    return answers


@dataclass(frozen=True)
class Turns:
    """How many of the rounds a system takes part in, how many steps it makes then, and the last warm step."""

    count: int
    burst: int
    seconds: float

    @classmethod
    def of(cls, process: Process, rounds: int) -> "Turns":
        """Found warm, since the first steps of a small circuit are slow."""
        steps, burst, seconds = 0, 1, 0.0
        while burst > 1.5 * steps:
            steps = burst
            seconds = process.ask("run", steps=steps, within=LIMIT_SECONDS)["seconds"] / steps
            burst = max(1, round(BURST_SECONDS / seconds))
        if seconds > ONCE_SECONDS:
            return cls(0, 1, seconds)
        return cls(max(1, min(rounds, round(TURNS_SECONDS / (burst * seconds)))), burst, seconds)


def check_agreement(name: str, found: dict[str, Any], reference: dict[str, Any]) -> float:
    """The largest error of values, and of gradients relative to the largest gradient.

    Raises:
        DisagreementError: it is above `TOLERANCE`, or the sizes differ.
    """
    worst = 0.0
    for what in ("outputs", "inputs", "weights"):
        a, b = flat(found.get(what, [])), flat(reference.get(what, []))
        if len(a) != len(b):
            raise DisagreementError(
                f"{name}: {what} have {len(a)} entries, expected {len(b)}; nothing was timed"
            )
        error = max((abs(x - y) for x, y in zip(a, b, strict=True)), default=0.0)
        error /= max(1.0, *map(abs, b)) if b else 1.0
        if not error <= TOLERANCE:
            raise DisagreementError(
                f"{name} disagrees: {what} by {error:.2g}, expected at most {TOLERANCE:g}; nothing was timed"
            )
        worst = max(worst, error)
    return worst


@contextmanager
def _reasons(process: Process, found: Found) -> Iterator[None]:
    """Keeps the reason why a system stopped, in place of its timing."""
    try:
        yield
    except StoppedError as stopped:
        found[process.system.key] = str(stopped)
