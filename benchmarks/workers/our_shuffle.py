"""`biolayers.shuffle` of a matrix of tokens."""

from typing import Any

import torch
from protocol import THREADS, Later, Step, Worker, serve

from biolayers import DNA, shuffle


def build(case: dict[str, Any]) -> Step:
    torch.set_num_threads(THREADS)
    tokens = DNA.tokens(case["texts"]).repeat(case["times"], 1)

    def step() -> dict[str, Any]:
        out = shuffle(tokens, case["k"], seed=1)
        return {"outputs": Later(lambda: DNA.text(out[: len(case["texts"])]))}

    return step


serve(Worker(build))
