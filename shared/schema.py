"""An op's schema, read from the annotations of its reference."""

import functools
import inspect
import operator
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

import torch


def infer(name: str, reference: Callable[..., Any]) -> str:
    """The schema of `reference`, in which jaxtyping's array types count as `Tensor`.

    Raises:
        ValueError: an annotation is missing or has no place in a schema.

    Example:
        >>> from torch import Tensor
        >>> def scale(x: Tensor, factor: float = 2.0) -> Tensor: ...
        >>> infer("doctest::scale", scale)
        '(Tensor x, float factor=2.0) -> Tensor'
    """
    schema = torch.library.infer_schema(_with_plain_tensors(reference), mutates_args=())
    if "Tensor[]" in schema or "Tensor?[]" in schema:
        raise ValueError(
            f"{name}: expected each tensor as a parameter or output of its own, received {schema}; "
            "transforms and compilers do not carry lists of tensors: stack them, or name them one by one"
        )
    return schema


def _with_plain_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the annotations that `infer_schema` reads."""
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    stand_in.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(annotation=_plain(p.annotation)) for p in signature.parameters.values()],
        return_annotation=_plain(signature.return_annotation),
    )
    return stand_in


def _plain(annotation: Any) -> Any:
    if get_origin(annotation) is tuple:
        return tuple[tuple(map(_plain, get_args(annotation)))]  # type: ignore[misc]
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Union:
        return functools.reduce(operator.or_, map(_plain, get_args(annotation)))
    return getattr(annotation, "array_type", annotation)
