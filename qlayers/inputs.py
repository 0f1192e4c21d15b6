"""The data of a layer: one tensor, or several by name, which broadcast and are laid side by side."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.errors import UserError

Features = int | tuple[int, ...]  # of the one input, or of each of several


def names_of(input_arg: str | Sequence[str]) -> tuple[str, ...]:
    """The names of the data arguments, in order.

    >>> names_of("inputs"), names_of(["x", "t"])
    (('inputs',), ('x', 't'))
    """
    names = (input_arg,) if isinstance(input_arg, str) else tuple(input_arg)
    if not names or len(set(names)) != len(names):
        raise UserError(f"input_arg: expected one name or different names, received {input_arg!r}.")
    return names


def features_of(names: Sequence[str], features: int | Mapping[str, int]) -> Features:
    """Numbers of features as a layer keeps them.

    >>> features_of(["inputs"], 4), features_of(["x", "t"], {"t": 1, "x": 3})
    (4, (3, 1))
    """
    if isinstance(features, Mapping):
        if set(features) != set(names):
            raise UserError(
                f"features: expected a number for each of the inputs {', '.join(names)}, received "
                f"{dict(features)}."
            )
        found = tuple(int(features[name]) for name in names)
        return found[0] if len(found) == 1 else found
    if len(names) > 1:
        raise UserError(
            f"features: expected a mapping with a number for each of the inputs {', '.join(names)}, "
            f"received {features!r}."
        )
    return int(features)


def total(features: Features) -> int:
    """The number of features of all inputs together."""
    return features if isinstance(features, int) else sum(features)


def joined(
    names: Sequence[str],
    first: Tensor | Mapping[str, Tensor] | None,
    more: Sequence[Tensor],
    named: Mapping[str, Tensor],
) -> tuple[Tensor, Features | None]:
    """What a layer was called with as one tensor.

    Args:
        names: of the data arguments.
        first: the first positional argument, or a mapping with all data.
        more: further positional arguments, in the order of the names.
        named: keyword arguments.

    Returns:
        (..., total) with the leading dimensions broadcast together, in the dtype that all promote to; and the
        features of each input, None if there is only one.

    Raises:
        UserError: arguments are missing, unknown, given twice or no tensors, or do not broadcast.
    """
    given = _by_name(names, first, more, named)
    wrong = [name for name in names if name not in given], [name for name in given if name not in names]
    if any(wrong):
        missing, unknown = (", ".join(some) or "none" for some in wrong)
        raise UserError(
            f"This layer takes the data {', '.join(names)}; missing: {missing}; unknown: {unknown}. Call "
            f"layer({', '.join(f'{name}=...' for name in names)}) or pass a dict of tensors."
        )
    tensors = [_checked(name, given[name], alone=len(names) == 1) for name in names]
    if len(tensors) == 1:
        return tensors[0], None
    leading = _broadcast(names, tensors)
    side_by_side = torch.cat([tensor.expand(*leading, tensor.shape[-1]) for tensor in tensors], -1)
    return side_by_side, tuple(tensor.shape[-1] for tensor in tensors)


def _by_name(names: Sequence[str], first, more: Sequence, named: Mapping) -> dict:
    if isinstance(first, Mapping):
        positional, given = list(more), {**first}
    else:
        # "inputs" is what the layer calls its first argument, and may be the name of another one as well
        other = first is not None and not more and names[0] in named and "inputs" in names[1:]
        positional = [] if first is None or other else [first, *more]
        given = {"inputs": first} if other else {}
    if len(positional) > len(names):
        raise UserError(
            f"This layer takes the data {', '.join(names)}, received {len(positional)} arguments."
        )
    given.update(zip(names, positional, strict=False))
    if twice := given.keys() & named.keys():
        raise UserError(f"The data {', '.join(sorted(twice))} is given twice; pass it once.")
    return {**given, **named}


def _checked(name: str, value, *, alone: bool) -> Tensor:
    if not isinstance(value, Tensor):
        raise UserError(
            f"The data {name}: expected a tensor, received {type(value).__name__}; use torch.as_tensor."
        )
    if not alone and (not value.ndim or not value.is_floating_point()):
        raise UserError(
            f"The data {name}: expected a floating tensor of shape (..., features), received {value.dtype} "
            f"of shape {tuple(value.shape)}; use {name}.float() or {name}.unsqueeze(-1)."
        )
    return value


def _broadcast(names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[int, ...]:
    try:
        return torch.broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip(names, tensors, strict=True))
        raise UserError(
            "The data of a layer: expected shapes (..., features) whose leading dimensions broadcast, "
            f"received {shapes}."
        ) from None
