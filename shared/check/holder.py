"""A module that calls an op on arguments of its own: what a layer built on the op looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shared.check.case import Args, is_inexact
from shared.declare import Op


class Holder(nn.Module):
    """Holds an op's arguments: floating tensors as parameters, other tensors as buffers, values as they are.

    Arguments named in `inputs` are left to `forward`. With `scaled`, floating inputs are multiplied by a
    parameter first, so that there is one even where every floating argument is an input.
    """

    def __init__(self, op: Op, args: Args, inputs: tuple[int, ...] = (), *, scaled: bool = False) -> None:
        super().__init__()
        self.op = op
        self.inputs = inputs
        self.plain: dict[int, Any] = {}
        for i, value in enumerate(args):
            if i in inputs:
                continue
            if is_inexact(value):
                self.register_parameter(f"argument{i}", nn.Parameter(value.detach().clone()))
            elif isinstance(value, Tensor):
                self.register_buffer(f"argument{i}", value.clone())
            else:
                self.plain[i] = value
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64)) if scaled else None

    def forward(self, *inputs: Tensor) -> Any:
        given: Mapping[int, Any] = dict(zip(self.inputs, inputs, strict=True))
        if self.scale is not None:
            given = {i: v * self.scale if is_inexact(v) else v for i, v in given.items()}
        return self.op(*(self._argument(i, given) for i in range(len(self.op.parameters))))

    def _argument(self, i: int, given: Mapping[int, Any]) -> Any:
        if i in given:
            return given[i]
        return self.plain[i] if i in self.plain else getattr(self, f"argument{i}")
