"""The ops declared so far, by name: our own, and those of installed plug-ins (`qbio.ops` entry points)."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from shared.errors import UserError

if TYPE_CHECKING:
    from shared.declare import Op

_DECLARED: dict[str, Op] = {}


def registry() -> dict[str, Op]:
    """All ops declared so far, by name, those of installed plug-ins (`qbio.ops` entry points) included."""
    load_plugins()
    return dict(_DECLARED)


@functools.cache
def load_plugins() -> None:
    """Import what plug-ins name, once.

    Raises:
        UserError: a plug-in does not import.
    """
    for entry in entry_points(group="qbio.ops"):
        try:
            entry.load()
        except Exception as error:
            source = entry.dist.name if entry.dist else "an unknown package"
            raise UserError(
                f"plug-in {entry.name!r} of {source}: expected {entry.value} to import, received "
                f"{type(error).__name__}: {error}; repair or uninstall {source}"
            ) from error


def make_room(op: Op) -> None:
    """Take back what an earlier declaration of the same name registered, if it may be replaced.

    Raises:
        ValueError: another module declared it.
    """
    known = _DECLARED.get(op.name)
    if known is None:
        return
    if known.reference.__module__ != op.reference.__module__:
        raise ValueError(
            f"op {op.name!r} is already declared in {known.reference.__module__}; choose another name"
        )
    known.library._destroy()  # a notebook cell or a reloaded module declares again


def add(op: Op) -> None:
    """Keep an op under its name."""
    _DECLARED[op.name] = op


def restore(module: str, name: str) -> Op:
    """The op of this name, whose declaration is in `module`: how ops are unpickled."""
    if name not in _DECLARED:
        importlib.import_module(module)
    return _DECLARED[name]
