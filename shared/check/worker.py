"""A fresh process that does one job after another for the rows that need one; see `workers`.

It reads one JSON object per line and answers with one, having written its tensors into the job's folder.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from shared.check.case import is_inexact, outputs_of
from shared.check.holder import Holder
from shared.declare import Op, registry

_PATIENCE = timedelta(seconds=30)  # for the other rank


def load_export(folder: Path, job: dict[str, Any]) -> None:
    """Load an exported program and run it on the saved arguments."""
    importlib.import_module(job["module"])
    program = torch.export.load(folder / "program.pt2").module()
    values = [program(*args) for args in torch.load(folder / "arguments.pt", weights_only=True)]
    torch.save(values, folder / "values.pt")


def unpickle(folder: Path, job: dict[str, Any]) -> None:
    """Load a pickled module, which brings its op's module with it, and call it."""
    module = pickle.loads((folder / "module.pickle").read_bytes())
    torch.save(module(), folder / "values.pt")


def average_gradients(folder: Path, job: dict[str, Any]) -> None:
    """One rank of data-parallel training: backward on this rank's rows, gradients averaged by DDP."""
    importlib.import_module(job["module"])
    args = torch.load(folder / f"arguments{job['rank']}.pt", weights_only=True)
    meeting = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=meeting, rank=job["rank"], world_size=2, timeout=_PATIENCE)
    try:
        found = _train_one_step(registry()[job["op"]], args, tuple(job["inputs"]))
    finally:
        dist.destroy_process_group()
    torch.save(found, folder / f"gradients{job['rank']}.pt")


def _train_one_step(op: Op, args: list[Any], inputs: tuple[int, ...]) -> dict[str, Any]:
    """A function of its own: the DDP module must die before its process group, or the two can deadlock."""
    module = torch.nn.parallel.DistributedDataParallel(
        Holder(op, tuple(args), inputs, scaled=any(is_inexact(args[i]) for i in inputs))
    )
    outputs = outputs_of(module(*(args[i] for i in inputs)))
    torch.stack([o.sum() for o in outputs if o.requires_grad]).sum().backward()
    return {name: p.grad for name, p in module.module.named_parameters()}


JOBS = {job.__name__: job for job in (load_export, unpickle, average_gradients)}


def main() -> None:
    """Answer jobs until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what an op's module prints must not mix with answers
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            JOBS[job["kind"]](Path(job["folder"]), job)
            answer = {"error": None}
        except Exception:
            answer = {"error": traceback.format_exc(limit=-3)}
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # nothing to tidy up, and taking PyTorch apart costs a second


if __name__ == "__main__":
    main()
