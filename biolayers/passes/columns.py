"""Where the columns come from that a convolution reads: letters, or rows of a table, however laid out.

The calls between the letters and the convolution are followed back, and then replayed forwards on the names
of the axes: b (batch), l (position), c (class or column), and 1 for an axis of one.
"""

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from biolayers.passes.nodes import once
from biolayers.passes.tokens import known, letters, turned
from shared.graph import Call, Refused, Scene
from shared.graph.scene import Attribute

_CASTS = ("float", "double", "to", "contiguous")
_MOVES = ("transpose", "permute", "flip", "unsqueeze", *_CASTS)
_ALL = slice(None)
_MOST = 255  # letters: tokens are bytes, and one of them is no letter


@dataclass(frozen=True)
class Columns:
    """Columns of floats, and the letters behind them.

    Args:
        tokens: the node of the letters (b, l), integers.
        letters: how many there are.
        width: columns; as many as letters, unless there is a table.
        axes: names of the axes as the convolution sees them.
        flipped: names of the axes that are reversed.
        table: has a row of columns for each letter; None for one-hot columns.
        padding_idx: the row of the table that gets no gradient, if there is one.
        strict: whether a token that is no letter is an error; else it is a column of zeros.
    """

    tokens: fx.Node
    letters: int
    width: int
    axes: str = "blc"
    flipped: frozenset[str] = frozenset()
    table: Any = None
    padding_idx: int | None = None
    strict: bool = True

    def narrow(self, scene: Scene) -> fx.Node:
        """A node with the letters as bytes, the flips done on them."""
        tokens, complemented, reversed_ = strand(scene, self.tokens, self.letters)
        node = once(scene, letters if self.strict else known, tokens, self.letters)
        complemented ^= "c" in self.flipped and self.table is None
        reversed_ ^= "l" in self.flipped
        if complemented or reversed_:
            node = once(scene, turned, node, self.letters, complemented, reversed_)
        return node


def columns(scene: Scene, node: Any) -> Columns | None:
    """What is known of the columns at a node, or None if they do not come from letters.

    Raises:
        Refused: they do, but in a way that cannot be followed.
    """
    moves: list[Call] = []
    while (source := _source(scene, node)) is None:
        call = move(scene, node)
        if call is None:
            return None
        moves.append(call)
        node = call.x
    for call in reversed(moves):
        source = _moved(scene, source, call)
    return source


def _source(scene: Scene, node: Any) -> Columns | None:
    """Columns right behind their letters, (b, l, c)."""
    call = scene.call(node)
    if call is not None and call.kind == "one_hot":
        return _of_one_hot(scene, call)
    if call is not None and call.kind == "embedding":
        return _of_embedding(scene, call)
    return _of_comparison(scene, node)


def _of_one_hot(scene: Scene, call: Call) -> Columns:
    count = call.args["num_classes"]
    if not isinstance(count, int) or not 0 < count <= _MOST:
        raise Refused(f"the number of classes must be known, from 1 to {_MOST}, and is {count}")
    _require_rows(scene, call.x)
    return Columns(call.x, count, count)


def _of_embedding(scene: Scene, call: Call) -> Columns | None:
    table = scene.tensor(call.args["weight"])
    if table is None or table.ndim != 2:
        return None
    if len(table) > _MOST:
        raise Refused(f"the table has {len(table)} rows, and letters are bytes: at most {_MOST}")
    if call.args["max_norm"] is not None or call.args["scale_grad_by_freq"] or call.args["sparse"]:
        raise Refused("an embedding with max_norm, scale_grad_by_freq or sparse does more than look rows up")
    _require_rows(scene, call.x)
    rows, width = table.shape
    return Columns(call.x, rows, width, table=call.args["weight"], padding_idx=call.args["padding_idx"])


def _of_comparison(scene: Scene, node: Any) -> Columns | None:
    """`tokens.unsqueeze(-1) == torch.arange(n)`."""
    if not isinstance(node, fx.Node) or node.target not in (operator.eq, torch.eq, "eq"):
        return None
    if node.kwargs or len(node.args) != 2:
        return None
    spread = scene.call(node.args[0])
    count = _count(scene, node.args[1])
    value = None if spread is None else scene.value(spread.x)
    if spread is None or spread.kind != "unsqueeze" or count is None or value is None or value.ndim != 2:
        return None
    if spread.args["dim"] not in (-1, 2) or not 0 < count <= _MOST or _not_integers(value):
        return None
    return Columns(spread.x, count, count, strict=False)


def _count(scene: Scene, node: Any) -> int | None:
    """n, where the node is `torch.arange(n)`: as a call, or as the constant that tracing made of it."""
    if not isinstance(node, fx.Node):
        return None
    if node.target is torch.arange and len(node.args) == 1 and not set(node.kwargs) - {"device"}:
        return node.args[0] if isinstance(node.args[0], int) else None
    if node.op != "get_attr" or not str(node.target).startswith("_tensor_constant"):
        return None
    numbers = scene.tensor(Attribute(str(node.target)))
    if numbers is None or numbers.ndim != 1 or numbers.is_meta or _not_integers(numbers):
        return None
    counted = torch.arange(len(numbers), dtype=numbers.dtype, device=numbers.device)
    return len(numbers) if torch.equal(numbers, counted) else None


def _require_rows(scene: Scene, tokens: fx.Node) -> None:
    value = scene.value(tokens)
    if value is None or value.ndim != 2:
        raise Refused("tokens must be (b, l)")


