"""One view of the many spellings of a call: module, function or method, by kind and named arguments.

A row of a table gives the kind of a callable and the names of its arguments in order, with their defaults.
Rules match kinds and never ask how a user wrote something.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

REQUIRED = object()

# kind -> the names of its arguments after the first tensor `x`, with defaults
SIGNATURES: dict[str, dict[str, Any]] = {
    "conv1d": {"weight": REQUIRED, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    "one_hot": {"num_classes": -1},
    "relu": {"inplace": False},
    "gelu": {"approximate": "none"},
    "exp": {},
    "max_pool1d": {
        "kernel_size": REQUIRED,
        "stride": None,
        "padding": 0,
        "dilation": 1,
        "ceil_mode": False,
        "return_indices": False,
    },
    "avg_pool1d": {
        "kernel_size": REQUIRED,
        "stride": None,
        "padding": 0,
        "ceil_mode": False,
        "count_include_pad": True,
    },
    "transpose": {"dim0": REQUIRED, "dim1": REQUIRED},
    "permute": {"dims": REQUIRED},
    "contiguous": {},
    "long": {},
    "float": {},
    "double": {},
    "to": {"dtype": REQUIRED},
}

FUNCTIONS: dict[Callable, str] = {
    F.conv1d: "conv1d",
    torch.conv1d: "conv1d",
    F.one_hot: "one_hot",
    torch._C._nn.one_hot: "one_hot",  # type: ignore[attr-defined]  # what Dynamo writes
    F.relu: "relu",
    torch.relu: "relu",
    F.gelu: "gelu",
    torch._C._nn.gelu: "gelu",  # type: ignore[attr-defined]
    torch.exp: "exp",
    F.max_pool1d: "max_pool1d",
    torch.max_pool1d: "max_pool1d",
    F.avg_pool1d: "avg_pool1d",
    torch.transpose: "transpose",
    torch.swapaxes: "transpose",
    torch.permute: "permute",
}

METHODS = {
    "relu": "relu",
    "exp": "exp",
    "transpose": "transpose",
    "swapaxes": "transpose",
    "permute": "permute",
    "contiguous": "contiguous",
    "long": "long",
    "float": "float",
    "double": "double",
    "to": "to",
    "type": "to",
}

# class -> kind and what the call's arguments are; parameters are given by their names in the module
MODULES: dict[type[nn.Module], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    nn.Conv1d: (
        "conv1d",
        lambda m: {
            "stride": m.stride,
            "padding": m.padding,
            "dilation": m.dilation,
            "groups": m.groups,
            "padding_mode": m.padding_mode,
        },
    ),
    nn.ReLU: ("relu", lambda m: {"inplace": m.inplace}),
    nn.GELU: ("gelu", lambda m: {"approximate": m.approximate}),
    nn.MaxPool1d: (
        "max_pool1d",
        lambda m: {
            "kernel_size": m.kernel_size,
            "stride": m.stride,
            "padding": m.padding,
            "dilation": m.dilation,
            "ceil_mode": m.ceil_mode,
            "return_indices": m.return_indices,
        },
    ),
    nn.AvgPool1d: (
        "avg_pool1d",
        lambda m: {
            "kernel_size": m.kernel_size,
            "stride": m.stride,
            "padding": m.padding,
            "ceil_mode": m.ceil_mode,
            "count_include_pad": m.count_include_pad,
        },
    ),
}


def named(kind: str, args: tuple, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """The first tensor and the named arguments of a call, or None where it is written in a way not listed."""
    signature = SIGNATURES[kind]
    given = dict(kwargs)
    first = args[0] if args else given.pop("input", given.pop("self", None))
    rest = args[1:]
    if kind == "permute" and rest and isinstance(rest[0], int):
        rest = (rest,)  # x.permute(0, 2, 1)
    if first is None or len(rest) > len(signature):
        return None
    found = dict(zip(signature, rest, strict=False))
    if set(given) - (set(signature) - set(found)):
        return None
    found = {**signature, **found, **given}
    return None if REQUIRED in found.values() else (first, found)
