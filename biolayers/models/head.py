"""The last part of a model: a linear layer, or whatever an installed package or the user offers."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from torch import nn

from shared.errors import UserError

Head = Callable[[int, int], nn.Module]  # (features, classes) -> a module from (b, features) to (b, classes)


def heads() -> dict[str, EntryPoint]:
    """The heads of every installed package, by name."""
    return {entry.name: entry for entry in entry_points(group="qbio.heads")}


def head_of(head: Head | str | None) -> Head:
    """What makes a head: `nn.Linear` for None, an entry point of `qbio.heads` by its name, or `head` itself.

    Args:
        head: None, the name of a head that an installed package offers, or a callable.

    Returns:
        A callable from (features, classes) to a module.

    Raises:
        UserError: No installed package offers a head of that name.

    Example:
        >>> head_of(None)(8, 3)
        Linear(in_features=8, out_features=3, bias=True)
    """
    if not isinstance(head, str):
        return nn.Linear if head is None else head
    offered = heads()
    if head not in offered:
        raise UserError(
            f"model: no installed package offers the head {head!r}; choose one of "
            f"{', '.join(sorted(offered)) or 'none: install one first'}, or give a callable"
        )
    return offered[head].load()
