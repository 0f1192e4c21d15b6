"""A model as an ONNX graph of standard, real operators: what onnxruntime runs with NumPy alone beside it."""

import copy
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.export import quantizing, running
from shared.export.errors import ExportError
from shared.export.lowering import Replaced, lower, place_of
from shared.export.needs import module
from shared.export.program import evaluating, foreign_remarks_ignored, of_several, program_of, tuple_of
from shared.export.report import OnnxReport
from shared.export.tidying import scoped, tidied

OPSET = 20  # the newest that PyTorch writes by itself; onnxruntime runs it since 1.17


def export_onnx(
    model: nn.Module,
    path: str | Path,
    example_inputs: Any,
    *,
    quantize: str | None = None,
    calibration: Iterable[Any] | None = None,
    evaluation: tuple[Any, Tensor] | Iterable[tuple[Any, Tensor]] | None = None,
    dynamic_batch: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> OnnxReport:
    """Write a model as ONNX, in evaluation and with its weights fixed, and hold it against PyTorch.

    Quantum layers and genomic ops become standard operators on real numbers: a circuit is a function of its
    encoded inputs alone once its weights are known. The file is written only if onnxruntime gives what the
    model gives, and holds no paths, sources or data.

    Args:
        model: any module that `torch.export` takes; it is left as it is.
        path: of the file, such as "model.onnx"; replaced whole, or left alone if something fails.
        example_inputs: a tensor or a tuple of tensors, as the model's forward takes them.
        quantize: "int8" for weights and activations of eight bits in the classical part; circuits stay as
            they are.
        calibration: with `quantize`: batches of inputs (tensors, or tuples of them) like those to come, some
            hundred samples; their ranges are the ranges of the activations.
        evaluation: (inputs, labels (b,)), or batches of such pairs, on which the report states the accuracy
            of a classifier before and after; its first output are logits (b, classes).
        dynamic_batch: whether the first axis of all inputs is free.
        input_names: of the graph; default: those of forward's arguments.
        output_names: of the graph; default: "output", or "output_0" and so on.
        metadata: texts that go into the file, such as the names of classes; onnxruntime shows them as
            `session.get_modelmeta().custom_metadata_map`.

    Returns:
        Size, operators, the largest difference from PyTorch, and scores; prints as a few lines.

    Raises:
        ExportError: an op has no form in ONNX (the message names it and its place in the model), an argument
            does not fit, or a package of the extra `export` is missing.

    Example:
        >>> import tempfile, torch, shared
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = shared.export_onnx(model, f"{folder}/model.onnx", torch.rand(2, 3))
        >>> report.difference < 1e-5
        True
    """
    inputs, path = tuple_of(example_inputs, who="export_onnx"), Path(path)
    quantizing.check(quantize, calibration)
    if not path.parent.is_dir():
        raise ExportError(f"export_onnx: there is no folder {path.parent}; make it first")
    inputs = of_several(inputs) if dynamic_batch else inputs
    if any(each.device.type != "cpu" for each in (*model.parameters(), *model.buffers(), *inputs)):
        model, inputs = copy.deepcopy(model).cpu(), tuple(x.cpu() for x in inputs)
    names = {"input_names": input_names, "output_names": output_names}
    with evaluating(model):
        proto, replaced = graph_of(model, inputs, dynamic_batch=dynamic_batch, **names)
        for key, value in (metadata or {}).items():
            proto.metadata_props.add(key=key, value=value)
        content = proto.SerializeToString()
        report = _report(path, proto, content, replaced)
        difference = _agreement(running.runner(content), model, inputs, dynamic_batch)
        if quantize is not None:
            assert calibration is not None
            full = set(scoped(proto, replaced))
            before, content = len(content), quantizing.int8(proto, calibration, full)
            report |= {"size": len(content), "quantized": quantize, "size_before": before}
            report |= {"nodes": len(module("onnx").load_from_string(content).graph.node)}
        if evaluation is not None:
            report["scores"] = running.scores(running.runner(content), model, pairs_of(evaluation))
    _write(path, content)
    return OnnxReport(**report, difference=difference)


def graph_of(
    model: nn.Module, inputs: tuple[Tensor, ...], *, dynamic_batch: bool, **names: Sequence[str] | None
) -> tuple[Any, list[Replaced]]:
    """The model in evaluation as an `onnx.ModelProto`, and which ops of ours were replaced."""
    for needed in ("onnx", "onnxscript"):
        module(needed)
    with _quiet():
        lowered, replaced = lower(program_of(model, inputs, dynamic_batch=dynamic_batch))
        program = _plain(lowered, replaced, inputs, dynamic_batch)
        proto = _translated(program, replaced, {name: value for name, value in names.items() if value})
    return tidied(proto, dynamic_batch, renamed=not names.get("output_names")), replaced


def _plain(
    lowered: nn.Module, replaced: list[Replaced], inputs: tuple[Tensor, ...], dynamic_batch: bool
) -> torch.export.ExportedProgram:
    try:
        return program_of(lowered, inputs, dynamic_batch=dynamic_batch)
    except ExportError as error:
        ops = ", ".join(f"{each.op} at {each.place or 'the model itself'}" for each in replaced)
        raise ExportError(f"One of the ops {ops} has no form in ONNX: {error}") from error


def _translated(
    program: torch.export.ExportedProgram, replaced: list[Replaced], names: dict[str, Any]
) -> Any:
    for optimize in (True, False):  # the exporter's optimizer gives up on some graphs
        try:
            found = torch.onnx.export(
                program, (), dynamo=True, opset_version=OPSET, optimize=optimize, verbose=False, **names
            )
            assert found is not None
            return found.model_proto
        except Exception as error:  # of the exporter, or of its optimizer, which has classes of its own
            if isinstance(error, torch.onnx.errors.OnnxExporterError) or not optimize:
                raise ExportError(_untranslated(program, replaced, error)) from error
    raise AssertionError("unreachable")


def _untranslated(program: torch.export.ExportedProgram, replaced: list[Replaced], error: Exception) -> str:
    """Which op of the model it was, by the name of the node that the exporter complains about."""
    text = _chain(error)
    for graph in (program.graph, program.run_decompositions().graph):
        for node in graph.nodes:
            if node.op == "call_function" and f"%{node.name} :" in text:
                return f"{node.target} has no form in ONNX; it is part of {_owner(node, replaced)}"
    return f"the model has no form in ONNX: {text.splitlines()[0] if text else repr(error)}"


def _owner(node: torch.fx.Node, replaced: list[Replaced]) -> str:
    """The op of ours that a node is part of, with its place, or the module."""
    place = place_of(node)
    ours = next((each for each in replaced if each.module in place), None)
    if ours is not None:
        return f"{ours.op} at {ours.place or 'the model itself'}"
    return place or "the model itself"


def _chain(error: BaseException | None) -> str:
    lines = []
    while error is not None:
        lines.append(str(error))
        error = error.__cause__
    return "\n".join(lines)


def _report(path: Path, proto: Any, content: bytes, replaced: list[Replaced]) -> dict[str, Any]:
    ops = tuple(f"{each.op} at {each.place}" if each.place else each.op for each in replaced)
    nodes, opset = len(proto.graph.node), proto.opset_import[0].version
    return {"path": path, "size": len(content), "opset": opset, "nodes": nodes, "replaced": ops}


def _agreement(run: Any, model: nn.Module, inputs: tuple[Tensor, ...], dynamic_batch: bool) -> float:
    """The largest difference on the example inputs, and on other numbers of samples if these are free."""
    found = running.difference(run, model, inputs)
    if dynamic_batch:
        others = tuple(x[:1] for x in inputs), tuple(torch.cat([x, x[:1]]) for x in inputs)
        found = max(found, *(running.difference(run, model, other) for other in others))
    return found


def pairs_of(evaluation: Any) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Batches (inputs, labels) of what was given as `evaluation`."""
    if isinstance(evaluation, tuple) and len(evaluation) == 2 and isinstance(evaluation[1], Tensor):
        evaluation = [evaluation]
    for inputs, labels in evaluation:
        yield tuple_of(inputs, who="evaluation"), labels


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise ExportError(
            f"export_onnx: {path} cannot be written ({error.strerror}); choose another path"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush what the exporter says of packages that nobody asked for."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    with foreign_remarks_ignored():
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
