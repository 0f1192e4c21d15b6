"""Runs circuits on a device: each once, whatever happens in between, and never beyond the budget."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import suppress
from typing import Any, NamedTuple

from pennylane.devices import Device
from pennylane.measurements import Shots
from pennylane.tape import QuantumScript

from qlayers.hardware.budget import Budget, Spent
from qlayers.hardware.checks import check_result
from qlayers.hardware.errors import InDoubt
from qlayers.hardware.estimate import Estimate, Estimates
from qlayers.hardware.identity import Identity, description, shots_text
from qlayers.hardware.job import Execution, Job, cost_of, pack
from qlayers.hardware.journal import Entry, Journal, Row
from qlayers.hardware.link import Link, Prepared
from qlayers.hardware.repetitions import Repetitions
from qlayers.hardware.results import decode
from qlayers.hardware.retries import Retries, retries_of
from qlayers.hardware.submission import Submitter
from shared.errors import UserError
from shared.progress import bar

IN_DOUBT = ("ask", "again")


class Call(NamedTuple):
    """The circuits of one call: `rows` has one for each of the device's circuits, equal ones where shared."""

    prepared: Prepared
    rows: list[Row]
    wanted: dict[Row, Execution]


class Plan(NamedTuple):
    """What is to be done for a call: results that are known, others' jobs to wait for, jobs of its own."""

    known: dict[Row, str]
    awaited: dict[Row, Future]
    jobs: list[Job]


