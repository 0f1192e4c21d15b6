"""Rows about the system around the op: PyTorch's own check, data-parallel training, workers, threads."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from shared import threads
from shared.check import row as when
from shared.check.case import Args, Case, is_inexact, outputs_of, same
from shared.check.holder import Holder
from shared.check.row import Row
from shared.check.workers import finish, worker


def opcheck(case: Case, args: Args) -> None:
    """`torch.library.opcheck`: schema, autograd registration, fake kernel, ahead-of-time dispatch."""
    torch.library.opcheck(case.op.overload, case.cast(args, torch.float64))
    if when.differentiable(case) is None:
        training = tuple(a.requires_grad_() if is_inexact(a) else a for a in args)
        torch.library.opcheck(case.op.overload, training)


def data_parallel(case: Case, args: Args) -> None:
    """Two processes that share a batch average to the gradient of the whole batch (DDP over gloo)."""
    inputs = tuple(i for i, _ in case.batched(args))
    whole = case.of_size(args, 5)
    shares = [case.batch_of(args, rows) for rows in (range(2), range(2, 5))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rank, share in enumerate(shares):
            torch.save(list(share), folder / f"arguments{rank}.pt")
            job = {"module": case.op.reference.__module__, "op": case.op.name, "rank": rank, "inputs": inputs}
            worker(rank).start("average_gradients", folder, **job)
        finish(worker(0), worker(1))
        found = [torch.load(folder / f"gradients{rank}.pt", weights_only=True) for rank in (0, 1)]
    same(found[0], found[1], "gradients of the two ranks", exact=True)
    alone = Holder(case.op, whole, inputs, scaled=any(is_inexact(whole[i]) for i in inputs))
    outputs = outputs_of(alone(*(whole[i] for i in inputs)))
    torch.stack([o.sum() for o in outputs if o.requires_grad]).sum().backward()
    expected = {
        name: torch.zeros_like(p) if p.grad is None else p.grad / 2 for name, p in alone.named_parameters()
    }
    same(found[0], expected, "gradients averaged over two processes")


class _Calls(Dataset[Any]):
    def __init__(self, case: Case, args: Args) -> None:
        self._case, self._args = case, args

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        torch.set_num_threads(2)  # a loader gives each worker one; two make it build a pool of its own
        with threads.finest_grain(), torch.no_grad():
            return outputs_of(self._case.op(*self._args))


def forked_worker(case: Case, args: Args) -> None:
    """A DataLoader worker, forked after the parent has used its threads, computes the same."""
    with threads.finest_grain(), torch.no_grad():
        case.op(*args)
    loader = DataLoader(
        _Calls(case, args), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    for outputs in loader:
        same(tuple(outputs), outputs_of(case.expected(args)), "in a forked DataLoader worker")


def several_threads(case: Case, args: Args) -> None:
    """Four Python threads may call the op at once."""

    def call(_: int) -> Any:
        with threads.finest_grain(), torch.no_grad():
            return [case.op(*args) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(call, range(4)):
            same(found, [case.expected(args)] * 5, "from four threads at once")


ROWS = (
    Row("system", "opcheck", opcheck, (when.tensors,)),
    Row("system", "several threads", several_threads),
    Row("system", "forked DataLoader worker", forked_worker, (when.fork,)),
    Row(
        "system",
        "data-parallel",
        data_parallel,
        (when.batch, when.differentiable, when.importable, when.gloo),
    ),
)
