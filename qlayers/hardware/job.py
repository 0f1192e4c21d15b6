"""A submission: circuits that go to the device together under one id."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from qlayers.hardware.journal import Row
from qlayers.hardware.link import Circuit


class Execution(NamedTuple):
    """A circuit that is to be executed: what the device gets, and the text that the journal keeps of it."""

    circuit: Circuit
    text: str

    @property
    def shots(self) -> int:
        """All shots together, 0 for exact results."""
        return self.circuit.tape.shots.total_shots or 0


@dataclass(eq=False)
class Job:
    """Executions that are submitted together.

    Attributes:
        pending: those without a result yet.
        id: what the device and the journal know the job by; None before its submission.
        places: where in the submission each row is.
        size: how many circuits the submission has.
        answered: whether results came back for the id, good or not: then the device has executed it.
        results: those that came back, as text.
        outcome: becomes `results` when there is nothing pending, or the error.
    """

    pending: dict[Row, Execution]
    id: str | None = None
    places: dict[Row, int] = field(default_factory=dict)
    size: int = 0
    answered: bool = False
    results: dict[Row, str] = field(default_factory=dict)
    outcome: Future = field(default_factory=Future)

    @property
    def shots(self) -> int:
        """The shots of what is pending."""
        return sum(execution.shots for execution in self.pending.values())

    def number(self, id: str) -> None:
        """Make what is pending a submission of that id."""
        self.id, self.size, self.answered = id, len(self.pending), False
        self.places = {row: place for place, row in enumerate(self.pending)}


def pack(executions: Mapping[Row, Execution], most: int | None) -> list[Job]:
    """As few jobs as the limit allows; the circuits of a job have equal shots and configuration.

    Args:
        executions: what is to be executed; its order is kept within equal shots and configuration.
        most: the most circuits of a job, None for any number.
    """
    groups: dict[Hashable, list[Row]] = {}
    for row, execution in executions.items():
        groups.setdefault((row.shots, id(execution.circuit.config)), []).append(row)
    return [
        Job({row: executions[row] for row in part})
        for group in groups.values()
        for part in _parts(group, most or len(group))
    ]


def cost_of(jobs: Iterable[Job]) -> tuple[int, int, int]:
    """Circuits, shots and submissions of jobs that have not been submitted."""
    jobs = list(jobs)
    return sum(len(job.pending) for job in jobs), sum(job.shots for job in jobs), len(jobs)


def _parts(rows: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    return (rows[start : start + most] for start in range(0, len(rows), most))
