"""The tasks of the FASTA benchmark on the reader of this repository."""

import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import THREADS, Later, Step, Worker, fresh_memory, peak_memory, serve
from reader_tasks import CHECKED, index_step, parsed_sums, windows_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from biolayers import DNA, Fasta, one_hot, read_batches

BATCH = 2048  # windows that are fetched by one call
torch.set_num_threads(THREADS)


def build(case: dict[str, Any]) -> Step:
    return globals()[case["task"]](case)


def windows(case: dict[str, Any]) -> Step:
    fasta = Fasta(case["path"])
    names, starts, ends = zip(*windows_of(case), strict=True)
    ids, starts, ends = fasta.ids(names), np.array(starts), np.array(ends)

    def step() -> dict[str, Any]:
        first = None
        for k in range(0, len(ids), BATCH):
            rows = fasta.fetch_arrays(ids[k : k + BATCH], starts[k : k + BATCH], ends[k : k + BATCH])
            first = rows if first is None else first
        return {"outputs": Later(lambda: [zlib.crc32(first[:CHECKED].numpy().tobytes())])}

    return step


bgzip = windows


def index(case: dict[str, Any]) -> Step:
    return index_step(case["path"], Fasta)


def parse(case: dict[str, Any]) -> Step:
    def step() -> dict[str, Any]:
        batches = [(batch.names, batch.tokens) for batch in read_batches(case["path"])]
        names = [name for part, _ in batches for name in part]
        return {
            "outputs": Later(lambda: parsed_sums(names, torch.cat([tokens for _, tokens in batches]).numpy()))
        }

    return step


def onehot(case: dict[str, Any]) -> Step:
    torch.set_num_threads(1)
    tokens = torch.from_numpy(
        np.random.default_rng(case["seed"]).integers(0, 4, case["letters"]).astype(np.uint8)
    )

    def step() -> dict[str, Any]:
        out = one_hot(tokens, dtype=torch.int8)
        return {"outputs": Later(lambda: [zlib.crc32(out.numpy().data)])}

    return step


def memory(case: dict[str, Any]) -> Step:
    """Go through all letters, 16 MB at a time; "outputs" are the letters, and the bytes held at most."""
    alphabet = DNA.with_policy(other="unknown")  # a hole of a sparse file reads as zeros
    before = fresh_memory()
    fasta = Fasta(case["path"], alphabet=alphabet)

    def step() -> dict[str, Any]:
        total = 0
        for i, length in enumerate(fasta.lengths.tolist()):
            for start in range(0, length, 1 << 24):
                total += fasta.fetch_arrays([i], [start], [min(length, start + (1 << 24))]).shape[1]
        return {"outputs": Later(lambda: [total, peak_memory() - before])}

    return step


if __name__ == "__main__":
    os.environ.pop("QBIO_PREFER", None)
    serve(Worker(build))
