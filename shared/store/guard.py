"""What may stand in a saved program: plain data, and the names of functions that only compute.

PyTorch's own loader takes a file at its word: it unpickles parts of it, evaluates expressions in it, and
looks functions up by any name below `torch`, which leads to `torch.os.system`. So a program is cut down to
what is needed, and everything in it that names something is held against the tables below, before PyTorch
sees it.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# functions on Python's numbers, which sizes are
OPERATORS = _words(
    """add sub mul truediv floordiv mod pow neg pos abs eq ne lt le gt ge and_ or_ xor not_ invert
    getitem"""
)
MATH = _words("ceil floor trunc sqrt log2 exp sin cos tan")
SIZES = _words(
    """sym_int sym_float sym_max sym_min sym_not sym_ite sym_sum sym_fresh_size _sym_sqrt
    _sym_log2"""
)
NAMESPACES = frozenset(("aten", "prims"))
ALSO = frozenset(  # what takes a graph instead of a tensor
    f"torch.ops.higher_order.{name}"
    for name in _words(
        """cond scan while_loop map_impl associative_scan wrap_with_autocast wrap_with_set_grad_enabled"""
    )
)
NOT = frozenset(("aten::from_file",))  # it opens files, and makes them
OP = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.\w+")
# what expressions of sizes are made of, as sympy writes them: Add(Integer(1), Symbol('s0', integer=True))
NAMES = _words(
    """Symbol Integer Float Rational Add Mul Pow Mod Max Min Abs And Or Not Equality Unequality Eq Ne Lt Le
    Gt Ge StrictLessThan LessThan StrictGreaterThan GreaterThan Piecewise ExprCondPair FloorDiv
    ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv PowByNatural FloatPow FloatTrueDiv
    IntTrueDiv ToFloat TruncToInt TruncToFloat RoundToInt RoundDecimal Identity true false True False None
    positive negative integer nonnegative nonzero real precision dps evaluate"""
)
SYMBOL = re.compile(r"[a-z]+\d+")
QUOTED = re.compile(r"'(?:[a-z]+\d+|-?\d[\d.e+-]*)'")
PLAIN = re.compile(r"[\w\s(),=+*/%<>-]*")
TREES = frozenset((None, "builtins.tuple", "builtins.list", "builtins.dict"))


class Refused(ValueError):  # noqa: N818  callers make a DamagedError of it
    """Something in the program is not among what a model needs; says what."""


def cleaned(program: dict[str, Any]) -> dict[str, Any]:
    """The program without notes for debuggers, which name files, and without code for checks of inputs."""
    graphs = program["graph_module"]
    root = [dict(call) for call in graphs["module_call_graph"] if call["fqn"] == ""]
    graphs = {**graphs, "module_call_graph": root, "metadata": {}, "treespec_namedtuple_fields": {}}
    for node in _nodes(graphs["graph"]):
        node["metadata"] = {}
    return {**program, "graph_module": graphs, "guards_code": []}


def check(program: Any, payloads: Mapping[str, Any], *, ops: Collection[str]) -> None:
    """Hold a program and the descriptions of its weights and constants against the tables.

    Args:
        program: as JSON has it; `cleaned`.
        payloads: what the weights' and the constants' configuration say, by their folder.
        ops: the names of further ops that it may use.

    Raises:
        Refused: there is more in it.
    """
    for key, value in _entries(program):
        rule = RULES.get(key)
        if rule is not None:
            rule(value, ops)
    for name in program.get("range_constraints", {}):
        _expression(name, ops)
    for folder, payload in payloads.items():
        for name, entry in payload["config"].items():
            pattern = rf"{'weight' if folder == 'weights' else 'tensor'}_\d+"
            if entry.get("use_pickle") is not False or not re.fullmatch(pattern, entry["path_name"]):
                raise Refused(f"{name!r} is no plain numbers")


def named_ops(program: Any) -> set[str]:
    """The names of all ops in a program, as namespace::name."""
    found = (OP.fullmatch(value) for key, value in _entries(program) if key in ("target", "as_operator"))
    return {f"{match[1]}::{match[2]}" for match in found if match}


def _nodes(graph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a graph and of those within it."""
    for key, value in _entries(graph):
        if key == "nodes":
            yield from value


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested JSON."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            yield from one.items()
            todo += one.values()
        elif isinstance(one, list):
            todo += one


def _target(name: Any, ops: Collection[str]) -> None:
    if not isinstance(name, str):
        raise Refused(f"{name!r} is no name of an op")
    head, _, last = name.rpartition(".")
    known = {"_operator": OPERATORS, "math": MATH, "torch": SIZES}.get(head)
    if (known is not None and last in known) or name in ALSO:
        return
    op = OP.fullmatch(name)
    if op is None:
        raise Refused(f"it calls {name!r}")
    full = f"{op[1]}::{op[2]}"
    if full in NOT or (op[1] not in NAMESPACES and full not in ops):
        raise Refused(f"it calls {full!r}")


def _expression(text: Any, ops: Collection[str]) -> None:
    if not isinstance(text, str) or len(text) > 4096 or not _is_expression(text):
        raise Refused(f"{str(text)[:80]!r} is no expression of sizes")


def _is_expression(text: str) -> bool:
    bare = QUOTED.sub("", text)
    names = re.findall(r"[A-Za-z_]\w*", bare)
    return PLAIN.fullmatch(bare) is not None and all(n in NAMES or SYMBOL.fullmatch(n) for n in names)


def _tree(text: Any, ops: Collection[str]) -> None:
    """A pattern of nested tuples, lists and dicts; others name modules to be imported."""
    if text in (None, ""):
        return
    try:
        _, tree = json.loads(text)
    except (TypeError, ValueError) as error:
        raise Refused(f"{str(text)[:80]!r} is no pattern of arguments") from error
    todo = [tree]
    while todo:
        one = todo.pop()
        if not isinstance(one, dict) or one.get("type") not in TREES:
            raise Refused(
                f"its arguments or results are a {one.get('type') if isinstance(one, dict) else one}"
            )
        if "__enum__" in str(one.get("context")):
            raise Refused("its arguments or results have keys that are no texts")
        todo += one["children_spec"]


def _never(value: Any, ops: Collection[str]) -> None:
    if value:
        raise Refused(f"it holds {str(value)[:80]!r}")


RULES: Mapping[str, Callable[[Any, Collection[str]], None]] = {
    "target": _target,
    "as_operator": _target,
    "expr_str": _expression,
    "in_spec": _tree,
    "out_spec": _tree,
    "as_custom_obj": _never,
    "custom_obj_values": _never,
    "custom_obj": _never,
    "guards_code": _never,
    "metadata": _never,
    "treespec_namedtuple_fields": _never,
}
