"""Every op that models use has a form in ONNX, and gives there what its reference gives."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qlayers.ops  # noqa: F401
import shared
from shared.export import ExportError
from shared.export.lowering import Given, lowerings

NO_FORM = {  # a decomposition into eigenvalues, and derivatives within the definition
    "qlayers::entropy",
    "biolayers::hmm_posterior",
    "biolayers::hmm_viterbi",
}
FEW = {  # in every run; the others where QBIO_MATRIX=all, since each takes seconds
    "biolayers::long_conv",
    "biolayers::motif_best",
    "biolayers::rc_token_conv1d",
    "biolayers::token_conv1d_max_pool",
    "qlayers::pauli_evolve",
}
OPS = {
    name: op
    for name, op in sorted(shared.registry().items())
    if name.startswith(("biolayers::", "qlayers::"))
    and not name.endswith(("_vjp", "_backward", "_grad", "_counts"))
}
ALL = os.environ.get("QBIO_MATRIX") == "all"


class Call(nn.Module):
    """An op of a batch, all else being known."""

    def __init__(self, op: shared.Op, args: tuple, batched: list[int]) -> None:
        super().__init__()
        self._op, self._batched = op, batched
        self._plain = [None if isinstance(a, Tensor) else a for a in args]
        for i, a in enumerate(args):
            if isinstance(a, Tensor) and i not in batched:
                self.register_buffer(f"argument_{i}", a)

    def forward(self, *given: Tensor):
        args = [getattr(self, f"argument_{i}", a) for i, a in enumerate(self._plain)]
        for i, a in zip(self._batched, given, strict=True):
            args[i] = a
        return self._op(*args)


def call(name: str) -> tuple[Call, tuple[Tensor, ...], bool]:
    op = OPS[name]
    args = next(iter(op.sample_arguments()))
    args = tuple(a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
    axes = op.batch_axes or {}
    batched = [op.parameters.index(each) for each in axes] or [op.tensor_positions[0]]
    free = bool(axes) and not any(axes.values())
    return Call(op, args, batched), tuple(args[i] for i in batched), free


@pytest.mark.parametrize("name", sorted(OPS.keys() - NO_FORM) if ALL else sorted(FEW))
def test_op_in_onnxruntime(name: str, tmp_path: Path) -> None:
    model, inputs, free = call(name)
    report = shared.export_onnx(model, tmp_path / "op.onnx", inputs, dynamic_batch=free)
    assert report.difference < 1e-5


@pytest.mark.parametrize("name", sorted(NO_FORM) if ALL else ["qlayers::entropy"])
def test_op_without_a_form(name: str, tmp_path: Path) -> None:
    model, inputs, free = call(name)
    with pytest.raises(ExportError, match=name if name == "qlayers::entropy" else "no form in ONNX"):
        shared.export_onnx(model, tmp_path / "op.onnx", inputs, dynamic_batch=free)


@pytest.mark.parametrize(
    "name", [name for name in OPS if name.startswith("biolayers::") and name in lowerings()]
)
def test_lowering_of_every_sample(name: str) -> None:
    """In PyTorch, which is quick: each sample of the op, with its batch given later."""
    op = OPS[name]
    for args in op.sample_arguments():
        batched = [op.parameters.index(each) for each in op.batch_axes or {}]
        known = [Given(a.shape, a.dtype) if i in batched else a for i, a in enumerate(args)]
        module = lowerings()[name](*known)
        assert module is not None
        found, wanted = module(*(args[i] for i in batched)), op.reference(*args)
        for ours, theirs in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, wanted)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
