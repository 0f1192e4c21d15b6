"""What the common optimizer knows about sequences: one-hot letters that go into a convolution."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from biolayers.ops import token_conv1d, token_conv1d_max_pool
from shared.errors import UserError
from shared.graph import Call, Refused, Rule, Rules, Scene

_PLAIN = (torch.float32, torch.float64)
_CASTS = ("float", "double", "to")


def letters(tokens: Tensor, count: int) -> Tensor:
    """Tokens as uint8, all below `count`, as `torch.nn.functional.one_hot` wants them.

    Args:
        tokens: (b, l) of any integer dtype.
        count: how many classes there are, at most 255.

    Raises:
        UserError: a token is negative, or not below `count`.

    Example:
        >>> letters(torch.tensor([[0, 3]]), 4)
        tensor([[0, 3]], dtype=torch.uint8)
    """
    if tokens.numel() and not torch.compiler.is_compiling():
        low, high = tokens.aminmax()
        if low < 0 or high >= count:
            raise UserError(f"one_hot: expected classes from 0 to {count - 1}, received {low} to {high}")
    return tokens.to(torch.uint8)


def pooled(*args: Any) -> Tensor:
    """The values of `biolayers.ops.token_conv1d_max_pool`, without the winners."""
    return token_conv1d_max_pool(*args)[0]


def merge_one_hot(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`conv1d(one_hot(tokens).transpose(1, 2).float())` becomes `token_conv1d(tokens)`."""
    conv = scene.call(node)
    if conv is None or conv.kind != "conv1d":
        return None
    found = _one_hot(scene, conv)
    if found is None:
        return None
    tokens, count = found
    weight, options = _weight(scene, conv, count), _geometry(conv)
    with scene.graph.inserting_before(node):
        narrow = scene.graph.call_function(letters, (tokens, count))
    scene.put(node, token_conv1d, narrow, weight, conv.args["bias"], *options)
    return "one_hot + conv1d", "token_conv1d"


def merge_max_pool(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`max_pool1d(relu(token_conv1d(...)))` becomes one call that never writes what is pooled."""
    pool = scene.call(node)
    if pool is None or pool.kind != "max_pool1d":
        return None
    before = scene.call(pool.x)
    relu = before is not None and before.kind == "relu"
    conv = before.x if relu else pool.x
    if conv.op != "call_function" or conv.target is not token_conv1d:
        return None
    if len(pool.x.users) > 1 or len(conv.users) > 1:
        raise Refused("what is pooled is used elsewhere, too")
    size, step = _window(pool)
    args = (*conv.args, *(None, 1, 0, 1)[len(conv.args) - 2 :])
    scene.put(node, pooled, *args, relu, size, step, False)
    if relu:
        scene.drop(before.node)
    scene.graph.eliminate_dead_code(lambda each: each.target is not token_conv1d)
    return f"token_conv1d{' + relu' if relu else ''} + max_pool1d", "token_conv1d_max_pool"


def _one_hot(scene: Scene, conv: Call) -> tuple[fx.Node, int] | None:
    """The tokens (b, l) and the number of classes, if that is where the convolution's input comes from."""
    node, turned, cast = conv.x, False, False
    while (call := scene.call(node)) is not None and call.kind != "one_hot":
        if call.kind in ("transpose", "permute") and not turned and _turns(scene, call):
            turned = True
        elif call.kind in _CASTS:
            cast = True
        elif call.kind != "contiguous":
            return None
        node = call.x
    if call is None:
        return None
    count, tokens = call.args["num_classes"], _unwidened(scene, call.x)
    if not turned or not cast:
        return None  # the convolution would refuse it
    if not isinstance(count, int) or not 0 < count < 256:
        raise Refused(f"the number of classes must be known, from 1 to 255, and is {count}")
    value = scene.value(call.x)
    if value is None or value.ndim != 2:
        raise Refused("tokens must be (b, l)")
    return tokens, count


def _turns(scene: Scene, call: Call) -> bool:
    """Whether (b, l, classes) becomes (b, classes, l)."""
    if call.kind == "permute":
        dims = call.args["dims"]
        return isinstance(dims, (tuple, list)) and [d % 3 for d in dims if isinstance(d, int)] == [0, 2, 1]
    dims = {call.args["dim0"], call.args["dim1"]}
    return all(isinstance(d, int) for d in dims) and {d % 3 for d in dims} == {1, 2}


def _unwidened(scene: Scene, node: fx.Node) -> fx.Node:
    """The tokens before they were made int64, which `one_hot` asks for, if they are integers there."""
    call = scene.call(node)
    if call is None or call.kind not in ("long", "to") or call.args.get("dtype", torch.int64) != torch.int64:
        return node
    value = scene.value(call.x)
    narrow = value is not None and not value.is_floating_point() and not value.is_complex()
    return call.x if narrow and value.dtype != torch.bool else node


def _weight(scene: Scene, conv: Call, count: int) -> Any:
    weight = scene.tensor(conv.args["weight"])
    if weight is None or weight.dtype not in _PLAIN:
        raise Refused("the convolution must be in float32 or float64")
    if conv.args["groups"] != 1 or weight.shape[1] != count:
        raise Refused("the convolution must not be in groups")
    return conv.args["weight"]


def _geometry(conv: Call) -> tuple[int, int, int]:
    """Stride, padding and dilation as numbers."""
    if conv.args.get("padding_mode", "zeros") != "zeros":
        raise Refused(f"padding must be with zeros, and is {conv.args['padding_mode']!r}")
    padding = conv.args["padding"]
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        raise Refused(f"padding must be a number, and is {padding!r}")
    return _one(conv.args["stride"]), _one(padding), _one(conv.args["dilation"])


def _window(pool: Call) -> tuple[int, int]:
    """Size and stride of the windows."""
    size = _one(pool.args["kernel_size"])
    step = size if pool.args["stride"] in (None, (), []) else _one(pool.args["stride"])
    plain = _one(pool.args["padding"]) == 0 and _one(pool.args["dilation"]) == 1
    if not plain or pool.args["ceil_mode"] or pool.args["return_indices"]:
        raise Refused("pooling must be without padding, dilation, ceil_mode and indices")
    return size, step


def _one(number: Any) -> int:
    """The number in `3` or `(3,)`."""
    if isinstance(number, (tuple, list)) and len(number) == 1:
        number = number[0]
    if not isinstance(number, int):
        raise Refused(f"sizes must be fixed numbers, and one is {number}")
    return number


def is_leaf(module: nn.Module) -> bool:
    """Layers of this package are one call each."""
    return type(module).__module__.startswith("biolayers.layers.")


RULES = Rules(
    (
        Rule("token_conv1d", "conv1d(one_hot(tokens)) = token_conv1d(tokens)", merge_one_hot),
        Rule(
            "token_conv1d_max_pool",
            "max_pool1d(relu(token_conv1d(tokens))) = token_conv1d_max_pool(tokens, relu=True)",
            merge_max_pool,
        ),
    ),
    is_leaf,
)
