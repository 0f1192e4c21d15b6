"""Rules as data: a name, the equation that it applies, and a function that rewrites one place.

A package contributes its rules by naming a `Rules` in the entry-point group `qbio.passes`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from torch import fx, nn

from shared.errors import UserError

if TYPE_CHECKING:
    from shared.graph.scene import Scene


class Refused(Exception):  # noqa: N818  it is an answer, not an error
    """Raised by a rule that knows the place but cannot prove that its rewrite changes nothing."""


@dataclass(frozen=True)
class Rule:
    """One equation between pieces of a model.

    Args:
        name: in reports and in `passes=`.
        equation: what equals what, in a line.
        rewrite: looks at a node; returns None where there is nothing for it, or changes the graph and returns
            what stood there before and what stands there now.
    """

    name: str
    equation: str
    rewrite: Callable[["Scene", fx.Node], tuple[str, str] | None]


@dataclass(frozen=True)
class Exchange:
    """A module that does the same as another, with the same parameters under the same names.

    Args:
        name: in reports and in `passes=`.
        equation: what equals what, in a line.
        exchange: looks at a module; returns None, or the module that takes its place, what the old one is
            called in reports, and what the new one is.
    """

    name: str
    equation: str
    exchange: Callable[[nn.Module], tuple[nn.Module, str, str] | None]


@dataclass(frozen=True)
class Rules:
    """What a package contributes.

    Args:
        rules: in the order in which they are tried.
        leaf: says of a module whether it is one call in the graph, and not traced into.
        before_compiling: called before Dynamo traces anything, in processes that ask for `backend="qbio"`; it
            may teach Dynamo what it cannot trace, see `shared.graph.compiling`.
    """

    rules: tuple[Rule | Exchange, ...]
    leaf: Callable[[nn.Module], bool] = lambda module: False
    before_compiling: Callable[[], None] = lambda: None


@functools.cache
def installed() -> tuple[Rules, ...]:
    """The rules of every installed package.

    Raises:
        UserError: a package's rules do not import.
    """
    found = []
    for entry in sorted(entry_points(group="qbio.passes"), key=lambda entry: entry.name):
        try:
            found.append(entry.load())
        except Exception as error:
            source = entry.dist.name if entry.dist else "an unknown package"
            raise UserError(
                f"rules {entry.name!r} of {source}: expected {entry.value} to import, received "
                f"{type(error).__name__}: {error}; repair or uninstall {source}"
            ) from error
    return tuple(found)


def is_leaf(module: nn.Module) -> bool:
    """Whether a package says that the module is one call."""
    return any(rules.leaf(module) for rules in installed())


def chosen(names: Sequence[str] | None) -> tuple[Rule | Exchange, ...]:
    """The rules of these names, or all.

    Raises:
        UserError: there is no rule of a name.
    """
    known = {rule.name: rule for rules in installed() for rule in rules.rules}
    if names is None:
        return tuple(known.values())
    for name in names:
        if name not in known:
            raise UserError(f"passes: expected names among {', '.join(known)}, received {name!r}")
    return tuple(known[name] for name in names)
