"""seqpro: its k-let shuffle, in Rust, of an array of bytes."""

from typing import Any

import numpy as np
import seqpro
from protocol import Later, Step, Worker, serve


def build(case: dict[str, Any]) -> Step:
    text = b"".join(case_row.encode() for case_row in case["texts"])
    texts = np.frombuffer(text, "S1").reshape(len(case["texts"]), -1)
    texts = np.tile(texts, (case["times"], 1))

    def step() -> dict[str, Any]:
        out = seqpro.k_shuffle(texts, case["k"], seqpro.DNA, length_axis=1, seed=1)
        return {"outputs": Later(lambda: [row.tobytes().decode() for row in out[: len(case["texts"])]])}

    return step


serve(Worker(build))
