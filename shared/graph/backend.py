"""`torch.compile(model, backend="qbio")`: the rules before autograd, then Inductor, or eager PyTorch.

Dynamo hands over a graph of the model's calls before they are differentiated, which is where merging works in
training too.
"""

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx
from torch._dynamo import config
from torch._dynamo.callback import callback_handler, on_compile_end, on_compile_start
from torch._dynamo.source import ConstantSource

from shared.catalogue import registry
from shared.errors import UserError
from shared.graph.compilers import gains, has_compiler
from shared.graph.compiling import HOLDERS
from shared.graph.merging import apply
from shared.graph.report import Report
from shared.graph.rules import Rule, chosen, installed
from shared.graph.scene import Scene

log = logging.getLogger(__name__)


def qbio(graph: fx.GraphModule, example_inputs: list, *, options: dict[str, Any] | None = None) -> Any:
    """Rewrite a graph of Dynamo's and compile it further; the name by which `torch.compile` finds it.

    What was rewritten is logged at level INFO by the logger `shared.graph.backend`.

    Args:
        graph: rewritten in place.
        example_inputs: tensors and sizes that it is called with.
        options: `inner`, what compiles the rewritten graph: `"inductor"`, `"eager"` for nothing, or `"auto"`
            for Inductor where it has something to gain (see `shared.graph.compilers.gains`) and there is a
            C++ compiler; `passes`, as in `shared.optimize`.

    Raises:
        UserError: an option is unknown.
    """
    _prepare_always()
    given = {"inner": "auto", "passes": None, **(options or {})}
    if set(given) != {"inner", "passes"} or given["inner"] not in ("auto", "inductor", "eager"):
        raise UserError(
            "backend qbio: expected options inner ('auto', 'inductor' or 'eager') and passes, "
            f"received {options}"
        )
    values = {node.name: node.meta.get("example_value") for node in graph.graph.nodes}
    scene = Scene(graph.graph, graph, {name: it for name, it in values.items() if isinstance(it, Tensor)})
    changes, refusals = apply(scene, [rule for rule in chosen(given["passes"]) if isinstance(rule, Rule)])
    inner = given["inner"]
    if inner == "auto":
        inner = "inductor" if gains(graph.graph) and has_compiler() else "eager"
    log.info("%s\nthen %s", Report(tuple(changes), tuple(refusals)), inner)
    if inner == "eager":
        return _in_eager(graph)
    from torch._inductor.compile_fx import compile_fx

    _hold(graph)
    return compile_fx(graph, example_inputs)


def _in_eager(graph: fx.GraphModule) -> Callable[..., Any]:
    """The graph's calls one by one, our ops the short way round PyTorch's dispatcher."""
    _unrecorded()
    ours = {op.overload: op for op in registry().values()}
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in ours:
            node.target = ours[node.target]
        elif node.op == "call_function" and node.target in HOLDERS:
            held = HOLDERS[node.target](*node.args)
            node.target, node.args = held.function, held.args
    graph.recompile()
    return graph.forward  # and not the module, whose call takes longer, and tells more of an error than it is


def _hold(graph: fx.GraphModule) -> None:
    """Make the tensors of calls that hold some constants of the graph."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in HOLDERS:
            held = HOLDERS[node.target](*node.args)
            with graph.graph.inserting_before(node):
                tensors = [None if each is None else _constant(graph, each) for each in held.tensors]
            node.target, node.args = held.function, (*held.args, tensors)
    graph.recompile()


def _constant(graph: fx.GraphModule, tensor: Tensor) -> fx.Node:
    name = f"held_{id(tensor)}"
    graph.register_buffer(name, tensor, persistent=False)
    sources = getattr(graph, "_param_name_to_source", None)
    if sources is not None:  # where Dynamo found each; what it did not find has no guards
        sources[name] = ConstantSource(name)
    return graph.graph.get_attr(name)


def _unrecorded() -> None:
    """Leave out what names a graph's preparation in profiles, for this compilation: it takes a tenth of a ms.

    Dynamo looks at the setting when the backend has returned; it is put back when the compilation ends.
    """
    if getattr(config, "record_runtime_overhead", False):
        config.record_runtime_overhead = False
        on_compile_end(_record_again)


def _record_again(_: object) -> None:
    config.record_runtime_overhead = True
    # a new list, as this one is being gone through
    callback_handler.end_callbacks = [
        each for each in callback_handler.end_callbacks if each is not _record_again
    ]


def _prepare(*_: object) -> None:
    for rules in installed():
        rules.before_compiling()


def _prepare_always() -> None:
    """Prepare before each compilation: what is imported later has its turn, too."""
    if _prepare not in callback_handler.start_callbacks:  # `torch._dynamo.reset` forgets it
        on_compile_start(_prepare)


_prepare()
_prepare_always()
