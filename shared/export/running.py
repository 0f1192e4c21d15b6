"""Exported graphs run in onnxruntime, on one thread, and compared with PyTorch."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shared.export.errors import ExportError
from shared.export.needs import module
from shared.export.report import Scores

FAR = 1e-3  # of the largest value: beyond rounding, so something is wrong


def runner(model: str | Path | bytes) -> Callable[..., list[Tensor]]:
    """The graph as a function of tensors.

    Raises:
        ExportError: onnxruntime has no kernel for it.
    """
    ort = module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of exceptions for each of its states
        raise ExportError(f"onnxruntime cannot run the graph: {_first(error)}") from error
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        given = dict(zip(names, (x.detach().cpu().numpy() for x in inputs), strict=True))
        return [torch.from_numpy(out) for out in session.run(None, given)]

    return run


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def difference(run: Callable[..., list[Tensor]], model: Any, inputs: Sequence[Tensor]) -> float:
    """The largest difference of an output.

    Raises:
        ExportError: it is more than rounding.
    """
    with torch.no_grad():
        wanted = [out for out in pytree.tree_leaves(model(*inputs)) if isinstance(out, Tensor)]
    found, largest = run(*inputs), 0.0
    for ours, theirs in zip(found, wanted, strict=True):
        if not theirs.numel():
            continue
        apart = float((ours.double() - theirs.detach().cpu().double()).abs().max())
        if not apart <= FAR * max(1.0, float(theirs.abs().max())):
            raise ExportError(
                f"The exported graph gives other results than the model, {apart:.1e} apart; nothing is "
                "written. Models whose path depends on values cannot be exported."
            )
        largest = max(largest, apart)
    return largest


def scores(
    run: Callable[..., list[Tensor]], model: Any, batches: Iterable[tuple[tuple[Tensor, ...], Tensor]]
) -> Scores:
    """Accuracy before and after on batches (inputs, labels (b,)); the first output are the logits."""
    right, right_after, same, count = 0, 0, 0, 0
    for inputs, labels in batches:
        with torch.no_grad():
            before = pytree.tree_leaves(model(*inputs))[0].argmax(-1).cpu()
        after = run(*inputs)[0].argmax(-1)
        right, right_after = right + int((before == labels).sum()), right_after + int((after == labels).sum())
        same, count = same + int((before == after).sum()), count + len(labels)
    if not count:
        raise ExportError("evaluation: expected at least one record, received none")
    return Scores(right / count, right_after / count, same / count, count)