class Runner(Estimates):
    """Executes circuits on a PennyLane device, for layers and for anything else that has circuits.

    A run that is killed and started again with the same journal gets the results that the journal has,
    bit for bit, and goes on from there. For that a circuit is known by its structure, parameters, shots and
    device, and by how often this runner has run it before: the third time that a training runs a circuit
    gets the third result, so that a training that repeats itself replays. One journal belongs to one
    training; a new training takes a new journal, and so does each process of a distributed one.

    Submissions that were on their way when a run was killed are asked for at the device by their id, if it
    has the hooks of `qlayers.hardware.link`. If not, `in_doubt` says what to do. Errors that come back are
    tried again in either case; without hooks that may pay for a circuit again where a time-out hid that it
    ran, and each try counts in the budget.

    Plugins raise what their service raised. What is tried again, and what has certainly not arrived, are the
    kinds `TRANSIENT` and `NOT_RECEIVED`, which know the errors of the network, of IBM's service and of Amazon
    Braket; for another service give `retries=Retries(transient=TRANSIENT | ErrorKinds(...))`. Other errors
    end the call at once. The hooks hand our id on, which IBM takes as a tag of the job and Braket as
    `clientToken`.

    Circuits that are equal within a call (operations, parameters, measurements, shots) are executed once and
    share the result. With finite shots they then share its noise too: their errors add up, where errors of
    their own would average out. `deduplicate=False` executes each.

    Several threads may call `run`; results do not depend on the order in which jobs end.

    Args:
        device: any PennyLane device, also legacy ones.
        shots: of tapes that have none of their own; None for exact results.
        journal: the file, or a `Journal`; None keeps results only while they are needed.
        budget: what the runs of the journal may spend together.
        retries: how often a submission is tried, or `Retries` with its waits and kinds of errors.
        jobs: how many submissions are on their way at once, each in a thread; the device must allow that.
        circuits_per_job: the most circuits of a submission; None for as many as there are, or as the
            device's backend allows where it has `max_circuits`.
        deduplicate: whether equal circuits of a call are executed once.
        reuse: whether a result serves all repetitions of its circuit in all calls. Right for exact results;
            with shots every repetition then has the same noise.
        in_doubt: "ask" raises `InDoubt` for circuits whose fate is unknown; "again" submits them again, and
            so may pay twice.
        check: refuses impossible results, see `qlayers.hardware.checks`; None takes all.
        progress: shows a bar during each call.
        execute, recover: the hooks of `qlayers.hardware.link`, where the device has none of its own.
        name: what the journal calls the device.

    Raises:
        UserError: an argument is invalid.
        JournalInUse: another run writes to the journal.

    Example:
        >>> import pennylane as qml, tempfile
        >>> tape = qml.tape.QuantumScript([qml.RY(0.3, 0)], [qml.expval(qml.Z(0))])
        >>> path = tempfile.mkdtemp() + "/run.db"
        >>> with Runner(qml.device("default.qubit"), shots=100, journal=path) as runner:
        ...     first = runner.run([tape])
        >>> with Runner(qml.device("default.qubit"), shots=100, journal=path) as runner:
        ...     again = runner.run([tape])  # from the journal
        >>> first == again, Journal(path).spent().circuits
        (True, 1)
    """

    def __init__(
        self,
        device: Any,
        *,
        shots: int | Sequence[int] | None = None,
        journal: Journal | str | os.PathLike | None = None,
        budget: Budget | None = None,
        retries: Retries | int | None = None,
        jobs: int = 1,
        circuits_per_job: int | None = None,
        deduplicate: bool = True,
        reuse: bool = False,
        in_doubt: str = "ask",
        check: Callable[..., None] | None = check_result,
        progress: bool = False,
        execute: Callable | None = None,
        recover: Callable | None = None,
        name: str | None = None,
    ):
        _check_options(jobs, circuits_per_job, in_doubt)
        self.link = Link(device, execute, recover, name)
        self.shots = Shots(shots)
        self.budget = budget or Budget()
        self.jobs = jobs
        self.circuits_per_job = circuits_per_job or _most_circuits(self.link.device)
        self.deduplicate, self.reuse = deduplicate, reuse
        self.in_doubt, self.progress = in_doubt, progress
        self.journal = journal if isinstance(journal, Journal) else Journal(journal or ":memory:")
        self._keeps = journal is not None
        self.journal.claim()
        self._submitter = Submitter(self.link, self.journal, self.budget, retries_of(retries), check)
        self._repetitions = Repetitions()
        self._planning = threading.Lock()
        self._claims: dict[Row, Future] = {}  # rows of jobs that this runner is executing

    def run(self, tapes: Sequence[QuantumScript]) -> list[Any]:
        """Results of circuits, in their order.

        Args:
            tapes: with numbers as parameters, which may be broadcast. Shots of a tape come before the
                runner's.

        Returns:
            For each tape what PennyLane's devices return: a result, or a tuple of them for several
            measurements (and of such tuples for several shots). NumPy numbers, arrays and dicts of counts.

        Raises:
            BudgetExceeded: the call would cost more than is left. Nothing was submitted, except where
                other threads spent the rest in the meantime or tries were needed.
            ExecutionFailed: circuits have no result. Those of others are in the journal; the same call
                again goes on from there.
            InDoubt: a run that was killed left submissions whose fate is unknown.
            UserError: a circuit has something that the journal cannot name.
        """
        call = self._call(tapes, self._repetitions.take)
        try:
            results = self._results(call.wanted)
        except BaseException:
            self._repetitions.give_back((row[:4], row.repetition) for row in set(call.rows))
            raise
        combined = call.prepared.combine([results[row] for row in call.rows])
        if not (self._keeps or self.reuse):
            self.journal.forget(call.wanted)
        return combined

    def estimates(self, calls: Sequence[Sequence[QuantumScript]]) -> list[Estimate]:
        """What several calls of `run` would cost, one after the other."""
        ahead: Counter[tuple] = Counter()
        before: set[Row] = set()

        def peek(key: tuple) -> int:
            ahead[key] += 1
            return self._repetitions.peek(key, ahead[key] - 1)

        return [self._estimate(tapes, peek, before) for tapes in calls]

    def _estimate(
        self, tapes: Sequence[QuantumScript], peek: Callable[[tuple], int], before: set[Row]
    ) -> Estimate:
        call = self._call(tapes, peek)
        entries = self.journal.entries(call.wanted)
        new = {row: e for row, e in _without(call.wanted, entries).items() if row not in before}
        before.update(new)
        jobs = pack(new, self.circuits_per_job)
        circuits, shots, submissions = cost_of(jobs)
        in_doubt = sum(entry.result is None for entry in entries.values())
        seconds = self.journal.seconds_per_job(self.link.name)
        return Estimate(
            tapes=len(tapes),
            circuits=len(call.rows),
            distinct=len(call.wanted),
            known=len(call.wanted) - circuits - in_doubt,
            in_doubt=in_doubt,
            submissions=submissions,
            cost=self.budget.cost(circuits, shots, submissions),
            left=self.budget.left(self.spent()),
            seconds=seconds and seconds * -(-submissions // self.jobs),
        )

    def spent(self) -> Spent:
        """What the runs of the journal have spent so far."""
        return self.journal.spent()

    def close(self) -> None:
        """Release the journal, so that another run may go on with it.

        Jobs that are still on their way after an interrupt are paid, so their results are waited for; a
        second interrupt ends the waiting.
        """
        try:
            with self._planning:
                outcomes = set(self._claims.values())
            wait(outcomes)
        finally:
            self.journal.close()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __deepcopy__(self, memo: dict) -> "Runner":
        return self  # copies of a layer count and pay together

    def __reduce__(self):
        raise UserError(
            f"{self!r}: expected to stay in its process, received a request to pickle it; make a Runner in "
            "the other process, there with a journal of its own."
        )

    def __repr__(self) -> str:
        return f"Runner({self.link.name}, shots={shots_text(self.shots)}, journal={self.journal.path!r})"

    # From tapes to rows

    def _call(self, tapes: Sequence[QuantumScript], repetition: Callable[[tuple], int]) -> Call:
        prepared = self.link.prepare(tapes, self.shots)
        rows, wanted, seen = [], {}, {}
        for circuit in prepared.circuits:
            identity = Identity(circuit.tape)
            key = (identity.circuit, identity.parameters, shots_text(circuit.tape.shots), self.link.name)
            if self.reuse:
                row = Row(*key, 0)
            elif self.deduplicate and key in seen:
                row = seen[key]
            else:
                row = seen[key] = Row(*key, repetition(key))
            rows.append(row)
            wanted[row] = Execution(circuit, identity.text)
        return Call(prepared, rows, wanted)

    # From rows to results

    def _results(self, wanted: dict[Row, Execution]) -> dict[Row, Any]:
        texts: dict[Row, str] = {}
        with bar(len(wanted), "circuits", show=self.progress) as advance:
            while missing := _without(wanted, texts):
                plan = self._plan(missing)
                texts |= plan.known
                advance(len(plan.known))
                self._settle(plan.jobs, advance)
                for job in plan.jobs:
                    texts |= job.results
                for row, future in plan.awaited.items():
                    with suppress(CancelledError):  # stopped by an interrupt: it is planned again
                        texts[row] = future.result()[row]
                        advance(1)
        return {row: decode(text) for row, text in texts.items()}

    def _plan(self, wanted: dict[Row, Execution]) -> Plan:
        with self._planning:
            awaited = {row: self._claims[row] for row in wanted if row in self._claims}
            open_rows = _without(wanted, awaited)
            entries = self.journal.entries(open_rows)
            known = {row: entry.result for row, entry in entries.items() if entry.result is not None}
            doubtful = {row: entry for row, entry in entries.items() if entry.result is None}
            new = _without(open_rows, entries)
            old = self._doubtful_jobs(doubtful, wanted)
            if not self.link.can_recover and old:
                new, old = self._resubmitted(old, new), []
            jobs = pack(new, self.circuits_per_job)
            self.budget.check(self.spent(), self.budget.cost(*cost_of(jobs)))
            for job in (*old, *jobs):
                self._claims.update(dict.fromkeys(job.pending, job.outcome))
            return Plan(known, awaited, [*old, *jobs])

    def _doubtful_jobs(self, doubtful: dict[Row, Entry], wanted: dict[Row, Execution]) -> list[Job]:
        """The jobs that a run left behind when it was killed."""
        places: dict[str, dict[Row, int]] = {}
        for row, entry in sorted(doubtful.items(), key=lambda item: item[1].place):
            places.setdefault(entry.job, {})[row] = entry.place
        return [
            Job({row: wanted[row] for row in rows}, id=job, places=rows, size=self.journal.size(job))
            for job, rows in places.items()
        ]

    def _resubmitted(self, old: list[Job], new: dict[Row, Execution]) -> dict[Row, Execution]:
        """What is to be executed where nobody knows what became of old jobs."""
        if self.in_doubt == "ask":
            raise InDoubt(_question(old, self.link.name, self.journal.path))
        for job in old:
            assert job.id is not None
            self.journal.abandon(job.id, "lost", "in doubt after a run that ended too early; submitted again")
            new = {**job.pending, **new}
        return new

    def _settle(self, jobs: list[Job], advance: Callable[[int], None]) -> None:
        if self.jobs == 1 or len(jobs) < 2:
            try:
                for job in jobs:
                    advance(len(self._work(job, threading.Event())))
            finally:
                for job in jobs:
                    self._release(job)
            return
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.jobs, thread_name_prefix="qlayers-job")
        futures = []
        for job in jobs:
            futures.append(pool.submit(self._work, job, stop))
            futures[-1].add_done_callback(lambda _, job=job: self._release(job))  # also when it is cancelled
        try:
            for future in as_completed(futures):
                advance(len(future.result()))
        except BaseException as error:
            stop.set()
            # After an error, jobs on their way are paid: their results are waited for. After an interrupt
            # they still arrive in the journal if the program goes on, and are asked for later if it ends.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()

    def _work(self, job: Job, stop: threading.Event) -> dict[Row, str]:
        if stop.is_set():
            raise CancelledError
        try:
            results = self._submitter.settle(job, stop)
        except Exception as error:
            job.outcome.set_exception(error)
            raise
        job.outcome.set_result(results)
        return results

    def _release(self, job: Job) -> None:
        """The rows of a job that ended, or never began, are open again."""
        with self._planning:
            for row in (*job.results, *job.pending):
                self._claims.pop(row, None)
        job.outcome.cancel()


