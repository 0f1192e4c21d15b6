"""One first layer evaluated on both strands: one call for the two.

A row of letters and its reverse complement meet the same filters. The other strand's results are those of the
filters' reverse complements on the given strand, from the last position to the first; so one call with twice
the filters reads the letters once.
"""

import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from biolayers.ops import rc_token_conv1d, token_conv1d
from biolayers.ops.rc_token_conv1d import both_strands
from biolayers.passes.averaging import averaged, averaged_over_all
from biolayers.passes.nodes import arguments, discard, is_conv, same
from biolayers.passes.pooling import pooled, pooled_over_all
from biolayers.passes.tokens import turned
from shared.graph import Refused, Scene

Pair = tuple[Tensor, Tensor]


def convolved_strands(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int
) -> Pair:
    """`token_conv1d` of the given strand and of the other one, (b, out, l') each.

    Where a stride leaves a rest, windows of the two strands lie elsewhere, and each has a call of its own.

    Example:
        >>> import torch
        >>> weight, acc = torch.randn(3, 4, 2), torch.tensor([[0, 1, 1]], dtype=torch.uint8)
        >>> given, other = convolved_strands(acc, weight, None, 1, 0, 1)
        >>> ggt = torch.tensor([[2, 2, 3]], dtype=torch.uint8)
        >>> torch.allclose(other, token_conv1d(ggt, weight), atol=1e-6)
        True
    """
    args = (weight, bias, stride, padding, dilation)
    if _rest(tokens, weight, *args[2:]):
        return token_conv1d(tokens, *args), token_conv1d(_other(tokens, weight), *args)
    return _split(rc_token_conv1d(tokens, *args), len(weight))


def pooled_strands(tokens: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Pair:
    """`pooled` of the given strand and of the other one, with its arguments, (b, out, q) each."""
    return _in_windows(pooled, tokens, weight, bias, *options)


def averaged_strands(tokens: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Pair:
    """`averaged` of the given strand and of the other one, with its arguments, (b, out, q) each."""
    return _in_windows(averaged, tokens, weight, bias, *options)


def strands_over_all(tokens: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Pair:
    """`pooled_over_all` of the given strand and of the other one, with its arguments, (b, out, 1) each."""
    return _of_both(pooled_over_all, tokens, weight, bias, *options)


def averaged_strands_over_all(tokens: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Pair:
    """`averaged_over_all` of the given strand and of the other one, with its arguments, (b, out, 1) each."""
    return _of_both(averaged_over_all, tokens, weight, bias, *options)


def _in_windows(
    function: Callable[..., Tensor], tokens: Tensor, weight: Tensor, bias: Tensor | None, *options: Any
) -> Pair:
    stride, padding, dilation, _, size, step, _ = options
    positions = _positions(tokens, weight, stride, padding, dilation)
    apart = (positions - size) % step != 0  # windows laid from the other end lie elsewhere
    return _of_both(function, tokens, weight, bias, *options, apart=apart)


def _of_both(
    function: Callable[..., Tensor],
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *options: Any,
    apart: bool = False,
) -> Pair:
    """One call with the filters of both strands, or two where windows lie elsewhere."""
    if apart or _rest(tokens, weight, *options[:3]):
        args = (weight, bias, *options)
        return function(tokens, *args), function(_other(tokens, weight), *args)
    return _split(function(tokens, both_strands(weight), _both(bias), *options), len(weight))


_PAIRS: dict[Callable[..., Any], Callable[..., Pair]] = {
    token_conv1d: convolved_strands,
    pooled: pooled_strands,
    pooled_over_all: strands_over_all,
    averaged: averaged_strands,
    averaged_over_all: averaged_strands_over_all,
}


def merge_strands(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """Two calls with the same filters, one on the letters and one on their reverse complement, become one."""
    function = _PAIRS.get(node.target) if node.op == "call_function" else None  # type: ignore[arg-type]
    if function is None or not _is_other(node.args[0]):
        return None
    tokens, *rest = _arguments(node)
    given = tokens.args[0]
    found = [
        each
        for each in scene.graph.find_nodes(op="call_function", target=node.target)
        if each.args[0] is given
    ]
    if not found:
        return None
    alike = [each for each in found if all(map(same, _arguments(each)[1:], rest))]
    if not alike:
        raise Refused("the two strands do not meet the same filters in the same windows")
    if scene.training and not is_conv(node):
        raise Refused(
            "a training step with one call for both strands takes longer than with two where they pool"
        )
    _put(scene, function, alike[0], node, (given, *rest))
    discard(scene, tokens)
    return f"{_name(node)} of each strand", "one call for both strands"


def _put(scene: Scene, function: Callable[..., Pair], one: fx.Node, two: fx.Node, args: tuple) -> None:
    first = min(one, two)
    with scene.graph.inserting_before(first):
        held = [scene.graph.node_copy(arg) if _is_held(arg) else arg for arg in args]
        both = scene.graph.call_function(function, tuple(held))
        for i, old in enumerate((one, two)):
            new = scene.graph.call_function(operator.getitem, (both, i))
            if old.name in scene.values:
                scene.values[new.name] = scene.values[old.name]
            old.replace_all_uses_with(new)
    discard(scene, one, two)


def _is_held(arg: Any) -> bool:
    return isinstance(arg, fx.Node) and arg.op == "get_attr"


def _is_other(node: Any) -> bool:
    """Whether a node is the reverse complement of what its first argument is."""
    return isinstance(node, fx.Node) and node.target is turned and node.args[2:] == (True, True)


def _arguments(node: fx.Node) -> tuple:
    return arguments(node) if is_conv(node) else node.args


def _name(node: fx.Node) -> str:
    if is_conv(node):
        return "token_conv1d"
    return f"token_conv1d_{'max' if node.target in (pooled, pooled_over_all) else 'avg'}_pool"


def _other(tokens: Tensor, weight: Tensor) -> Tensor:
    return turned(tokens, weight.shape[1], True, True)


def _both(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else both_strands(bias)


def _split(both: Tensor, out: int) -> Pair:
    given, other = both.unflatten(1, (2, out)).unbind(1)  # whose gradient is one copy, that of slices three
    return given, other.flip(1, 2)


def _rest(tokens: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> bool:
    """Whether windows laid from the other end would lie elsewhere."""
    reach = dilation * (weight.shape[2] - 1) + 1
    return stride > 1 and (tokens.shape[1] + 2 * padding - reach) % stride != 0


def _positions(tokens: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> int:
    reach = dilation * (weight.shape[2] - 1) + 1
    return (tokens.shape[1] + 2 * padding - reach) // stride + 1
