"""Calling a model to look into it: checked tokens, evaluation mode, the letters as columns."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from biolayers.alphabet import DNA, Alphabet
from biolayers.encoding import one_hot
from shared.errors import UserError

Model = Callable[..., Any]


def alphabet_of(alphabet: Alphabet | str) -> Alphabet:
    """An alphabet by its letters."""
    if isinstance(alphabet, Alphabet):
        return alphabet
    return DNA if alphabet == DNA.letters else Alphabet(alphabet)


def check_tokens(name: str, tokens: Tensor) -> None:
    """Tokens (b, l) that are not empty.

    Raises:
        UserError: They are not.
    """
    if tokens.dtype != torch.uint8 or tokens.ndim != 2:
        raise UserError(
            f"{name}: expected tokens (b, l) of dtype uint8, received {tuple(tokens.shape)} of dtype "
            f"{str(tokens.dtype).removeprefix('torch.')}; encode text with an Alphabet, e.g. biolayers.DNA"
        )
    if tokens.numel() == 0:
        raise UserError(f"{name}: expected at least one sequence of at least one letter, received "
                        f"{tuple(tokens.shape)}")  # fmt: skip


@contextlib.contextmanager
def evaluation(model: Model) -> Iterator[None]:
    """Within the block dropout is off and norms use their running statistics; each module goes back after."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    were = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, training in zip(modules, were, strict=True):
            module.training = training


def columns(tokens: Tensor, alphabet: Alphabet, model: Model) -> Tensor:
    """The letters as one channel each, (b, letters, l), in the dtype of the model's parameters."""
    return one_hot(tokens, alphabet, _dtype(model))


def _dtype(model: Model) -> torch.dtype:
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())


def predict(name: str, model: Model, inputs: Tensor) -> Tensor:
    """The model's output, which must be one tensor with a row for each input.

    Raises:
        UserError: It is something else.
    """
    found = model(inputs)
    if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(inputs):
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(
            f"{name}: expected a model that returns a tensor (b, ...) for {len(inputs)} sequences, received "
            f"{shown}; wrap it in a function that returns the output of interest"
        )
    return found