def _without(rows: dict[Row, Any], others: dict[Row, Any]) -> dict[Row, Any]:
    return {row: value for row, value in rows.items() if row not in others}


def _most_circuits(device: Device) -> int | None:
    backend = getattr(getattr(device, "target_device", device), "backend", None)
    most = getattr(backend, "max_circuits", None)
    return most if isinstance(most, int) and most > 0 else None


def _question(jobs: list[Job], device: str, path: str) -> str:
    count = sum(len(job.pending) for job in jobs)
    row, execution = next(iter(jobs[0].pending.items()))
    names = ", ".join(str(job.id) for job in jobs[:3]) + (", ..." if len(jobs) > 3 else "")
    return (
        f"Journal {path}: expected results of {count} circuits submitted to {device} as job {names}, "
        f"received none before that run ended; the first is {row.circuit[:8]} "
        f"({description(execution.circuit.tape)}), repetition {row.repetition}. The device cannot be asked "
        "for them: give Runner the hooks execute and recover, or look there yourself and then use "
        'in_doubt="again", which submits them again and may pay twice.'
    )


def _check_options(jobs: int, circuits_per_job: int | None, in_doubt: str) -> None:
    if jobs < 1 or (circuits_per_job is not None and circuits_per_job < 1):
        raise UserError(
            "Runner: expected jobs and circuits_per_job of 1 or more, received "
            f"jobs={jobs}, circuits_per_job={circuits_per_job}; leave them out for the defaults."
        )
    if in_doubt not in IN_DOUBT:
        raise UserError(f"Runner: expected in_doubt to be one of {IN_DOUBT}, received {in_doubt!r}.")
