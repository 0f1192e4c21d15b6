"""What a traced forward took from its modules besides parameters: numbers and flags that a graph holds fast.

A graph has the value of `self.scale` from the day of tracing. So what the forward reads is noted while it is
traced, and looked at again before the graph runs; where something is another, the model's own forward runs.
"""

import copy
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import fx, nn

from shared.graph import calls
from shared.graph.identities import DROPOUTS

_OWN = frozenset(nn.Module().__dict__) - {"training"}  # what every module has, and no user sets
_TRACERS = ("torch.fx.", "torch.nn.modules.module", "shared.graph.")  # they read for themselves
_SIMPLE = (int, float, bool, complex, str, bytes, type(None), torch.dtype, torch.device, torch.layout)
_MISSING = object()


class ChangedSinceWarning(UserWarning):
    """An attribute changed that an optimized graph holds fast."""


@dataclass(frozen=True)
class Reading:
    """That a module, by its path, had a value for an attribute, or a submodule.

    The value of `training` is none of its own: it is that of the whole.
    """

    path: str
    name: str
    value: Any


@dataclass
class Readings:
    """What was read while a module was traced."""

    found: dict[tuple[int, str], tuple[nn.Module, Any]] = field(default_factory=dict)

    def of(self, root: nn.Module) -> list[Reading]:
        """By the paths of modules in the one that was traced."""
        path = {id(module): name for name, module in root.named_modules()}
        return [
            Reading(path[id(module)], name, value)
            for (_, name), (module, value) in self.found.items()
            if id(module) in path and not (module is root and name == "training")
        ]

    def written(self) -> str | None:
        """An attribute that is another now, since the forward sets what it reads; None without one."""
        for (_, name), (module, value) in self.found.items():
            if name != "training" and _differs(getattr(module, name, _MISSING), value):
                return name
        return None


@contextmanager
def recorded() -> Iterator[Readings]:
    """Within this block the plain attributes that code of this thread reads from modules are noted."""
    readings, thread = Readings(), threading.get_ident()

    def read(module: nn.Module, name: str) -> Any:
        value = object.__getattribute__(module, name)
        if name in _OWN or name.startswith("__") or threading.get_ident() != thread or not _is_plain(value):
            return value
        if not sys._getframe(1).f_globals.get("__name__", "").startswith(_TRACERS):
            readings.found.setdefault((id(module), name), (module, copy.deepcopy(value)))
        return value

    with patch.object(nn.Module, "__getattribute__", read, create=True):
        yield readings


def of_replaced(root: nn.Module, before: Iterable[str], graph: fx.Graph) -> list[Reading]:
    """What rules took from the modules, by path, that were called before and are called no more."""
    left = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    found: list[Reading] = []
    for path in sorted(set(before) - left):
        module = root.get_submodule(path)
        found += [Reading(path, name, copy.deepcopy(getattr(module, name))) for name in _options(module)]
        parent, _, name = path.rpartition(".")
        found.append(Reading(parent, name, module))
    return found


def called(graph: fx.Graph) -> list[str]:
    """The paths of the modules that a graph calls."""
    return [str(node.target) for node in graph.nodes if node.op == "call_module"]


def _options(module: nn.Module) -> list[str]:
    """The attributes on which the call of a module depends."""
    if type(module) in DROPOUTS:
        return ["training"]
    if type(module) not in calls.MODULES:
        return []
    _, options = calls.MODULES[type(module)]
    return [name for name in options(module) if hasattr(module, name)]


class Guard:
    """Looks whether the readings of a module still hold.

    Args:
        root: whose forward was traced.
        readings: what was read in it.
        original: the module that it is a copy of, if there is one: whoever sets an attribute there is told
            that the copy does not follow.
    """

    def __init__(
        self, root: nn.Module, readings: Sequence[Reading], original: nn.Module | None = None
    ) -> None:
        self.root = root
        self._told = False
        self.modes: list[nn.Module] = []
        self.children: list[tuple[dict, str, nn.Module]] = []
        self.attributes: list[tuple[nn.Module, str, Any]] = []
        self.elsewhere: list[tuple[nn.Module, str, Any]] = []
        for each in readings:
            self._add(root.get_submodule(each.path), each, original)

    def _add(self, module: nn.Module, each: Reading, original: nn.Module | None) -> None:
        if isinstance(each.value, nn.Module):
            self.children.append((module._modules, each.name, each.value))
        elif each.name == "training":
            self.modes.append(module)
        else:
            self.attributes.append((module, each.name, each.value))
            other = module if original is None else original.get_submodule(each.path)
            if other is not module:
                self.elsewhere.append((other, each.name, each.value))

    def changed(self) -> str | None:
        """The name of something that is another now, or None."""
        if (name := _changed(self.attributes)) is not None:
            return name
        for modules, name, value in self.children:
            if modules.get(name) is not value:
                return name
        mode = self.root.training
        for module in self.modes:
            if module.training is not mode:
                return "training"
        return None

    def changed_elsewhere(self) -> str | None:
        """The name of an attribute that is another now in the original, or None."""
        return _changed(self.elsewhere)

    def tell(self, text: str) -> None:
        """Warn, once."""
        if not self._told and not torch.compiler.is_compiling():
            self._told = True
            warnings.warn(text, ChangedSinceWarning, stacklevel=4)


def _changed(readings: Iterable[tuple[nn.Module, str, Any]]) -> str | None:
    for module, name, value in readings:
        found = getattr(module, name, _MISSING)
        if found is not value and _differs(found, value):
            return name
    return None


def _differs(found: Any, value: Any) -> bool:
    return type(found) is not type(value) or found != value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, _SIMPLE)
