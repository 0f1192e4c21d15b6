"""Reading FASTA, ours and the peers' side by side: windows, indices, whole files, one-hot, memory.

Every system runs in a process and an environment of its own. First all must give the same windows, indices
and records, then they are timed in turn (A B C A B C ...), and each ratio compares neighbours of one round.

    python benchmarks/fasta.py [--write] [--rounds N] [--tasks windows bgzip ...] [--systems ...]
"""

import argparse
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
from systems import Process, StoppedError, System
from tables import times

TITLE = "Reading FASTA"
THREADS = 2
LIMIT_SECONDS = 300.0
TURN_SECONDS = 0.4  # of steps of one system, before the next has its turn
SEED = 0
OURS = System("biolayers", "biolayers", "reader_ours.py", ("torch", "numba", "isal"))
_READERS = {
    "pysam": ("pysam",),
    "pyfaidx": ("pyfaidx",),
    "pyfastx": ("pyfastx",),
    "needletail": ("needletail",),
    "biopython": ("biopython",),
}
PEERS = (
    *(System(key, key, "reader_tasks.py", packages, "readers") for key, packages in _READERS.items()),
    System("tangermeme", "tangermeme", "reader_tasks.py", ("tangermeme", "torch"), "tangermeme"),
)
NOTES = (
    "Files lie in the page cache. Medians of rounds in which the systems take turns; ratios are medians of "
    "the ratios within a round.",
    "Results of all systems are equal, checked before anything is timed: the first 500 windows, the bytes of "
    "the index, the names and letters of all records, the one-hot tensor.",
    "windows, bgzip: random windows of 1,000 letters of a genome of 100 Mb in 5 records, to uint8 tokens; "
    "the peers' strings become tokens by a table, tangermeme's `extract_loci` gives one-hot tensors. "
    "Slow peers fetch fewer windows. For bgzip all blocks of ours are in its cache from the second round on.",
    "index: building the `.fai` and writing it. parse: all names and letters of 500,000 records of 200; ours "
    "are tokens, the peers' strings. one-hot: one thread, int8, from tokens; tangermeme starts from text.",
    "memory: letters of a sparse file of 20 GB, 16 million at a time.",
)


@dataclass(frozen=True)
class Task:
    """What is measured, in `unit` per second, and how much of it each system does in a step."""

    name: str
    what: str
    path: str
    unit: str
    peers: dict[str, int]
    ours: int
    worker: str
    more: dict[str, Any] = field(default_factory=dict)


GENOME = {"records": 5, "last": 19_990_000}
TASKS = (
    Task("windows", "windows, plain", "genome.fa", "Mbase", {"pysam": 20_000, "pyfaidx": 10_000,
         "tangermeme": 10_000, "pyfastx": 600}, 100_000, "windows", GENOME),
    Task("bgzip", "windows, bgzip", "genome.fa.gz", "Mbase", {"pysam": 4_000}, 100_000, "bgzip", GENOME),
    Task("index", "index, 5 records", "genome.fa", "MB", {"pysam": 1, "pyfaidx": 1}, 1, "index"),
    Task("index-reads", "index, 500,000 records", "reads.fa", "MB", {"pysam": 1, "pyfaidx": 1}, 1, "index"),
    Task("parse", "parse, 500,000 records", "reads.fa", "Mbase", {"needletail": 1, "pyfastx": 1, "pysam": 1,
         "biopython": 1}, 1, "parse"),
    Task("onehot", "one-hot, one thread", "", "Mbase", {"tangermeme": 10_000_000}, 10_000_000, "onehot"),
)  # fmt: skip


def main() -> None:
    options = _options()
    bystanders = record.Bystanders()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        make_files(Path(folder))
        systems = [OURS, *(peer for peer in PEERS if peer.key in options.systems)]
        processes = {each.key: stack.enter_context(Process(each, threads=THREADS)) for each in systems}
        versions = {key: versions_of(process) for key, process in processes.items()}
        for task in TASKS:
            if task.name in options.tasks:
                print(task.what, flush=True)
                rows += measure(task, folder, processes, options.rounds)
        if "memory" in options.tasks:
            print("memory", flush=True)
            rows.append(measure_memory(Path(folder)))
    others = bystanders.share()
    notes = [record.machine(THREADS), record.quietness(others), *map(_version_note, versions.items()), *NOTES]
    table = [["task", "system", "rate", "ours faster", "in rounds"], *map(_cells, rows)]
    record.show(TITLE, table, notes, "python benchmarks/fasta.py")
    if options.write:
        content = {"machine": notes[0], "others_share": others, "versions": versions, "rows": rows}
        record.write("fasta", TITLE, table, notes, content)


