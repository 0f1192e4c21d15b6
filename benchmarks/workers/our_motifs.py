"""`biolayers`: the search for motif sites; thresholds and p-values included, or the search alone."""

from typing import Any

import numpy as np
import torch
from protocol import THREADS, Later, Step, Worker, serve

from biolayers import DNA
from biolayers.motifs.bank import MotifBank
from biolayers.motifs.motif import Motif
from biolayers.motifs.search import Wanted, find_motifs


def build(case: dict[str, Any]) -> Step:
    torch.set_num_threads(THREADS)
    bank = MotifBank(tuple(Motif(counts, name=str(i)) for i, counts in enumerate(case["counts"])))
    tokens = DNA.tokens(case["text"])
    wanted = Wanted.of(bank, case["p_value"], None, True, "skip", None)
    edges = np.array([0, len(tokens)])

    def step() -> dict[str, Any]:
        if case["alone"]:
            found = wanted.search(tokens.numpy(), edges, np.diff(edges))
            return {"outputs": Later(found.start.tolist)}
        hits = find_motifs(tokens, MotifBank(bank.motifs), p_value=case["p_value"])
        columns = hits.motif, hits.start, hits.strand, hits.score, hits.p_value
        thresholds = wanted.thresholds[::2]
        return {
            "outputs": Later(lambda: [column.tolist() for column in columns]),
            "thresholds": Later(lambda: [None if np.isinf(t) else float(t) for t in thresholds]),
        }

    return step


serve(Worker(build))
