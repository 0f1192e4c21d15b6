"""A fresh process that does one job after another for the rows that need one; see `workers`.

It reads one JSON object per line and answers with one, having written its tensors into the job's folder.
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from shared.check.case import is_inexact
from shared.check.holder import Holder

import faulthandler; faulthandler.dump_traceback_later(15, repeat=True)
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
    op = importlib.import_module("shared.declare")._restore(job["module"], job["op"])
    args = torch.load(folder / f"arguments{job['rank']}.pt", weights_only=True)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=job["rank"], world_size=2, timeout=_PATIENCE)
    try:
        inputs = tuple(job["inputs"])
        module = torch.nn.parallel.DistributedDataParallel(
            Holder(op, tuple(args), inputs, scaled=any(is_inexact(args[i]) for i in inputs))
        )
        output = module(*(args[i] for i in inputs))
        outputs = output if isinstance(output, tuple) else (output,)
        torch.stack([o.sum() for o in outputs if o.requires_grad]).sum().backward()
        found = {name: p.grad for name, p in module.module.named_parameters()}
        torch.save(found, folder / f"gradients{job['rank']}.pt")
    finally:
        dist.destroy_process_group()


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


if __name__ == "__main__":
    main()