def make_files(folder: Path) -> None:
    """A genome of five records (plain, and bgzip), and short reads."""
    from biolayers import convert

    rng = np.random.default_rng(SEED)
    letters = np.frombuffer(b"ACGT", np.uint8)
    with open(folder / "genome.fa", "wb") as file:
        for i in range(5):
            lines = np.full((20_000_000 // 60 + 1, 61), 10, np.uint8)
            lines[:, :60] = letters[rng.integers(0, 4, (len(lines), 60))]
            file.write(b">chr%d\n" % i + lines.tobytes())
    convert(folder / "genome.fa", folder / "genome.fa.gz")
    reads = letters[rng.integers(0, 4, (500_000, 200))]
    with open(folder / "reads.fa", "wb") as file:
        file.writelines(b">read%d\n%b\n" % (i, reads[i].tobytes()) for i in range(len(reads)))


def measure(task: Task, folder: str, processes: dict[str, Process], rounds: int) -> list[dict[str, Any]]:
    """The rates of all systems on a task; the first row is ours."""
    path = os.path.join(folder, task.path)
    counts = {key: count for key, count in {OURS.key: task.ours, **task.peers}.items() if key in processes}
    sums, found = {}, {}
    for key, count in counts.items():
        case = {
            "task": task.worker,
            "system": key,
            "path": path,
            "count": count,
            "letters": count,
            "seed": SEED,
        }
        try:
            answer = processes[key].ask("prepare", case=case | task.more, within=LIMIT_SECONDS)
            sums[key], found[key] = answer["outputs"], []
        except StoppedError as stopped:
            print(f"{key}: {stopped}")
    wrong = [key for key in sums if sums[key] != sums[OURS.key]]
    if wrong:
        raise SystemExit(
            f"{task.what}: {', '.join(wrong)} found something else than {OURS.key}; nothing was timed"
        )
    steps = {key: _steps(processes[key]) for key in found}
    for _ in range(rounds):
        for key, seconds in found.items():
            answer = processes[key].ask("run", steps=steps[key], within=LIMIT_SECONDS)
            seconds.append(answer["seconds"] / steps[key] / _amount(task, path, counts[key]))
    for key in found:
        processes[key].ask("release")
    return [_row(task, key, seconds, found[OURS.key]) for key, seconds in found.items()]


def _steps(process: Process) -> int:
    """How many steps make a turn of some length: the first after a pause is slower."""
    return max(1, round(TURN_SECONDS / process.ask("run", steps=1, within=LIMIT_SECONDS)["seconds"]))


def _amount(task: Task, path: str, count: int) -> float:
    """How many units a step of `count` takes in."""
    if task.worker in ("windows", "bgzip"):
        return count * 1000 / 1e6
    if task.worker == "onehot":
        return count / 1e6
    return os.path.getsize(path) / 1e6 if task.unit == "MB" else 500_000 * 200 / 1e6


def _row(task: Task, key: str, seconds: list[float], ours: list[float]) -> dict[str, Any]:
    ratios = [theirs / own for theirs, own in zip(seconds, ours, strict=True)]
    return {
        "task": task.what,
        "system": key,
        "unit": task.unit,
        "rate": 1 / median(seconds),
        "rates": [1 / second for second in seconds],
        "ratio": median(ratios),
        "ratios": ratios,
    }


def measure_memory(folder: Path) -> dict[str, Any]:
    """Bytes that are held at most while 20 GB are read through."""
    path = sparse(folder / "huge.fa", records=20, letters=1_000_000_000)
    with Process(OURS, threads=THREADS) as ours:
        answer = ours.ask("prepare", case={"task": "memory", "path": str(path)}, within=LIMIT_SECONDS)
    letters, held = answer["outputs"]
    return {
        "task": "memory, 20 GB",
        "system": OURS.key,
        "letters": letters,
        "bytes": held,
        "seconds": answer["seconds"],
    }


def sparse(path: Path, *, records: int, letters: int) -> Path:
    """A file with an index, of whose records only headers, first and last lines take room on the disk."""
    line, at, rows = b"ACGT" * 15 + b"\n", 0, []
    with open(path, "wb") as file:
        for i in range(records):
            header = b">chr%d\n" % i
            last = letters // 60 - 1
            file.write(header + line)
            offset = at + len(header)
            file.seek(offset + last * 61 - 1)
            file.write(b"\n" + line)
            at = offset + (last + 1) * 61
            rows.append(f"chr{i}\t{(last + 1) * 60}\t{offset}\t60\t61\n")
    Path(f"{path}.fai").write_text("".join(rows))
    return path


def versions_of(process: Process) -> dict[str, str] | str:
    """The versions of a system's packages, or why it cannot be run."""
    try:
        return process.ask("versions", packages=list(process.system.packages))
    except StoppedError as stopped:
        return str(stopped)


def _version_note(item: tuple[str, dict[str, str] | str]) -> str:
    key, versions = item
    listed = versions if isinstance(versions, str) else ", ".join(f"{n} {v}" for n, v in versions.items())
    return f"{key}: {listed}"


def _cells(row: dict[str, Any]) -> list[str]:
    head, unit = [row["task"], row["system"]], row.get("unit", "")
    if "bytes" in row:
        rate = row["letters"] / row["seconds"] / 1e6
        return [*head, f"{rate:,.0f} Mbase/s", f"{row['bytes'] / 1e6:.0f} MB held", ""]
    own = row["system"] == OURS.key
    spread = "" if own else f"{min(row['ratios']):.3g} to {max(row['ratios']):.3g}"
    rate = f"{row['rate']:,.3g} {unit}/s" if row["rate"] < 1000 else f"{row['rate']:,.0f} {unit}/s"
    return [*head, rate, "" if own else times(row["ratio"]), spread]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/fasta.md and .json")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system has its turn")
    keys, tasks = [peer.key for peer in PEERS], [*(task.name for task in TASKS), "memory"]
    parser.add_argument("--systems", nargs="*", choices=keys, default=keys, help="the peers; default: all")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, help="default: all")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.pop("QBIO_PREFER", None)  # our own choice of kernel is what is measured
    main()
