"""lightmotif: its scanner, in Rust, with one pass for each strand of each motif, at given thresholds."""

from typing import Any

import lightmotif
from protocol import Later, Step, Worker, serve


def build(case: dict[str, Any]) -> Step:
    striped = lightmotif.EncodedSequence(case["text"]).stripe()
    passes = []
    for i, (counts, threshold) in enumerate(zip(case["counts"], case["thresholds"], strict=True)):
        if threshold is None:  # no word is improbable enough
            continue
        matrix = lightmotif.CountMatrix(dict(zip("ACGT", counts, strict=True)))
        forward = matrix.normalize(case["pseudocount"] / 4).log_odds()
        passes += [(i, 1, forward, threshold), (i, -1, forward.reverse_complement(), threshold)]

    def step() -> dict[str, Any]:
        found = []
        for i, strand, scores, threshold in passes:
            for hit in lightmotif.scan(scores, striped, threshold=threshold):
                found.append((i, hit.position, strand, hit.score))
        return {"outputs": Later(lambda: [list(column) for column in zip(*found, strict=True)])}

    return step


serve(Worker(build))
