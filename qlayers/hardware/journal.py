"""A file that knows every circuit that was submitted, and the result of each that came back.

SQLite in WAL mode, every commit synced to the disk. A submission is written before it leaves, under an id of
ours; its results are written before they are used. So whatever moment a run is killed at, the journal says
which circuits were never submitted, which have results, and which were on their way.

Any program may read a journal while a run writes to it. One run writes at a time: it holds a lock that the
operating system releases when the process ends, however it ends.

Tables: `executions` has a row for each circuit, parameters, shots, device and repetition; `jobs` one for each
submission, also failed ones; `circuits` the text of each structure; `spent` the sum of what was submitted.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import NamedTuple

from qlayers.hardware.budget import Budget, Spent
from qlayers.hardware.errors import JournalInUse
from shared.errors import UserError

FORMAT = "1"
PATIENCE = 30.0  # seconds to wait for another process's transaction
SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE circuits (circuit TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE jobs (
    job TEXT PRIMARY KEY,      -- the id that the device is told
    device TEXT NOT NULL,
    state TEXT NOT NULL,       -- submitted, done; failed, lost, refused, withdrawn: see `Journal.abandon`
    circuits INTEGER NOT NULL, shots INTEGER NOT NULL, money TEXT NOT NULL,
    submitted REAL NOT NULL,   -- seconds since 1970
    ended REAL,
    note TEXT                  -- the error, if there was one
);
CREATE TABLE executions (
    circuit TEXT, parameters TEXT, shots TEXT, device TEXT, repetition INTEGER,
    job TEXT NOT NULL, place INTEGER NOT NULL,  -- which of the job's circuits it is
    result TEXT,                                -- JSON, NULL until it came back
    PRIMARY KEY (circuit, parameters, shots, device, repetition)
) WITHOUT ROWID;
CREATE INDEX executions_of_job ON executions (job);
CREATE TABLE spent (circuits INTEGER NOT NULL, shots INTEGER NOT NULL, money TEXT NOT NULL);
INSERT INTO spent VALUES (0, 0, '0');
"""
_OF_ROW = "circuit = ? AND parameters = ? AND shots = ? AND device = ? AND repetition = ?"


class Row(NamedTuple):
    """What names an execution."""

    circuit: str
    parameters: str
    shots: str
    device: str
    repetition: int


class Entry(NamedTuple):
    """What the journal knows about a row: the result is None until it came back."""

    job: str
    place: int
    result: str | None


