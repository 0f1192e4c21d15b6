"""Sites of motifs on both strands: ours, lightmotif's and memelite's FIMO, each in its own process, in turn.

First the sites are compared: lightmotif, at the same thresholds, must find those that are clear of them, and
we those of it; memelite's p-values are others, so it must find those that are far more improbable than asked.
No time is shown otherwise. How many sites differ is part of the table.

    python benchmarks/motif_scan.py [--write] [--rounds N] [--motifs N] [--letters N]
"""

import argparse
import statistics
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import record
from systems import Process, System

TITLE = "Sites of motifs"
THREADS = 1
P_VALUE = 1e-4
PSEUDOCOUNT = 0.1
CLEAR = 0.05  # bits: further from the threshold, rounding of scores to a grid cannot matter
SURE = 0.1  # of the p-value: sites as improbable as that are found however p-values are rounded
OURS = System("biolayers", "qbio", "our_motifs.py", ("torch", "numba"))
ALONE = System("alone", "qbio, thresholds given", "our_motifs.py", ("torch", "numba"))
LIGHTMOTIF = System(
    "lightmotif", "lightmotif, thresholds given", "lightmotif_scan.py", ("lightmotif",), "lightmotif"
)
MEMELITE = System("memelite", "memelite FIMO", "memelite_fimo.py", ("memelite",), "memelite")
SYSTEMS = (OURS, ALONE, LIGHTMOTIF, MEMELITE)
LIKE = {LIGHTMOTIF.key: ALONE.key, MEMELITE.key: OURS.key}  # which of our rows does the same work

Site = tuple[int, int, int]  # motif, start, strand


def main() -> None:
    options = arguments()
    bystanders = record.Bystanders()
    problem = make(options.motifs, options.letters)
    with ExitStack() as stack:
        variables = {"NUMBA_NUM_THREADS": str(THREADS), "RAYON_NUM_THREADS": str(THREADS)}
        processes = {
            system.key: stack.enter_context(Process(system, threads=THREADS, **variables))
            for system in SYSTEMS
        }
        versions = {
            key: process.ask("versions", packages=list(process.system.packages))
            for key, process in processes.items()
        }
        found = compared(processes, problem)
        seconds = timed(processes, options.rounds)
    others = bystanders.share()
    table = [
        ["system", "seconds", "million sites/s", "qbio faster", "sites", "only here", "only qbio"],
        *(row(system, seconds, found[system.key], options) for system in SYSTEMS),
    ]
    notes = [
        record.machine(THREADS),
        f"{options.motifs} random motifs of 6 to 20 positions, {options.letters:,} random letters, both "
        f"strands, p <= {P_VALUE:g}; medians of {options.rounds} calls in turn, and of their ratios.",
        "memelite works out thresholds and p-values in every call, and so does the first row.",
        f"Of {found[MEMELITE.key]['last']} sites in the last window memelite misses "
        f"{found[MEMELITE.key]['last_missed']}.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/motif_scan.py")
    if options.write:
        content = {"machine": notes[0], "versions": versions, "others": others, "seconds": seconds}
        record.write("motif_scan", TITLE, table, notes, content | {"sites": found})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/motif_scan.md and .json"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each system has its turn")
    parser.add_argument("--motifs", type=int, default=800)
    parser.add_argument("--letters", type=int, default=1_000_000)
    return parser.parse_args()


def make(motifs: int, letters: int) -> dict[str, Any]:
    """Counts of random motifs, as sharp as those of JASPAR, and a random sequence that ends with a site."""
    draw = np.random.default_rng(0)
    counts = [
        np.round(draw.dirichlet([0.3] * 4, width).T * 100).astype(int)
        for width in draw.integers(6, 21, motifs)
    ]
    codes = draw.integers(0, 4, letters)
    widest = max(counts[:20], key=lambda each: each.shape[1])
    codes[-widest.shape[1] :] = widest.argmax(0)
    text = np.frombuffer(b"ACGT", np.uint8)[codes].tobytes().decode()
    tables = [each.tolist() for each in counts]
    return {"counts": tables, "text": text, "p_value": P_VALUE, "pseudocount": PSEUDOCOUNT, "alone": False}


