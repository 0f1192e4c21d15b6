"""`torch.compile(model, backend="qbio")`: the rules before autograd, then Inductor, or eager PyTorch.

Dynamo hands over a graph of the model's calls before they are differentiated, which is where merging works in
training too.
"""

import logging
from typing import Any

from torch import Tensor, fx
from torch._dynamo.callback import on_compile_start

from shared.errors import UserError
from shared.graph.compilers import has_compiler
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
            for Inductor where there is a C++ compiler; `passes`, as in `shared.optimize`.

    Raises:
        UserError: an option is unknown.
    """
    given = {"inner": "auto", "passes": None, **(options or {})}
    if set(given) != {"inner", "passes"} or given["inner"] not in ("auto", "inductor", "eager"):
        raise UserError(
            "backend qbio: expected options inner ('auto', 'inductor' or 'eager') and passes, "
            f"received {options}"
        )
    values = {node.name: node.meta.get("example_value") for node in graph.graph.nodes}
    scene = Scene(graph.graph, graph, {name: it for name, it in values.items() if isinstance(it, Tensor)})
    changes, refusals = apply(scene, [rule for rule in chosen(given["passes"]) if isinstance(rule, Rule)])
    graph.recompile()
    log.info("%s", Report(tuple(changes), tuple(refusals)))
    if given["inner"] == "eager" or (given["inner"] == "auto" and not has_compiler()):
        return graph
    from torch._inductor.compile_fx import compile_fx

    return compile_fx(graph, example_inputs)


def _prepare(*_: object) -> None:
    for rules in installed():
        rules.before_compiling()


_prepare()
on_compile_start(_prepare)  # what is imported later has its turn, too