def move(scene: Scene, node: Any) -> Call | None:
    """A call that moves axes or changes the dtype, and nothing else."""
    if isinstance(node, fx.Node) and node.target is getattr and node.args[1:] == ("mT",):
        return Call("transpose", node, node.args[0], {"dim0": -2, "dim1": -1})  # type: ignore[arg-type]
    if isinstance(node, fx.Node) and node.target is operator.getitem and _is_index(node.args[1]):
        return Call("index", node, node.args[0], {"index": node.args[1]})  # type: ignore[arg-type]
    call = scene.call(node)
    return call if call is not None and call.kind in _MOVES else None


def _is_index(index: Any) -> bool:
    """Whether an index keeps axes, reverses them by a list of places, or adds one."""
    return isinstance(index, tuple) and all(
        each is None or each == _ALL or _is_reversal(each) for each in index
    )


def _is_reversal(places: Any) -> bool:
    return isinstance(places, (list, tuple)) and list(places) == list(range(len(places)))[::-1]


def _moved(scene: Scene, columns: Columns, call: Call) -> Columns:
    axes, n = columns.axes, len(columns.axes)
    if call.kind in _CASTS:
        return _cast(scene, columns, call)
    if call.kind == "index":
        return _indexed(columns, call.args["index"])
    if call.kind == "unsqueeze":
        at = _fixed(call.args["dim"]) % (n + 1)
        return replace(columns, axes=axes[:at] + "1" + axes[at:])
    if call.kind == "flip":
        dims = call.args["dims"]
        dims = dims if isinstance(dims, (tuple, list)) else (dims,)
        return _flipped(columns, {axes[_fixed(dim) % n] for dim in dims})
    order = list(range(n))
    if call.kind == "transpose":
        a, b = (_fixed(call.args[name]) % n for name in ("dim0", "dim1"))
        order[a], order[b] = b, a
    else:
        order = [_fixed(dim) % n for dim in call.args["dims"]]
    return replace(columns, axes="".join(axes[i] for i in order))


def _indexed(columns: Columns, index: tuple) -> Columns:
    """`x[:, None]` and `x[:, [3, 2, 1, 0]]`."""
    axes, names, rest = "", set(), columns.axes
    for each in index:
        name, rest = ("1", rest) if each is None else (rest[:1], rest[1:])
        axes += name
        names |= {name} if each is not None and each != _ALL else set()
        if _is_reversal(each) and (name != "c" or len(each) != columns.width):
            raise Refused("an index takes some of the columns")
    return _flipped(replace(columns, axes=axes + rest), names)


def _flipped(columns: Columns, names: set[str]) -> Columns:
    if "b" in names:
        raise Refused("the batch is flipped")
    return replace(columns, flipped=columns.flipped ^ names)


def strand(scene: Scene, tokens: fx.Node, count: int) -> tuple[fx.Node, bool, bool]:
    """Tokens before `count - 1 - tokens` and flips; whether letters are complemented, and rows reversed."""
    complemented = reversed_ = False
    while True:
        tokens = _unwidened(scene, tokens)
        call = scene.call(tokens)
        if call is not None and call.kind == "flip" and call.args["dims"] in (1, -1, (1,), (-1,), [1], [-1]):
            tokens, reversed_ = call.x, not reversed_
        elif (given := _complemented(scene, tokens, count)) is not None:
            tokens, complemented = given, not complemented
        else:
            return tokens, complemented, reversed_


def _complemented(scene: Scene, node: fx.Node, count: int) -> fx.Node | None:
    """The tokens of which the node is the complement, as `count - 1 - tokens` or by a constant table."""
    if not node.op.startswith("call_") or node.kwargs or len(node.args) != 2:
        return None
    first, tokens = node.args
    if not isinstance(tokens, fx.Node) or (value := scene.value(tokens)) is None or _not_integers(value):
        return None
    if node.target in (operator.sub, torch.sub):
        return tokens if type(first) is int and first == count - 1 else None
    looked_up = node.target in (operator.getitem, "__getitem__") and isinstance(first, fx.Node)
    return tokens if looked_up and _is_complement(scene, first, count) else None  # type: ignore[arg-type]


def _is_complement(scene: Scene, table: fx.Node, count: int) -> bool:
    """Whether the table has the complement of every letter, written out in the forward."""
    wanted = list(range(count))[::-1]
    if table.target is torch.tensor:
        return table.args == (wanted,)
    held = scene.tensor(Attribute(str(table.target))) if table.op == "get_attr" else None
    if held is None or held.is_meta or held.tolist() != wanted:
        return False
    if str(table.target).startswith("_tensor_constant"):  # what tracing keeps of a literal
        return True
    raise Refused(f"the complements are in {table.target}, which may change: write {count - 1} - tokens")


def _cast(scene: Scene, columns: Columns, call: Call) -> Columns:
    """One-hot columns are exact in every dtype; rows of a table are so only in their own."""
    after, before = scene.value(call.node), scene.value(call.x)
    if call.kind == "to" and not isinstance(call.args["dtype"], (torch.dtype, fx.Node)):
        raise Refused("columns are moved by .to(); cast them with .to(dtype) and move the tokens instead")
    if columns.table is not None and (after is None or before is None or after.dtype != before.dtype):
        raise Refused("rows of the table are cast before the convolution")
    return columns


def _fixed(dim: Any) -> int:
    if not isinstance(dim, int):
        raise Refused(f"axes must be fixed numbers, and one is {dim}")
    return dim


def _unwidened(scene: Scene, node: fx.Node) -> fx.Node:
    """The tokens before they were made int64, which `one_hot` asks for, if they are integers there."""
    call = scene.call(node)
    if call is None or call.kind not in ("long", "to") or call.args.get("dtype", torch.int64) != torch.int64:
        return node
    value = scene.value(call.x)
    return node if value is None or _not_integers(value) else call.x


def _not_integers(value: torch.Tensor) -> bool:
    return value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