def compared(processes: dict[str, Process], problem: dict[str, Any]) -> dict[str, dict[str, int]]:
    """How many sites each finds, and how many others than we; ends the run if they should not differ."""
    answer = processes[OURS.key].ask("prepare", case=problem)
    thresholds, scores, chances = answer["thresholds"], *sites(answer["outputs"])
    processes[ALONE.key].ask("prepare", case=problem | {"alone": True})
    answer = processes[LIGHTMOTIF.key].ask("prepare", case=problem | {"thresholds": thresholds})
    (light,) = sites(answer["outputs"])
    require_clear(scores.keys() ^ light.keys(), scores | light, thresholds)
    (fimo,) = sites(processes[MEMELITE.key].ask("prepare", case=problem)["outputs"])
    require_sure(chances, fimo)
    ends = [len(problem["text"]) - len(counts[0]) for counts in problem["counts"]]
    last = {site for site in scores if site[1] == ends[site[0]]}
    return {
        OURS.key: {"sites": len(scores)},
        ALONE.key: {"sites": len(scores)},
        LIGHTMOTIF.key: difference(light, scores),
        MEMELITE.key: difference(fimo, scores) | {"last": len(last), "last_missed": len(last - fimo.keys())},
    }


def sites(columns: list[list[Any]]) -> list[dict[Site, float]]:
    """From the columns motif, start, strand and others: each of the others by site."""
    keys = list(zip(*columns[:3], strict=True))
    return [dict(zip(keys, column, strict=True)) for column in columns[3:]]


def difference(theirs: dict[Site, float], ours: dict[Site, float]) -> dict[str, int]:
    return {
        "sites": len(theirs),
        "only_theirs": len(theirs.keys() - ours.keys()),
        "only_ours": len(ours.keys() - theirs.keys()),
    }


def require_clear(different: set[Site], scores: dict[Site, float], thresholds: list[Any]) -> None:
    """End the run if a site that only one finds is not at its threshold."""
    for site in different:
        if abs(scores[site] - thresholds[site[0]]) > CLEAR:
            sys.exit(f"qbio and lightmotif disagree about the site {site}, which scores {scores[site]:.3f}")


def require_sure(chances: dict[Site, float], found: dict[Site, float]) -> None:
    """End the run if a site is not found that is far more improbable than asked."""
    for site, chance in chances.items():
        if chance <= SURE * P_VALUE and site not in found:
            sys.exit(f"memelite does not find the site {site}, whose p-value is {chance:.2g}")


def timed(processes: dict[str, Process], rounds: int) -> dict[str, list[float]]:
    """Seconds of one search each, in turn."""
    seconds: dict[str, list[float]] = {key: [] for key in processes}
    for _ in range(rounds):
        for key, process in processes.items():
            seconds[key].append(process.ask("run", steps=1)["seconds"])
    return seconds


def row(
    system: System, seconds: dict[str, list[float]], found: dict[str, int], options: argparse.Namespace
) -> list[str]:
    middle, ratio = statistics.median(seconds[system.key]), ""
    if system.key in LIKE:
        pairs = zip(seconds[system.key], seconds[LIKE[system.key]], strict=True)
        ratio = f"{statistics.median(theirs / ours for theirs, ours in pairs):.1f}x"
    rate = 2 * options.motifs * options.letters / middle / 1e6
    others = [f"{found[key]:,}" if key in found else "" for key in ("only_theirs", "only_ours")]
    return [system.name, f"{middle:.2f}", f"{rate:,.0f}", ratio, f"{found['sites']:,}", *others]


if __name__ == "__main__":
    main()
