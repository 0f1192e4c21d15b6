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
    "linear": {"weight": REQUIRED, "bias": None},
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
    "adaptive_avg_pool1d": {"output_size": REQUIRED},
    "mean": {"dim": (), "keepdim": False, "dtype": None},
    "conv2d": {"weight": REQUIRED, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    "max_pool2d": {
        "kernel_size": REQUIRED,
        "stride": None,
        "padding": 0,
        "dilation": 1,
        "ceil_mode": False,
        "return_indices": False,
    },
    "adaptive_max_pool1d": {"output_size": REQUIRED, "return_indices": False},
    "batch_norm": {
        "running_mean": REQUIRED,
        "running_var": REQUIRED,
        "weight": None,
        "bias": None,
        "training": False,
        "momentum": 0.1,
        "eps": 1e-5,
    },
    "embedding": {
        "weight": REQUIRED,
        "padding_idx": None,
        "max_norm": None,
        "norm_type": 2.0,
        "scale_grad_by_freq": False,
        "sparse": False,
    },
    "flip": {"dims": REQUIRED},
    "unsqueeze": {"dim": REQUIRED},
    "squeeze": {"dim": REQUIRED},
    "amax": {"dim": (), "keepdim": False},
    "transpose": {"dim0": REQUIRED, "dim1": REQUIRED},
    "permute": {"dims": REQUIRED},
    "contiguous": {},
    "long": {},
    "float": {},
    "double": {},
    "to": {"dtype": REQUIRED},
}

FUNCTIONS: dict[Callable, str] = {
    F.linear: "linear",
    F.conv1d: "conv1d",
    torch.conv1d: "conv1d",
    F.conv2d: "conv2d",
    torch.conv2d: "conv2d",
    F.max_pool2d: "max_pool2d",
    torch.max_pool2d: "max_pool2d",
    F.adaptive_max_pool1d: "adaptive_max_pool1d",
    F.batch_norm: "batch_norm",
    F.embedding: "embedding",
    torch.flip: "flip",
    torch.unsqueeze: "unsqueeze",
    torch.squeeze: "squeeze",
    torch.amax: "amax",
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
    F.adaptive_avg_pool1d: "adaptive_avg_pool1d",
    torch.adaptive_avg_pool1d: "adaptive_avg_pool1d",
    torch.mean: "mean",
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
    "flip": "flip",
    "unsqueeze": "unsqueeze",
    "squeeze": "squeeze",
    "amax": "amax",
    "mean": "mean",
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
    nn.Linear: ("linear", lambda m: {}),
    nn.Conv2d: (
        "conv2d",
        lambda m: {
            "stride": m.stride,
            "padding": m.padding,
            "dilation": m.dilation,
            "groups": m.groups,
            "padding_mode": m.padding_mode,
        },
    ),
    nn.BatchNorm1d: ("batch_norm", lambda m: {"momentum": m.momentum, "eps": m.eps}),
    nn.BatchNorm2d: ("batch_norm", lambda m: {"momentum": m.momentum, "eps": m.eps}),
    nn.Embedding: (
        "embedding",
        lambda m: {
            "padding_idx": m.padding_idx,
            "max_norm": m.max_norm,
            "norm_type": m.norm_type,
            "scale_grad_by_freq": m.scale_grad_by_freq,
            "sparse": m.sparse,
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
    nn.MaxPool2d: (
        "max_pool2d",
        lambda m: {
            "kernel_size": m.kernel_size,
            "stride": m.stride,
            "padding": m.padding,
            "dilation": m.dilation,
            "ceil_mode": m.ceil_mode,
            "return_indices": m.return_indices,
        },
    ),
    nn.AdaptiveMaxPool1d: (
        "adaptive_max_pool1d",
        lambda m: {"output_size": m.output_size, "return_indices": m.return_indices},
    ),
    nn.AdaptiveAvgPool1d: ("adaptive_avg_pool1d", lambda m: {"output_size": m.output_size}),
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
    if kind in ("permute", "flip") and rest and isinstance(rest[0], int):
        rest = (rest,)  # x.permute(0, 2, 1)
    if first is None or len(rest) > len(signature):
        return None
    found = dict(zip(signature, rest, strict=False))
    if set(given) - (set(signature) - set(found)):
        return None
    found = {**signature, **found, **given}
    return None if REQUIRED in found.values() else (first, found)
