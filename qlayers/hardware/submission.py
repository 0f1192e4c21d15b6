"""One job from its submission to results that are in the journal, over all tries."""

import threading
import uuid
from collections.abc import Callable, Sequence

from qlayers.hardware.budget import Budget
from qlayers.hardware.checks import check_result
from qlayers.hardware.errors import BudgetExceeded, ExecutionFailed, InvalidResult, JobFailed
from qlayers.hardware.identity import description
from qlayers.hardware.job import Execution, Job
from qlayers.hardware.journal import Journal, Row
from qlayers.hardware.link import Link
from qlayers.hardware.results import bare, encode
from qlayers.hardware.retries import Retries, error_text

Check = Callable[..., None]


class Submitter:
    """Brings jobs to a device and their results into a journal.

    A job that has an id is asked for before it is executed again, if the device can be asked. An id whose
    results were impossible, or that failed, is given up; what is pending then goes out under a new one.

    Args:
        link, journal, budget, retries: as the `Runner` has them.
        check: refuses impossible results of a tape, like `check_result`; None takes all.
    """

    def __init__(
        self,
        link: Link,
        journal: Journal,
        budget: Budget,
        retries: Retries,
        check: Check | None = check_result,
    ):
        self.link, self.journal, self.budget = link, journal, budget
        self.retries, self.check = retries, check

    def settle(self, job: Job, stop: threading.Event | None = None) -> dict[Row, str]:
        """Execute what is pending.

        Args:
            job: new, or one whose id the journal knows from a run that ended too early.
            stop: when it is set, nothing is tried again.

        Returns:
            The results as text, which are in the journal.

        Raises:
            BudgetExceeded: it would cost more than is left.
            ExecutionFailed: a permanent error, or no tries are left.
        """
        tries = 0

        def once() -> None:
            nonlocal tries
            tries += 1
            self._try(job)

        try:
            self.retries.call(once, stop)
        except BudgetExceeded:
            raise
        except Exception as error:
            raise self._failure(job, tries, error) from error
        return job.results

    def _try(self, job: Job) -> None:
        results = self._recover(job)
        recovered = results is not None
        if results is None:
            results = self._execute(job)
        bad = self._take(job, results)
        if not bad:
            return
        reasons = "; ".join(bad.values())
        if recovered or not self.link.can_recover:  # else the device is asked once more for what it has
            self._give_up(job, "refused", reasons)
        raise InvalidResult(reasons)

    def _recover(self, job: Job) -> Sequence | None:
        """Results of a job that was submitted before, None if it is to be executed."""
        if job.id is None:
            return None
        try:
            results = self.link.recover(job.id)
        except Exception as error:
            self._after(job, error, failed_on_the_way=False)
            raise
        if results is None and job.answered:
            self._give_up(job, "refused", "impossible results, which the device no longer has")
        elif results is None and len(job.pending) < job.size:  # only a part of it is wanted now
            self._give_up(job, "withdrawn", "the device has never received it")
        return results

    def _execute(self, job: Job) -> Sequence:
        if job.id is None:
            job.number(uuid.uuid4().hex)
            cost = self.budget.cost(len(job.pending), job.shots)
            texts = {row: execution.text for row, execution in job.pending.items()}
            try:
                self.journal.submit(job.id, texts, cost, self.budget)
            except BaseException:
                job.id = None
                raise
        try:
            return self.link.execute(job.id, [execution.circuit for execution in job.pending.values()])
        except Exception as error:
            self._after(job, error, failed_on_the_way=True)
            raise

    def _after(self, job: Job, error: Exception, *, failed_on_the_way: bool) -> None:
        """Whether a job may still be asked for after an error. While it may, it keeps its id."""
        if failed_on_the_way and self.retries.not_received(error):
            self._give_up(job, "withdrawn", error_text(error))
        elif isinstance(error, JobFailed) or not self.retries.transient(error):
            self._give_up(job, "failed", error_text(error))
        elif not self.link.can_recover:
            self._give_up(job, "lost", error_text(error))

    def _give_up(self, job: Job, state: str, note: str) -> None:
        assert job.id is not None
        self.journal.abandon(job.id, state, note)
        job.id = None

    def _take(self, job: Job, results: Sequence) -> dict[Row, str]:
        """Write the good results down; what is wrong with each of the others."""
        assert job.id is not None
        job.answered = True
        if not isinstance(results, tuple | list) or len(results) != job.size:
            received = len(results) if isinstance(results, tuple | list) else type(results).__name__
            return dict.fromkeys(job.pending, f"expected results of {job.size} circuits, received {received}")
        good, bad = {}, {}
        for row, execution in job.pending.items():
            try:
                good[row] = self._checked(execution, results[job.places[row]])
            except InvalidResult as error:
                bad[row] = str(error)
        self.journal.finish(job.id, good)
        job.results |= good
        job.pending = {row: execution for row, execution in job.pending.items() if row in bad}
        return bad

    def _checked(self, execution: Execution, result) -> str:
        if self.check is not None:
            tape = execution.circuit.tape
            self.check(tape, bare(tape, result), _count(self.link.device.wires))
        return encode(result)

    def _failure(self, job: Job, tries: int, error: Exception) -> ExecutionFailed:
        first_row, first = next(iter(job.pending.items()))
        others = f" and {len(job.pending) - 1} more of its job" if len(job.pending) > 1 else ""
        kept = "its job is asked for again" if job.id else "it is submitted again"
        return ExecutionFailed(
            f"Circuit {first_row.circuit[:8]} ({description(first.circuit.tape)}){others}: expected results "
            f"of device {self.link.name}, received after {tries} {'try' if tries == 1 else 'tries'} "
            f"{error_text(error)}. All results that came back are in the journal {self.journal.path}; mend "
            f"the cause and run again: then {kept}. Retries(tries=...) sets how often it is tried."
        )


def _count(wires) -> int | None:
    return None if wires is None else len(wires)
