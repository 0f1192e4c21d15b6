"""Tensors made of numbers alone, such as positional encodings: computed once for the same numbers."""

import operator
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn

from shared.graph.dead import drop
from shared.graph.duplicates import changed_later, returned
from shared.graph.rules import Refused, Rule
from shared.graph.scene import Scene

ENOUGH = 3  # calls that are worth a look at what was made before
_SIZES = ("size", "dim", "numel")
_FACTS = ("shape", "device", "dtype", "ndim")
_ARITHMETIC = (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)
_MOST = 8  # different numbers that are remembered


class Once:
    """A function of numbers, shapes and dtypes that gives back the tensor that it made for them before.

    What comes back must not be written to.

    Args:
        make: the function.

    Example:
        >>> ramp = Once(lambda n: torch.arange(n) / n)
        >>> ramp(4)
        tensor([0.0000, 0.2500, 0.5000, 0.7500])
        >>> ramp(4) is ramp(4)
        True
    """

    def __init__(self, make: Any) -> None:
        self.__name__ = "once"  # in the code of a graph
        self._make = make
        self._made: OrderedDict[tuple, Tensor] = OrderedDict()

    def __call__(self, *numbers: Any) -> Tensor:
        if torch.compiler.is_compiling() or _elsewhere():
            return self._make(*numbers)
        key = (*numbers, *map(type, numbers), torch.get_default_dtype(), torch.get_default_device())
        found = self._made.get(key)
        if found is None:
            with torch.inference_mode(False), torch.no_grad():
                found = self._made[key] = self._make(*numbers)
            while len(self._made) > _MOST:
                self._made.popitem(last=False)
        return found

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_made": OrderedDict()}

    def __deepcopy__(self, memo: dict) -> "Once":
        return self


def _elsewhere() -> bool:
    """Whether tensors are no real ones now, or are computed in other dtypes."""
    fake = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    return fake is not None or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def compute_once(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """The last of some calls that depend on numbers only becomes one call that remembers."""
    if not scene.observe or not _constant(scene, node):
        return None
    if all(_constant(scene, user) for user in node.users):
        return None  # a later call takes this one along
    made = _made_of(node)
    if len(made) < ENOUGH:
        return None
    if changed_later(scene, node):
        raise Refused("this tensor comes from sizes and numbers alone, but it is changed in place later")
    if returned(scene, node):
        raise Refused(
            "this tensor comes from sizes and numbers alone, but the model returns it, and who gets it may "
            "write to it"
        )
    numbers = dict.fromkeys(each for one in made for each in one.all_input_nodes if each not in made)
    once = Once(_function(scene, made, list(numbers)))
    with scene.graph.inserting_before(node):
        new = scene.graph.call_function(once, tuple(numbers))
    scene.values[new.name] = scene.values[node.name]
    node.replace_all_uses_with(new)
    drop(scene, node)
    return f"{len(made)} calls that make a constant", "one that remembers it"


def _constant(scene: Scene, node: fx.Node) -> bool:
    """Whether a call makes a tensor of numbers and of such tensors, and does nothing else."""
    if node.op not in ("call_function", "call_method") or isinstance(node.target, Once):
        return False
    if scene.value(node) is None or scene.unfree(node):
        return False
    return all(_number(each) or _constant(scene, each) for each in node.all_input_nodes)


def _number(node: fx.Node) -> bool:
    """Whether a call gives a size, a dtype or a device, or computes with sizes."""
    if node.op == "call_method":
        return node.target in _SIZES
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _FACTS
    return node.target in _ARITHMETIC and all(map(_number, node.all_input_nodes))


def _made_of(node: fx.Node) -> list[fx.Node]:
    """The calls that make tensors on the way to this one, itself included, in order."""
    found, open_ = {node}, [node]
    while open_:
        more = [each for each in open_.pop().all_input_nodes if not _number(each)]
        open_ += [each for each in more if each not in found]
        found.update(more)
    return sorted(found)


def _function(scene: Scene, made: list[fx.Node], numbers: list[fx.Node]) -> fx.GraphModule:
    """These calls as a function of the numbers."""
    graph = fx.Graph()
    copies = {each: graph.placeholder(each.name) for each in numbers}
    for each in made:
        copies[each] = graph.node_copy(each, copies.__getitem__)
    graph.output(copies[made[-1]])
    return fx.GraphModule(nn.Module(), graph)


CONSTANTS = Rule("constants", "f(numbers) in each call = f(numbers) once", compute_once)
