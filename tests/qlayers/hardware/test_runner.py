"""The runner against a device that fails: what is executed, retried, spent and refused."""

import _thread
import copy
import itertools
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
from faulty import Faulty, Plain

from qlayers.hardware import (
    NOT_RECEIVED,
    TRANSIENT,
    Budget,
    BudgetExceeded,
    ErrorKinds,
    ExecutionFailed,
    HardwareError,
    InDoubt,
    Journal,
    JournalInUse,
    Retries,
    Runner,
)
from shared.errors import UserError

QUICK = Retries(first_wait=0.0, jitter=0.0, tries=4)
GARBAGE = ("nan", "short", "range", "text", "nested")


def tape(x: float = 0.3, shots=None):
    return qml.tape.QuantumScript([qml.RX(x, 0)], [qml.expval(qml.Z(0))], shots=shots)


def tapes(count: int, shots=None) -> list:
    return [tape(0.1 * i, shots) for i in range(count)]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "record"


def states(runner: Runner) -> list[str]:
    return [state for (state,) in runner.journal._connection.execute("SELECT state FROM jobs ORDER BY rowid")]


# Order, packing, deduplication


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("most", [None, 1, 3])
def test_results_come_in_order(record: Path, jobs: int, most: int | None) -> None:
    device = Faulty(record)
    with Runner(device, jobs=jobs, circuits_per_job=most) as runner:
        results = runner.run(tapes(10))
    np.testing.assert_allclose(results, np.cos(0.1 * np.arange(10)), atol=1e-12)
    assert sorted(device.submissions) == {None: [10], 1: [1] * 10, 3: [1, 3, 3, 3]}[most]


def test_circuits_of_equal_shots_go_together(record: Path) -> None:
    device = Faulty(record)
    with Runner(device, shots=10) as runner:
        runner.run([tape(0.1), tape(0.2, shots=20), tape(0.3), tape(0.4, shots=20)])
    assert device.submissions == [2, 2]
    assert [shots for *_, shots in device.service.executions()] == ["10", "10", "20", "20"]


@pytest.mark.parametrize("deduplicate", [True, False])
def test_equal_circuits_are_executed_once(record: Path, deduplicate: bool) -> None:
    same = qml.tape.QuantumScript([qml.RX(np.array(0.3), wires=[0])], [qml.expval(qml.PauliZ(0))])
    with Runner(Faulty(record), shots=100, deduplicate=deduplicate) as runner:
        estimate = runner.estimate([tape(), same, tape(0.4)])
        first, second, _ = runner.run([tape(), same, tape(0.4)])
        assert bool(first == second) is deduplicate
        assert runner.spent() == estimate.cost == (3 - deduplicate, 100 * (3 - deduplicate), 0)


def test_broadcast_tapes_are_one_circuit_for_each_sample(record: Path) -> None:
    angles = np.array([0.1, 0.2, 0.1])
    with Runner(Faulty(record)) as runner:
        (result,) = runner.run([tape(angles)])
        np.testing.assert_allclose(result, np.cos(angles))
        assert runner.spent().circuits == 2


def test_no_tapes_cost_nothing(record: Path) -> None:
    with Runner(Faulty(record), budget=Budget(circuits=0, price_per_job=1)) as runner:
        assert runner.run([]) == []
        assert runner.estimate([]).cost == (0, 0, 0)


# Repetitions and replay


def test_a_second_runner_replays_repetitions_and_goes_on(record: Path, tmp_path: Path) -> None:
    options = {"shots": 50, "journal": tmp_path / "run.db"}
    with Runner(Faulty(record), **options) as runner:
        first = [runner.run(tapes(2)) for _ in range(3)]
    device = Faulty(record)
    with Runner(device, **options) as runner:
        assert runner.estimate(tapes(2)).known == 2
        again = [runner.run(tapes(2)) for _ in range(3)]
        assert device.submissions == []
        runner.run(tapes(2))
        assert device.submissions == [2]
    assert again == first
    assert len({values[1] for values in first}) > 1  # repetitions have noise of their own


def test_reuse_serves_all_repetitions(record: Path) -> None:
    with Runner(Faulty(record), shots=50, reuse=True) as runner:
        results = [runner.run(tapes(2)) for _ in range(3)]
        assert runner.spent().circuits == 2
    assert results[0] == results[1] == results[2]


