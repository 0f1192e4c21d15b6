"""From a module and example inputs to the program that `torch.export` makes of it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared.export.errors import ExportError

FOREIGN = (
    r".*isinstance\(treespec, LeafSpec\).* is deprecated.*",
    "A model attribute .* requires gradient",  # a constant of the model may; nobody asks for it here
)


def tuple_of(example_inputs: Any, *, who: str) -> tuple[Tensor, ...]:
    """The example inputs as a tuple of tensors.

    Raises:
        ExportError: they are something else.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if not isinstance(inputs, (tuple, list)) or not inputs or not all(isinstance(x, Tensor) for x in inputs):
        kinds = [type(x).__name__ for x in inputs] if isinstance(inputs, (tuple, list)) else type(inputs)
        raise ExportError(
            f"{who}: expected example_inputs as a tensor or a tuple of tensors, received {kinds}; give what "
            "the model's forward takes, in order"
        )
    return tuple(x.detach() for x in inputs)


def of_several(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs with at least two samples: a batch of one would be taken for a fixed size.

    Raises:
        ExportError: the inputs have no batch in common.
    """
    sizes = {x.shape[0] if x.ndim else None for x in inputs}
    if len(sizes) != 1 or None in sizes or sizes == {0}:
        raise ExportError(
            "dynamic_batch: expected inputs (b, ...) with one b of at least 1, received shapes "
            f"{', '.join(str(tuple(x.shape)) for x in inputs)}; give dynamic_batch=False"
        )
    return inputs if sizes != {1} else tuple(torch.cat([x, x]) for x in inputs)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model is in evaluation within this block; afterwards all modes are as before."""
    modes = [(each, each.training) for each in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


@contextmanager
def foreign_remarks_ignored() -> Iterator[None]:
    """Hush the warnings that PyTorch's exporter gives about itself, within this block."""
    with warnings.catch_warnings():
        for message in FOREIGN:
            warnings.filterwarnings("ignore", message=message)
        yield


def program_of(
    model: nn.Module, inputs: tuple[Tensor, ...], *, dynamic_batch: bool
) -> torch.export.ExportedProgram:
    """The model in its present mode as a program; the first axis of all inputs is free if so wanted.

    Raises:
        ExportError: the model is no single graph, or its batch is fixed.
    """
    axes: Any = None
    if dynamic_batch:
        axes, inputs = torch.export.ShapesCollection(), tuple(x.view_as(x) for x in inputs)
        for x in inputs:  # each a tensor of its own, since they are told apart by identity
            axes[x] = {0: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad():
            return torch.export.export(model, inputs, dynamic_shapes=axes, strict=False)
    except Exception as error:  # tracing runs the user's code, which fails in many ways
        raise ExportError(_why(model, error, dynamic_batch)) from error


def _why(model: nn.Module, error: Exception, dynamic_batch: bool) -> str:
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    what = f"{type(model).__name__} cannot be traced to one graph: {line}"
    if dynamic_batch and type(error).__name__ in ("UserError", "ConstraintViolationError"):
        return f"{what}; if its batch has one size only, give dynamic_batch=False"
    return what
