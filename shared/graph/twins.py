"""Modules with the parameters of others, so that a changed copy and the model learn the same."""

from collections.abc import Callable, Mapping

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
    return type(second.__name__, (first, second), {"__module__": second.__module__})
