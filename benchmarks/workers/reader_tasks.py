"""The tasks of the FASTA benchmark on each peer, in the peer's own environment.

`build` finds the function `SYSTEM_TASK` below; each returns a step whose results are equal on all systems:
"outputs" are check sums, worked out after the clock has stopped.
"""

import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from protocol import Later, Step, Worker, serve

CHECKED = 500  # windows that are compared
TABLE = np.zeros(256, np.uint8)
TABLE[list(b"ACGT")] = range(4)


def build(case: dict[str, Any]) -> Step:
    return globals()[f"{case['system']}_{case['task']}"](case)


def windows_of(case: dict[str, Any]) -> list[tuple[str, int, int]]:
    """As many random windows as the case says; the first are those of every system."""
    rng = np.random.default_rng(case["seed"])
    found = [
        (f"chr{rng.integers(case['records'])}", int(rng.integers(case["last"]))) for _ in range(case["count"])
    ]
    return [(name, start, start + 1000) for name, start in found]


def windows_step(case: dict[str, Any], fetch: Callable[[str, int, int], str]) -> Step:
    """Fetch each window and look its letters up in a table: rows of tokens."""
    windows = windows_of(case)

    def step() -> dict[str, Any]:
        out = np.empty((len(windows), 1000), np.uint8)
        for i, window in enumerate(windows):
            out[i] = TABLE[np.frombuffer(fetch(*window).encode(), np.uint8)]
        return {"outputs": Later(lambda: [zlib.crc32(out[:CHECKED].tobytes())])}

    return step


def pysam_windows(case: dict[str, Any]) -> Step:
    import pysam

    return windows_step(case, pysam.FastaFile(case["path"]).fetch)


pysam_bgzip = pysam_windows


def pyfaidx_windows(case: dict[str, Any]) -> Step:
    import pyfaidx

    file = pyfaidx.Fasta(case["path"], as_raw=True)
    return windows_step(case, lambda name, start, end: file[name][start:end])


def pyfastx_windows(case: dict[str, Any]) -> Step:
    import pyfastx

    file = pyfastx.Fasta(case["path"])
    return windows_step(case, lambda name, start, end: file.fetch(name, (start + 1, end)))


def tangermeme_windows(case: dict[str, Any]) -> Step:
    import pandas
    from tangermeme.io import extract_loci

    loci = pandas.DataFrame(windows_of(case), columns=["chrom", "start", "end"])

    def step() -> dict[str, Any]:
        out = extract_loci(loci, case["path"], in_window=1000)
        out = out[0] if isinstance(out, (tuple, list)) else out
        tokens = out[:CHECKED].argmax(1).byte().numpy()
        return {"outputs": Later(lambda: [zlib.crc32(tokens.tobytes())])}

    return step


def index_step(path: str, make: Callable[[str], object]) -> Step:
    """Build the `.fai` anew."""

    def step() -> dict[str, Any]:
        if os.path.exists(path + ".fai"):
            os.remove(path + ".fai")
        make(path)
        return {"outputs": Later(lambda: [zlib.crc32(open(path + ".fai", "rb").read())])}

    return step


def pysam_index(case: dict[str, Any]) -> Step:
    import pysam

    return index_step(case["path"], pysam.faidx)


def pyfaidx_index(case: dict[str, Any]) -> Step:
    import pyfaidx

    return index_step(case["path"], lambda path: pyfaidx.Faidx(path).close())


def parse_step(parse: Callable[[], tuple[Sequence[str], Sequence[str]]]) -> Step:
    """Names and sequences of all records, as strings."""

    def step() -> dict[str, Any]:
        names, texts = parse()
        return {
            "outputs": Later(
                lambda: parsed_sums(names, TABLE[np.frombuffer("".join(texts).encode(), np.uint8)])
            )
        }

    return step


def parsed_sums(names: Sequence[str], tokens: Any) -> list[int]:
    return [len(names), zlib.crc32("\n".join(names).encode()), zlib.crc32(np.ascontiguousarray(tokens).data)]


def needletail_parse(case: dict[str, Any]) -> Step:
    import needletail

    def parse() -> tuple[list[str], list[str]]:
        names, texts = [], []
        for record in needletail.parse_fastx_file(case["path"]):
            names.append(record.id)
            texts.append(record.seq)
        return names, texts

    return parse_step(parse)


def pyfastx_parse(case: dict[str, Any]) -> Step:
    import pyfastx

    return parse_step(lambda: tuple(zip(*pyfastx.Fastx(case["path"]), strict=True)))


def pysam_parse(case: dict[str, Any]) -> Step:
    import pysam

    def parse() -> tuple[list[str], list[str]]:
        names, texts = [], []
        with pysam.FastxFile(case["path"]) as file:
            for record in file:
                names.append(record.name)
                texts.append(record.sequence)
        return names, texts

    return parse_step(parse)


def biopython_parse(case: dict[str, Any]) -> Step:
    from Bio import SeqIO

    def parse() -> tuple[list[str], list[str]]:
        names, texts = [], []
        for record in SeqIO.parse(case["path"], "fasta"):
            names.append(record.id)
            texts.append(str(record.seq))
        return names, texts

    return parse_step(parse)


def tangermeme_onehot(case: dict[str, Any]) -> Step:
    import torch
    from tangermeme.utils import one_hot_encode

    torch.set_num_threads(1)
    text = "".join(
        np.array(list("ACGT"))[np.random.default_rng(case["seed"]).integers(0, 4, case["letters"])]
    )

    def step() -> dict[str, Any]:
        out = one_hot_encode(text)
        return {"outputs": Later(lambda: [zlib.crc32(out.to(torch.int8).contiguous().numpy().data)])}

    return step


if __name__ == "__main__":
    serve(Worker(build))