class Journal:
    """The file of a run's submissions and results.

    Args:
        path: the file; it is made if it does not exist. ":memory:" keeps everything in memory.

    Raises:
        UserError: the file is something else than a journal, or one of another version.

    Example:
        >>> journal = Journal(":memory:")
        >>> row = Row("c0ffee", "decade", "100", "device", 0)
        >>> journal.submit("job", {row: "{}"}, Budget().cost(1, 100), Budget())
        >>> journal.entries([row])[row]
        Entry(job='job', place=0, result=None)
        >>> journal.finish("job", {row: "0.5"})
        >>> journal.entries([row])[row].result, journal.spent().shots
        ('0.5', 100)
    """

    def __init__(self, path: str | os.PathLike = ":memory:"):
        self.path = os.fspath(path)
        self._lock = threading.RLock()  # one connection serves all threads
        self._claim: sqlite3.Connection | None = None
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=PATIENCE, check_same_thread=False, isolation_level=None
            )
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"Journal: expected {self.path} to be new or a journal, received a path that SQLite cannot "
                f"use ({error}); give another path, in a folder that exists."
            ) from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction() as run:
            tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                for statement in SCHEMA.split(";\n"):
                    run(statement)
                run("INSERT INTO about VALUES ('format', ?)", FORMAT)
            found = self._about("format") if not tables or "about" in tables else None
        if found != FORMAT:
            raise UserError(
                f"Journal: expected {self.path} to be a journal of format {FORMAT}, received "
                f"{'another database' if found is None else f'format {found}'}; give another path."
            )

    # Who writes

    def claim(self) -> None:
        """Become the one that writes, until `close`.

        Raises:
            JournalInUse: another run does.
        """
        if self._claim is not None or self.path == ":memory:":
            return
        # The lock of a database of its own: portable, and released by the system when the process ends.
        claim = sqlite3.connect(f"{self.path}.lock", timeout=0, check_same_thread=False, isolation_level=None)
        try:
            claim.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            claim.close()
            raise JournalInUse(
                f"Journal {self.path}: expected no other run to write to it, received one by "
                f"{self._about('holder')}; wait for it or end it (runner.close() in a notebook), "
                "or give this run its own journal."
            ) from error
        self._claim = claim
        with self._transaction() as run:
            holder = f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            run("INSERT OR REPLACE INTO about VALUES ('holder', ?)", holder)

    def close(self) -> None:
        """Let others write. The journal cannot be used afterwards."""
        with self._lock:
            self._connection.close()
            if self._claim is not None:
                self._claim.close()
                self._claim = None

    def __del__(self):
        if hasattr(self, "_connection"):
            self.close()

    # What is known

    def entries(self, rows: Iterable[Row]) -> dict[Row, Entry]:
        """What is known about each row; rows that were never submitted are left out."""
        question = f"SELECT job, place, result FROM executions WHERE {_OF_ROW}"
        with self._lock:
            found = ((row, self._connection.execute(question, row).fetchone()) for row in rows)
            return {row: Entry(*entry) for row, entry in found if entry is not None}

    def size(self, job: str) -> int:
        """How many circuits a job has."""
        with self._lock:
            return self._connection.execute("SELECT circuits FROM jobs WHERE job = ?", (job,)).fetchone()[0]

    def spent(self) -> Spent:
        """What was submitted by all runs of this journal."""
        with self._lock:
            circuits, shots, money = self._connection.execute("SELECT * FROM spent").fetchone()
        return Spent(circuits, shots, Decimal(money))

    def seconds_per_job(self, device: str) -> float | None:
        """How long a submission to a device takes on average, None if none has come back."""
        question = "SELECT avg(ended - submitted) FROM jobs WHERE device = ? AND state = 'done'"
        with self._lock:
            return self._connection.execute(question, (device,)).fetchone()[0]

    # What happens

    def submit(self, job: str, rows: Mapping[Row, str], cost: Spent, budget: Budget) -> None:
        """Write a submission down before it leaves, if the budget allows it.

        Args:
            job: its id, which no other job has.
            rows: its rows in order, with the texts of their circuits. All are of one device.
            cost: what it costs.
            budget: what may be spent by all that the journal knows.

        Raises:
            BudgetExceeded: it would cost more than is left; nothing is written.
        """
        device = next(iter(rows)).device
        with self._transaction() as run:
            self._add(run, cost, budget)
            details = (cost.circuits, cost.shots, str(cost.money), time.time())
            run("INSERT INTO jobs VALUES (?, ?, 'submitted', ?, ?, ?, ?, NULL, NULL)", job, device, *details)
            for place, (row, text) in enumerate(rows.items()):
                run("INSERT OR IGNORE INTO circuits VALUES (?, ?)", row.circuit, text)
                run("INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", *row, job, place)

    def finish(self, job: str, results: Mapping[Row, str]) -> None:
        """Write results of a job down; it is done when all of its circuits have one."""
        with self._transaction() as run:
            for row, result in results.items():
                run(f"UPDATE executions SET result = ? WHERE {_OF_ROW}", result, *row)
            run(
                "UPDATE jobs SET state = 'done', ended = ? WHERE job = ? AND NOT EXISTS "
                "(SELECT 1 FROM executions WHERE executions.job = jobs.job AND result IS NULL)",
                time.time(),
                job,
            )

    def abandon(self, job: str, state: str, note: str) -> None:
        """Give up a job: its circuits without results may be submitted again, as another job.

        Args:
            job: its id.
            state: "failed", the device said so; "lost", there was an error and the device cannot be asked;
                "refused", its results were impossible; "withdrawn", the device never received it: it is then
                taken out of what was spent.
            note: why.
        """
        with self._transaction() as run:
            run("DELETE FROM executions WHERE job = ? AND result IS NULL", job)
            run("UPDATE jobs SET state = ?, note = ?, ended = ? WHERE job = ?", state, note, time.time(), job)
            if state == "withdrawn":
                details = run("SELECT circuits, shots, money FROM jobs WHERE job = ?", job).fetchone()
                cost = Spent(details[0], details[1], Decimal(details[2]))
                self._add(run, Spent() - cost, Budget())

    def forget(self, rows: Iterable[Row]) -> None:
        """Drop rows that are no longer needed: what was spent stays."""
        with self._transaction() as run:
            for row in rows:
                run(f"DELETE FROM executions WHERE {_OF_ROW}", *row)

    def _add(self, run, cost: Spent, budget: Budget) -> None:
        spent = self.spent()
        budget.check(spent, cost)
        total = spent + cost
        run("UPDATE spent SET circuits = ?, shots = ?, money = ?", *total[:2], str(total.money))

    def _about(self, key: str) -> str | None:
        found = self._connection.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return found and found[0]

    @contextmanager
    def _transaction(self) -> Iterator:
        """All or nothing, also when the block is interrupted; gives the function that runs a statement."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda statement, *values: self._connection.execute(statement, values)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