def test_without_a_journal_nothing_is_kept(record: Path) -> None:
    with Runner(Faulty(record)) as runner:
        for _ in range(3):
            runner.run(tapes(4))
        assert runner.journal._connection.execute("SELECT count(*) FROM executions").fetchone() == (0,)
        assert runner.spent().circuits == 12


# Errors


@pytest.mark.parametrize("fault", ["time-out before", "time-out after", "refused", "failed", *GARBAGE])
@pytest.mark.parametrize("kind", [Plain, Faulty])
def test_transient_errors_are_tried_again(record: Path, kind: type, fault: str) -> None:
    device = kind(record, faults=[fault] * 2)
    with Runner(device, retries=QUICK) as runner:
        np.testing.assert_allclose(runner.run(tapes(3)), np.cos([0, 0.1, 0.2]), atol=1e-12)
        executed, spent = len(device.service.executions()), runner.spent().circuits
    assert executed <= spent <= 9
    if kind is Faulty and fault not in {"failed"}:
        assert spent == executed == 3  # what it executed, it hands out


@pytest.mark.parametrize("fault", GARBAGE)
def test_garbage_that_the_service_keeps_is_executed_again(record: Path, fault: str) -> None:
    device = Faulty(record, faults=[fault], recover_faults=[fault])
    with Runner(device, retries=QUICK) as runner:
        np.testing.assert_allclose(runner.run(tapes(3)), np.cos([0, 0.1, 0.2]), atol=1e-12)
        assert runner.spent().circuits == 6
        assert states(runner) == ["refused", "done"]


def test_good_results_of_a_job_are_kept_when_others_are_garbage(record: Path) -> None:
    device = Plain(record)
    honest, calls = device.execute, itertools.count()

    def one_bad(circuits, config=None):
        results = honest(circuits)
        return (results[0], np.nan, *results[2:]) if next(calls) == 0 else results

    device.execute = one_bad
    with Runner(device, retries=QUICK) as runner:
        np.testing.assert_allclose(runner.run(tapes(4)), np.cos(0.1 * np.arange(4)), atol=1e-12)
        assert device.submissions == [4, 1]
        assert runner.spent().circuits == 5


@pytest.mark.parametrize("kind", [Plain, Faulty])
def test_a_permanent_error_stops_at_once(record: Path, kind: type) -> None:
    device = kind(record, faults=["broken"])
    with Runner(device, retries=QUICK, name="chip 7") as runner:
        with pytest.raises(ExecutionFailed, match=r"RX on wires \[0\].*1 more.*chip 7.*after 1 try.*unknown"):
            runner.run(tapes(2))
        assert device.submissions == [2]
        np.testing.assert_allclose(runner.run(tapes(2)), np.cos([0, 0.1]), atol=1e-12)


@pytest.mark.parametrize("kind", [Plain, Faulty])
def test_the_last_try_raises_and_the_next_call_goes_on(record: Path, kind: type) -> None:
    device = kind(record, faults=["time-out after", *["time-out before"] * 3])
    if kind is Faulty:
        device._recover_faults = iter(["time-out before"] * 3)
    with Runner(device, retries=QUICK) as runner:
        with pytest.raises(ExecutionFailed, match="after 4 tries TimeoutError: no answer"):
            runner.run(tapes(2))
        np.testing.assert_allclose(runner.run(tapes(2)), np.cos([0, 0.1]), atol=1e-12)
        assert (runner.spent().circuits == 2) is (kind is Faulty)


def test_a_refused_question_refunds_nothing(record: Path) -> None:
    device = Faulty(record, faults=["time-out after"], recover_faults=["refused"])
    with Runner(device, retries=QUICK) as runner:
        runner.run(tapes(2))
        assert runner.spent().circuits == len(device.service.executions()) == 2


