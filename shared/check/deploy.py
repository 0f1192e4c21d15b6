"""Rows about leaving the process: export, save, load in a fresh process that imports the op's module."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.check import row as when
from shared.check.case import Args, Case, same
from shared.check.holder import Holder
from shared.check.row import Row
from shared.check.workers import worker

_SIZES = (3, 5)  # of the batch that the exported program is run on; it is exported at another


class _Call(nn.Module):
    def __init__(self, case: Case, args: Args) -> None:
        super().__init__()
        self.op, self.args, self.positions = case.op, args, case.tensors(args)

    def forward(self, *tensors: Tensor) -> object:
        given = dict(zip(self.positions, tensors, strict=True))
        return self.op(*(given.get(i, a) for i, a in enumerate(self.args)))


def _program(case: Case, args: Args, *, dynamic: bool) -> torch.export.ExportedProgram:
    args = case.of_size(args, 4) if dynamic else args
    axes = dict(case.batched(args)) if dynamic else {}
    shapes = tuple({axes[i]: torch.export.Dim.DYNAMIC} if i in axes else None for i in case.tensors(args))
    module = _Call(case, args)
    return torch.export.export(
        module, _tensors(case, args), dynamic_shapes={"tensors": shapes} if dynamic else None
    )


def exports(case: Case, args: Args) -> None:
    """`torch.export` captures the op; the program gives the same values."""
    program = _program(case, args, dynamic=False).module()
    same(program(*_tensors(case, args)), case.expected(args), "exported program")


def exports_dynamic(case: Case, args: Args) -> None:
    """One exported program serves every batch size."""
    program = _program(case, args, dynamic=True).module()
    for size in _SIZES:
        sized = case.of_size(args, size)
        same(program(*_tensors(case, sized)), case.expected(sized), f"exported program, batch of {size}")


def reloads(case: Case, args: Args) -> None:
    """The saved program gives the same values in a fresh process."""
    dynamic = bool(case.batch_axes)
    trials = [case.of_size(args, size) for size in _SIZES] if dynamic else [args]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.export.save(_program(case, args, dynamic=dynamic), folder / "program.pt2")
        torch.save([_tensors(case, trial) for trial in trials], folder / "arguments.pt")
        worker(0).start("load_export", folder, module=case.op.reference.__module__)
        worker(0).finish()
        values = torch.load(folder / "values.pt", weights_only=True)
    for value, trial in zip(values, trials, strict=True):
        same(value, case.expected(trial), "saved program in a fresh process")


def unpickles(case: Case, args: Args) -> None:
    """A pickled module gives the same values in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "module.pickle").write_bytes(pickle.dumps(Holder(case.op, args)))
        worker(0).start("unpickle", folder)
        worker(0).finish()
        value = torch.load(folder / "values.pt", weights_only=True)
    same(value, case.expected(args), "pickled module in a fresh process")


def _tensors(case: Case, args: Args) -> tuple[Tensor, ...]:
    return tuple(args[i] for i in case.tensors(args))


ROWS = (
    Row("deploy", "export", exports, (when.tensors,), every_sample=True),
    Row("deploy", "export dynamic batch", exports_dynamic, (when.tensors, when.batch)),
    Row("deploy", "reload in a fresh process", reloads, (when.tensors, when.importable)),
    Row("deploy", "unpickle in a fresh process", unpickles, (when.importable,)),
)
