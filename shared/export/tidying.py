"""What is done to a graph that PyTorch's exporter has written: names, and nothing of this machine."""

from typing import Any

from shared.export.lowering import Replaced

_SCOPES = "pkg.torch.onnx.name_scopes"


def tidied(proto: Any, dynamic_batch: bool, *, renamed: bool) -> Any:
    """The graph with names for the batch and the outputs, and without notes on this machine's files."""
    graph = proto.graph
    if renamed:
        _rename_outputs(graph)
    if dynamic_batch:
        symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == symbol:
                    dim.dim_param = "batch"
    proto.producer_name, proto.producer_version = "qbio", ""
    del proto.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        kept = [each.value for each in node.metadata_props if each.key == _SCOPES]
        del node.metadata_props[:]
        if kept:
            node.metadata_props.add(key=_SCOPES, value=kept[0])
    for part in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    return proto


def _rename_outputs(graph: Any) -> None:
    several = len(graph.output) > 1
    new = {
        each.name: f"output_{i}" if several else "output" for i, each in enumerate(graph.output)
    }  # one value may be two outputs: then it keeps its name
    given = {each.name for each in graph.input} | {each.name for each in graph.initializer}
    if len(new) < len(graph.output) or given & (new.keys() | new.values()):
        return
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = new.get(name, name)
    for each in graph.output:
        each.name = new[each.name]


def scoped(proto: Any, replaced: list[Replaced]) -> list[str]:
    """The names of the nodes that are not to be quantised."""
    modules = tuple(each.module for each in replaced if each.full_precision)
    return [
        node.name
        for node in proto.graph.node
        if any(name in each.value for name in modules for each in node.metadata_props)
    ]
