"""The benchmark's own promises: no time without agreement, workers that answer, results in their place."""

import copy
import doctest
from pathlib import Path
from types import SimpleNamespace

import pennylane as qml
import pytest
import torch

ROOT = Path(__file__).parent.parent
MODULES = (
    "alone",
    "circuits",
    "compare",
    "field",
    "pennylane_circuit",
    "protocol",
    "record",
    "systems",
    "tables",
)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    for folder in ("benchmarks/workers", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return SimpleNamespace(**{name: __import__(name) for name in MODULES})


@pytest.mark.thorough
def test_our_worker_answers_and_is_timed(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.compare, "BURST_SECONDS", 0.0)
    case = bench.circuits.Case("strong", 2, 1, 3)
    with bench.systems.Process(bench.field.OURS, threads=2) as ours:
        assert set(ours.ask("versions", packages=["torch"])) == {"python", "torch"}
        timing = bench.compare.measure([ours], case, rounds=2)[bench.field.OURS.key]
        assert len(timing.steps) == 2
        assert min(timing.first, *timing.steps) > 0
        assert timing.error == 0
        with pytest.raises(bench.systems.StoppedError, match="prepare failed: KeyError"):
            ours.ask("prepare", case={})
        ours.ask("prepare", case=bench.circuits.content(case))
        assert ours.ask("operations")["operations"] > 0
        assert ours.ask("step_memory", case=bench.circuits.content(case))["seconds"] > 0


@pytest.mark.thorough
def test_forward_alone_leaves_the_gradients_out(bench: SimpleNamespace) -> None:
    case = bench.circuits.Case("tfim", 3, 2, 1, forward=True)
    with bench.systems.Process(bench.field.OURS, threads=2) as ours:
        answer = ours.ask("prepare", case=bench.circuits.content(case))
    assert set(answer) == {"seconds", "memory", "outputs"}


@pytest.mark.parametrize("what", ["outputs", "inputs", "weights"])
@pytest.mark.parametrize("wrong", [float("nan"), 1.001])
def test_disagreement_stops_the_benchmark(bench: SimpleNamespace, what: str, wrong: float) -> None:
    check, error = bench.compare.check_agreement, bench.compare.DisagreementError
    ours = {"outputs": [[1.0, 0.5]], "inputs": [[1.0, 0.5]], "weights": [1.0, 0.5]}
    assert check("peer", ours, ours) == 0
    theirs = copy.deepcopy(ours)
    row = theirs[what] if what == "weights" else theirs[what][0]
    row[0] = wrong
    with pytest.raises(error, match=f"peer disagrees: {what}"):
        check("peer", theirs, ours)
    del row[0]
    with pytest.raises(error, match="1 entries, expected 2"):
        check("peer", theirs, ours)


def test_every_peer_has_its_files(bench: SimpleNamespace) -> None:
    for system in (bench.field.OURS, *bench.field.PEERS):
        assert (ROOT / "benchmarks" / "workers" / system.worker).is_file()
        assert system.environment is None or (ROOT / f"benchmarks/peers/{system.environment}.txt").is_file()


def test_every_absence_is_of_a_peer_and_a_case_that_exist(bench: SimpleNamespace) -> None:
    keys = {peer.key for peer in bench.field.PEERS}
    cases = set(map(str, bench.field.CASES))
    assert keys >= bench.field.PYTORCH | {bench.field.TENSORCIRCUIT}
    assert all(key in keys and case in cases for key, case in bench.field.ABSENT)


def test_a_slow_rule_is_known_in_advance(bench: SimpleNamespace) -> None:
    case = bench.circuits.Case("strong", 4, 2, 256)
    assert bench.field.shifted_circuits(case) == 2 * (4 + 2 * 4 * 3) * 256 * 4
    assert "57,344 circuits" in bench.field.absence("qiskit", case)
    assert bench.field.absence("qulacs", case)
    assert bench.field.absence("deepquantum", case) is None


def test_cases_are_named_by_their_text(bench: SimpleNamespace) -> None:
    for case in bench.field.CASES:
        assert bench.circuits.Case.parse(str(case)) == case
    for text in ("", "strong", "2,3", "a,2,3", "0,1,1", "-1,1,1", "2,1,1:backward", "other:2,1,1"):
        with pytest.raises(ValueError, match=r"expected \[CIRCUIT:\]"):
            bench.circuits.Case.parse(text)


@pytest.mark.parametrize(
    ("kind", "template", "angles"),
    [("strong", qml.StronglyEntanglingLayers, (3,)), ("basic", qml.BasicEntanglerLayers, ())],
)
@pytest.mark.parametrize("wires", [1, 2, 3])
def test_circuits_are_those_of_the_templates(
    bench: SimpleNamespace, wires: int, kind: str, template: type, angles: tuple[int, ...]
) -> None:
    content = bench.circuits.content(bench.circuits.Case(kind, wires, 3, 2))
    inputs = torch.tensor(content["inputs"], dtype=torch.float64)
    weights = torch.tensor(content["weights"], dtype=torch.float64)

    def wanted(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(wires))
        template(weights.reshape(3, wires, *angles), wires=range(wires))
        return [qml.expval(qml.Z(wire)) for wire in range(wires)]

    device = qml.device("default.qubit", wires=wires)
    values = [
        torch.stack(qml.QNode(function, device)(inputs, weights))
        for function in (wanted, bench.pennylane_circuit.circuit(content))
    ]
    torch.testing.assert_close(*values)


def test_examples_of_the_helpers(bench: SimpleNamespace) -> None:
    for module in (bench.circuits, bench.record, bench.tables):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_equal_layers_are_equal(bench: SimpleNamespace) -> None:
    for kind, circuit in bench.circuits.CIRCUITS.items():
        content = bench.circuits.content(bench.circuits.Case(kind, 4, 3, 1))
        assert (content["repeat"] is not None) == circuit.equal
        if circuit.equal:
            start, size, layers = content["repeat"]
            bodies = [content["gates"][start + size * k : start + size * (k + 1)] for k in range(layers)]
            shapes = [[(name, wires, len(angles)) for name, wires, angles in body] for body in bodies]
            assert shapes == [shapes[0]] * layers
            read = [index for body in bodies for _, _, angles in body for _, index in angles]
            assert read == list(range(len(content["weights"])))


def worker(folder: Path, body: str) -> Path:
    script = folder / "worker.py"
    script.write_text(
        f"import sys, time\nfor line in sys.stdin:\n    {body}\n    print('{{}}', flush=True)\n"
    )
    return script


@pytest.mark.parametrize(
    ("body", "limits", "reason"),
    [
        ("time.sleep(60)", {"within": 0.3}, "more than 0 s"),
        ("keep = bytearray(300_000_000); time.sleep(60)", {}, "more than 0 GB"),
        ("raise SystemExit", {}, "the process ended"),
    ],
)
def test_a_system_is_stopped_at_its_limits(
    bench: SimpleNamespace, tmp_path: Path, body: str, limits: dict, reason: str
) -> None:
    script = worker(tmp_path, body)
    system = bench.systems.System("fake", "Fake", str(script), ())
    with bench.systems.Process(system, threads=1, memory=200_000_000) as process:
        with pytest.raises(bench.systems.StoppedError, match=reason):
            process.ask("run", **limits)
        worker(tmp_path, "pass")
        assert process.ask("run", within=60.0) == {}  # a new process


def test_the_summary_names_the_fastest_peer(bench: SimpleNamespace) -> None:
    case = bench.circuits.Case("strong", 8, 3, 64)
    timed = bench.compare.Timing
    found = {
        "qlayers": timed(0.1, 10, 0.0, [0.001, 0.002, 0.001]),
        "default.qubit": timed(0.1, 10, 0.0, [0.5, 0.5, 0.5]),
        "pyqtorch": timed(0.1, 10, 0.0, [0.1, 0.1, 0.1]),
        "deepquantum": "more than 12 GB",
        "tensorcircuit": timed(9.0, 10, 0.0, [0.02]),
        "qulacs": "forward states of one sample only",
    }
    rows = bench.tables.rows(case, found)
    head, cells = bench.tables.summary(rows)
    assert len(head) == len(cells)
    assert cells[1:] == ["8, 3, 64", "1 ms", "100 ms, pyqtorch", "100x", "20 ms", "20x"]
    table = bench.tables.details(rows)
    assert {len(line) for line in table} == {len(table[0])}
    assert ["strong:8,3,64", "deepquantum", "more than 12 GB"] in [line[:3] for line in table]


def test_results_go_to_their_place_in_the_readme(bench: SimpleNamespace) -> None:
    rows = bench.record.markdown([["a", "b"], ["1", "2"]])
    assert rows == "| a | b |\n|---|---|\n| 1 | 2 |"
    once = bench.record.filled("see <!-- x --><!-- /x --> here", "x", rows)
    assert once == f"see <!-- x -->\n{rows}\n<!-- /x --> here"
    assert bench.record.filled(once, "x", rows) == once
    assert bench.record.filled("no place", "x", rows) == "no place"


@pytest.mark.parametrize(("others", "counts"), [(0.05, True), (0.5, False)])
def test_only_figures_of_a_quiet_machine_reach_the_readme(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: float, counts: bool
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- x --><!-- /x -->")
    monkeypatch.setattr(bench.record, "RESULTS", tmp_path)
    monkeypatch.setattr(bench.record, "README", readme)
    notes = [bench.record.quietness(others)]
    bench.record.write("x", "Title", [["a"], ["1"]], notes, {}, {"More": [["b"], ["2"]]})
    bench.record.to_readme("x")
    assert ("| 1 |" in readme.read_text()) is counts
    assert "| 2 |" not in readme.read_text()
    assert "| 1 |" in (tmp_path / "x.md").read_text()
    assert "| 2 |" in (tmp_path / "x.md").read_text()
