"""The benchmark's own promises: no time without agreement, workers that answer, results in their place."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import quantum
    import record
    import systems

    return SimpleNamespace(quantum=quantum, record=record, systems=systems)


def test_our_worker_answers_and_is_timed(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.quantum, "BURST_SECONDS", 0.0)
    with bench.systems.Process(bench.quantum.OURS, threads=2) as ours:
        assert set(ours.ask("versions", packages=["torch"])) == {"python", "torch"}
        timings = bench.quantum.measure([ours], bench.quantum.make_case(2, 1, 3), rounds=2)
        with pytest.raises(RuntimeError, match="prepare failed: KeyError"):
            ours.ask("prepare", case={})
    (timing,) = timings.values()
    assert len(timing.steps) == 2
    assert min(timing.first, *timing.steps) > 0


@pytest.mark.parametrize("what", ["outputs", "inputs", "weights"])
@pytest.mark.parametrize("wrong", [float("nan"), 1.001])
def test_disagreement_stops_the_benchmark(bench: SimpleNamespace, what: str, wrong: float) -> None:
    ours = {"outputs": [[1.0, 0.5]], "inputs": [[1.0, 0.5]], "weights": [[[1.0, 0.5]]]}
    bench.quantum.check_agreement("peer", ours, ours)
    theirs = copy.deepcopy(ours)
    row = theirs[what][0] if what != "weights" else theirs[what][0][0]
    row[0] = wrong
    with pytest.raises(SystemExit, match=f"disagree: {what}"):
        bench.quantum.check_agreement("peer", theirs, ours)
    del row[0]
    with pytest.raises(SystemExit, match="1 and 2 entries"):
        bench.quantum.check_agreement("peer", theirs, ours)


def test_every_peer_has_its_files(bench: SimpleNamespace) -> None:
    for system in (bench.quantum.OURS, *bench.quantum.PEERS):
        assert (ROOT / "benchmarks" / "workers" / system.worker).is_file()
        assert system.environment is None or (ROOT / f"benchmarks/peers/{system.environment}.txt").is_file()


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
    bench.record.write("x", "Title", [["a"], ["1"]], [bench.record.quietness(others)], {})
    bench.record.to_readme("x")
    assert ("| 1 |" in readme.read_text()) is counts
    assert "| 1 |" in (tmp_path / "x.md").read_text()
