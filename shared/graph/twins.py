"""Modules with the parameters of others, so that a changed copy and the model learn the same."""

from collections.abc import Callable, Mapping
from typing import SupportsIndex

from torch import nn


def twin(module: nn.Module, children: Mapping[str, nn.Module | None]) -> nn.Module:
    """A module with the same parameters and buffers, whose submodules are these."""
    new = object.__new__(type(module))
    new.__dict__ = {**module.__dict__, "_modules": dict(children)}
    return new


def with_children(module: nn.Module, change: Callable[[str, nn.Module], nn.Module]) -> nn.Module:
    """The module, or a twin if a child is changed."""
    children = {
        name: None if child is None else change(name, child) for name, child in module._modules.items()
    }
    same = all(children[name] is child for name, child in module._modules.items())
    return module if same else twin(module, children)


def subclass(first: type, second: type) -> type:
    """A class of both; it bears the name of the second, and objects of it can be pickled nevertheless."""
    own = {"__module__": second.__module__, "__reduce_ex__": _reduced, "_made_of": (first, second)}
    return type(second.__name__, (first, second), own)


def _reduced(module: nn.Module, protocol: SupportsIndex) -> tuple:
    return _remade, _parts(type(module)), module.__getstate__()  # type: ignore[attr-defined]


def _parts(kind: type) -> tuple[type, ...]:
    """The classes of which `subclass` made one, the module's own at the end."""
    if "_made_of" not in vars(kind):
        return (kind,)
    first, second = vars(kind)["_made_of"]
    return (first, *_parts(second))


def _remade(*parts: type) -> nn.Module:
    *mixins, kind = parts
    for mixin in reversed(mixins):
        kind = subclass(mixin, kind)
    return object.__new__(kind)


def mixed(mixin: type[nn.Module], module: nn.Module, **held: object) -> nn.Module:
    """A twin whose class puts `mixin` before the module's own class, and that holds some values more."""
    new = twin(module, module._modules)
    new.__dict__.update(held)
    new.__class__ = subclass(mixin, type(module))
    return new
