"""memelite: its FIMO, in Numba, on both strands of a one-hot sequence."""

from typing import Any

import memelite
import numpy as np
from protocol import Later, Step, Worker, serve


def build(case: dict[str, Any]) -> Step:
    letters = np.frombuffer(case["text"].encode(), np.uint8)
    columns = (letters == np.frombuffer(b"ACGT", np.uint8)[:, None]).astype(np.int8)[None]  # (1, 4, l)
    motifs = {}
    for i, counts in enumerate(case["counts"]):
        shares = np.array(counts) + case["pseudocount"] / 4
        motifs[str(i)] = shares / shares.sum(0)

    def step() -> dict[str, Any]:
        tables = memelite.fimo(motifs, columns, threshold=case["p_value"])
        return {"outputs": Later(lambda: _columns(tables))}

    return step


def _columns(tables: list[Any]) -> list[list[Any]]:
    found = [
        (int(row.motif_name), int(row.start), 1 if row.strand == "+" else -1, float(row.score))
        for table in tables
        for row in table.itertuples()
    ]
    return [list(column) for column in zip(*found, strict=True)]


serve(Worker(build))
