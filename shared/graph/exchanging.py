"""One module for another that computes the same, wherever it stands in a model."""

from collections.abc import Sequence

from torch import nn

from shared.graph.report import Change, place_of
from shared.graph.rules import Exchange
from shared.graph.scene import hooked
from shared.graph.twins import with_children


def exchanged(
    module: nn.Module,
    rules: Sequence[Exchange],
    path: str,
    changes: list[Change],
    known: dict[nn.Module, nn.Module],
) -> nn.Module:
    """The module, or one in which submodules are exchanged, each by the first rule that takes it."""
    if module not in known:
        known[module] = _exchange(module, rules, path, changes, known)
    return known[module]


def _exchange(
    module: nn.Module,
    rules: Sequence[Exchange],
    path: str,
    changes: list[Change],
    known: dict[nn.Module, nn.Module],
) -> nn.Module:
    for rule in rules:
        found = None if hooked(module) else rule.exchange(module)
        if found is not None:
            new, before, after = found
            changes.append(Change(rule.name, path, before, after))
            return new.train(module.training)
    return with_children(
        module, lambda name, child: exchanged(child, rules, place_of(path, name), changes, known)
    )