def test_a_refused_connection_costs_nothing(record: Path) -> None:
    with Runner(Plain(record, faults=["refused"] * 2), retries=QUICK, budget=Budget(circuits=2)) as runner:
        runner.run(tapes(2))
        assert runner.spent().circuits == 2
        assert states(runner) == ["withdrawn", "withdrawn", "done"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_before_an_error_are_not_paid_again(record: Path, jobs: int) -> None:
    device = Faulty(record, faults=["", "broken"])
    with Runner(device, retries=QUICK, circuits_per_job=1, jobs=jobs) as runner:
        with pytest.raises(ExecutionFailed):
            runner.run(tapes(6))
        runner.run(tapes(6))
    assert len(device.service.executions()) == 6


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_leaves_the_journal_consistent(record: Path, tmp_path: Path, jobs: int) -> None:
    def interrupt(name: str) -> None:
        if name == "executed" and len(device.submissions) == 2:
            raise KeyboardInterrupt

    device = Faulty(record, moment=interrupt)
    options = {"journal": tmp_path / "run.db", "circuits_per_job": 2, "jobs": jobs}
    with Runner(device, **options) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(tapes(6))
        again = runner.run(tapes(6))
    np.testing.assert_allclose(again, np.cos(0.1 * np.arange(6)), atol=1e-12)
    assert len(device.service.executions()) == 6


def test_after_an_interrupt_results_on_their_way_are_waited_for(record: Path, tmp_path: Path) -> None:
    """They are paid, and this device cannot be asked for them later."""
    count = itertools.count()

    def interrupt(name: str) -> None:
        if name == "executed":
            if next(count) == 1:
                _thread.interrupt_main()
            time.sleep(0.1)

    device = Plain(record, moment=interrupt)
    with (
        pytest.raises(KeyboardInterrupt),
        Runner(device, journal=tmp_path / "run.db", circuits_per_job=1, jobs=2) as runner,
    ):
        runner.run(tapes(8))
    with Runner(Plain(record), journal=tmp_path / "run.db") as runner:
        estimate = runner.estimate(tapes(8))
        assert (estimate.in_doubt, estimate.known) == (0, len(device.service.executions()))
        assert 2 <= estimate.known < 8


def test_copies_share_a_runner_and_pickles_are_refused(record: Path) -> None:
    with Runner(Faulty(record)) as runner:
        assert copy.deepcopy({"runner": runner})["runner"] is runner
        with pytest.raises(UserError, match="to stay in its process"):
            pickle.dumps(runner)


# Submissions of a run that was killed


def left_behind(record: Path, path: Path, kind: type = Faulty, executed: bool = True) -> None:
    """Leave a journal as a run that is killed leaves it."""

    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name == ("executed" if executed else "submitted"):
            raise Killed

    with Runner(kind(record, moment=kill), journal=path) as runner, pytest.raises(Killed):
        runner.run(tapes(3))


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_jobs_on_their_way_are_asked_for(record: Path, tmp_path: Path, executed: bool, count: int) -> None:
    left_behind(record, tmp_path / "run.db", executed=executed)
    with Runner(Faulty(record), journal=tmp_path / "run.db") as runner:
        assert runner.estimate(tapes(count)).in_doubt == min(count, 3)
        np.testing.assert_allclose(runner.run(tapes(count)), np.cos(0.1 * np.arange(count)), atol=1e-12)
        executions = runner.link.device.service.executions()
        assert len(executions) == len(set(executions)) == runner.spent().circuits


def test_a_job_that_failed_meanwhile_is_submitted_anew(record: Path, tmp_path: Path) -> None:
    left_behind(record, tmp_path / "run.db", executed=False)
    with Runner(
        Faulty(record, recover_faults=["failed"]), journal=tmp_path / "run.db", retries=QUICK
    ) as runner:
        runner.run(tapes(3))
        assert states(runner) == ["failed", "done"]


def test_doubt_without_hooks_is_the_users_to_decide(record: Path, tmp_path: Path) -> None:
    left_behind(record, tmp_path / "run.db", Plain)
    with Runner(Plain(record), journal=tmp_path / "run.db") as runner:
        with pytest.raises(InDoubt, match=r"3 circuits submitted to .*RX on wires \[0\].*in_doubt=\"again\""):
            runner.run(tapes(3))
        assert runner.link.device.submissions == []
    with Runner(Plain(record), journal=tmp_path / "run.db", in_doubt="again") as runner:
        np.testing.assert_allclose(runner.run(tapes(3)), np.cos(0.1 * np.arange(3)), atol=1e-12)
        assert runner.spent().circuits == 6
        assert states(runner) == ["lost", "done"]


# Budget


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("limit", [{"circuits": 5}, {"shots": 59}, {"money": 0.5}])
def test_a_call_beyond_the_budget_submits_nothing(record: Path, jobs: int, limit: dict) -> None:
    budget = Budget(**limit, price_per_circuit=0.05, price_per_shot=0.005)
    device = Faulty(record)
    with Runner(device, shots=10, budget=budget, jobs=jobs, circuits_per_job=1) as runner:
        runner.run(tapes(4))
        assert not runner.estimate(tapes(4)).fits
        with pytest.raises(BudgetExceeded, match=r"4 circuits with 40 shots would cost 0\.400; left are"):
            runner.run(tapes(4))
        assert len(device.submissions) == 4
        assert runner.spent() == (4, 40, Decimal("0.4"))
        runner.run(tapes(1))


def test_tries_count_in_the_budget(record: Path) -> None:
    device = Plain(record, faults=["time-out after"] * 9)
    with (
        Runner(device, budget=Budget(circuits=5), retries=Retries(tries=9, first_wait=0, jitter=0)) as runner,
        pytest.raises(BudgetExceeded),
    ):
        runner.run(tapes(2))
    assert device.submissions == [2, 2]


def test_the_budget_is_that_of_all_runs_of_a_journal(record: Path, tmp_path: Path) -> None:
    options = {"journal": tmp_path / "run.db", "budget": Budget(circuits=5)}
    with Runner(Faulty(record), **options) as runner:
        runner.run(tapes(3))
    with Runner(Faulty(record), **options) as runner:
        runner.run(tapes(3))  # from the journal
        with pytest.raises(BudgetExceeded, match="left are 2 of 5 circuits"):
            runner.run(tapes(3))
    with Runner(Faulty(record), journal=tmp_path / "run.db", budget=Budget(circuits=1)) as runner:
        assert runner.estimate(tapes(3)).fits  # a lower limit does not keep from what is paid
        runner.run(tapes(3))
        assert not runner.estimate(tapes(1)).fits


@pytest.mark.parametrize("kind", [Plain, Faulty])
def test_threads_never_submit_one_circuit_too_many(record: Path, kind: type) -> None:
    faults = ["time-out after", "", "time-out before", "nan", "refused"] * 9
    device = kind(record, faults=faults)
    budget, outcomes = Budget(circuits=20), []
    with Runner(device, budget=budget, jobs=2, circuits_per_job=1, retries=QUICK) as runner:

        def work(start: int) -> None:
            for i in range(start, start + 5):
                try:
                    runner.run([tape(i), tape(i + 0.5)])
                except HardwareError as error:
                    outcomes.append(type(error))

        threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(device.service.executions()) <= runner.spent().circuits <= 20
    assert BudgetExceeded in outcomes


@pytest.mark.parametrize("limits", [{"circuits": -1}, {"price_per_shot": -0.1}, {"money": float("nan")}])
def test_a_negative_budget_is_refused(limits: dict) -> None:
    with pytest.raises(UserError, match=r"expected \w+ to be 0 or more"):
        Budget(**limits)


# Threads that want the same


def test_two_threads_with_reuse_execute_once(record: Path) -> None:
    gate = threading.Barrier(2, timeout=10)
    device = Faulty(record)
    with Runner(device, shots=20, reuse=True) as runner:
        results = []

        def work() -> None:
            gate.wait()
            results.append(runner.run(tapes(5)))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results[0] == results[1]
    assert len(device.service.executions()) == 5


# The journal


def test_two_runs_cannot_write_to_one_journal(record: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with Runner(Faulty(record), journal=path) as runner:
        runner.run(tapes(1))
        with pytest.raises(JournalInUse, match=r"received one by process \d+ since"):
            Runner(Faulty(record), journal=path)
        source = (
            "import sys, pennylane as qml\n"
            "from qlayers.hardware import Journal, JournalInUse, Runner\n"
            "print(Journal(sys.argv[1]).spent().circuits)\n"  # reading is allowed
            "try:\n    Runner(qml.device('default.qubit'), journal=sys.argv[1])\n"
            "except JournalInUse:\n    print('in use')\n"
        )
        other = subprocess.run(
            [sys.executable, "-c", source, str(path)], capture_output=True, text=True, check=True
        )
        assert other.stdout.split("\n")[:2] == ["1", "in use"]
    Runner(Faulty(record), journal=path).close()


@pytest.mark.parametrize("content", ["other", "text", "newer"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    if content == "text":
        path.write_text("wires 0 1\n" * 200)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE about (key, value)")
        if content == "newer":
            connection.execute("INSERT INTO about VALUES ('format', '99')")
        connection.commit()
        connection.close()
    before = path.read_bytes()[100:]
    with pytest.raises(UserError, match="Journal: expected"):
        Journal(path)
    assert path.read_bytes()[100:] == before


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in a folder that exists"):
        Journal(tmp_path / "missing" / "run.db")


def test_results_are_in_the_journal_before_they_are_used(record: Path, tmp_path: Path) -> None:
    """A program that reads the file while the caller gets the results finds them there."""
    with Runner(Faulty(record), journal=tmp_path / "run.db") as runner:
        runner.run(tapes(2))
        reader = sqlite3.connect(tmp_path / "run.db")
        assert reader.execute("SELECT count(result) FROM executions").fetchone() == (2,)
        assert reader.execute("SELECT count(*) FROM circuits").fetchone() == (1,)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        reader.close()


# Kinds of errors


class ClientError(Exception):
    """As boto makes them."""

    def __init__(self, status: int, code: str):
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


class RequestsApiError(Exception):
    """As IBM's service makes them."""

    def __init__(self, status: int):
        super().__init__(f"server error {status}")
        self.status_code = status


def caused(error: Exception) -> Exception:
    try:
        raise RuntimeError("the plugin's") from error
    except RuntimeError as found:
        return found


@pytest.mark.parametrize(
    ("error", "transient", "not_received"),
    [
        (ClientError(429, "ThrottlingException"), True, True),
        (ClientError(400, "ThrottlingException"), True, True),
        (ClientError(500, "InternalServiceException"), True, False),
        (ClientError(400, "ValidationException"), False, False),
        (ClientError(402, "ServiceQuotaExceededException"), False, False),
        (RequestsApiError(503), True, False),
        (RequestsApiError(401), False, False),
        (caused(RequestsApiError(429)), True, True),
        (caused(ConnectionRefusedError()), True, True),
        (TimeoutError(), True, False),
        (ValueError("unknown gate"), False, False),
    ],
    ids=str,
)
def test_kinds_of_errors(error: Exception, transient: bool, not_received: bool) -> None:
    assert (TRANSIENT(error), NOT_RECEIVED(error)) == (transient, not_received)


def test_own_kinds_of_errors(record: Path) -> None:
    class Offline(qml.devices.DefaultQubit):
        tries = 0

        def execute(self, *args, **options):
            self.tries += 1
            if self.tries < 3:
                raise ClientError(424, "DeviceOfflineException")
            return super().execute(*args, **options)

    with pytest.raises(ExecutionFailed, match="after 1 try ClientError"):
        Runner(Offline(), retries=QUICK).run([tape()])
    patient = TRANSIENT | ErrorKinds(codes={"DeviceOfflineException"})
    device = Offline()
    with Runner(device, retries=replace(QUICK, transient=patient)) as runner:
        np.testing.assert_allclose(runner.run([tape()]), np.cos(0.3))
    assert device.tries == 3


# Arguments, and what is shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs and circuits_per_job of 1 or more"),
        ({"circuits_per_job": 0}, "jobs and circuits_per_job of 1 or more"),
        ({"in_doubt": "perhaps"}, "in_doubt to be one of"),
        ({"retries": 0}, "1 try or more"),
        ({"recover": print}, "both hooks"),
    ],
)
def test_wrong_options_are_refused(record: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Runner(Plain(record), **options)


def test_something_else_than_a_device_is_refused() -> None:
    with pytest.raises(UserError, match="expected a PennyLane device, received str"):
        Runner("default.qubit")


def test_hooks_may_be_given(record: Path) -> None:
    far, device = Faulty(record, faults=["time-out after"]), qml.device("default.qubit")
    with Runner(device, execute=far.execute_job, recover=far.recover, retries=QUICK) as runner:
        runner.run(tapes(2))
        assert len(far.service.executions()) == 2


def test_the_bar_is_shown_on_request(record: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    for progress in (False, True):
        with Runner(Faulty(record), progress=progress) as runner:
            runner.run(tapes(2))
        assert bool(capsys.readouterr().err.strip()) is progress


def test_the_estimate_prints_as_a_table(record: Path) -> None:
    budget = Budget(circuits=10, price_per_circuit=0.3)
    with Runner(Faulty(record), shots=100, budget=budget, circuits_per_job=2) as runner:
        runner.run(tapes(1))
        text = str(runner.estimate([*tapes(3), tape(0.1)]))
    assert [line.split() for line in text.splitlines() if not line.startswith("seconds")] == [
        ["tapes", "4"],
        ["circuits", "4"],
        ["distinct", "3"],
        ["in", "the", "journal", "0"],
        ["to", "be", "submitted", "3"],
        ["submissions", "2"],
        ["shots", "300"],
        ["money", "0.9"],
        ["left", "of", "circuits", "9"],
    ]
