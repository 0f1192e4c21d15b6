"""A model into a file that any process with the same packages can run."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.declare import registry
from shared.export.errors import ExportError
from shared.export.program import evaluating, of_several, program_of, tuple_of
from shared.store import archive, guard
from shared.store.errors import StoreError
from shared.store.manifest import FREE, Manifest, Place, checksums, needed, versions


def save(
    model: nn.Module,
    path: str | Path,
    example_inputs: Any,
    *,
    dynamic_batch: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a model, as it is in evaluation, into a file that needs none of its Python code to run.

    The file is a `.pt2` archive of `torch.export`: the graph with the ops of qbio in it, so that it runs with
    their kernels and on any device, the weights as plain numbers, and a manifest that says what it needs. It
    holds neither the example inputs nor paths of this machine.

    Args:
        model: any module that `torch.export` takes, one that `shared.optimize` returned among them; it is
            left as it is.
        path: of the file, ending in ".pt2"; replaced whole, or left alone if something fails.
        example_inputs: a tensor or a tuple of tensors, as the model's forward takes them.
        dynamic_batch: whether the first axis of all inputs is free.
        metadata: texts to keep in the manifest, such as the names of classes.

    Returns:
        The manifest.

    Raises:
        StoreError: the path does not fit, or the model holds something that a file without code cannot.
        ExportError: the model cannot be traced.

    Example:
        >>> import tempfile, torch, shared
        >>> model = torch.nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = shared.save(model, f"{folder}/model.pt2", torch.rand(4, 3))
        ...     again = shared.load(f"{folder}/model.pt2")
        >>> print(manifest.inputs[0].shape)
        ('batch', 3)
        >>> bool((again(torch.ones(7, 3)) == model(torch.ones(7, 3))).all())
        True
    """
    inputs, path = tuple_of(example_inputs, who="save"), checked(path)
    inputs = of_several(inputs) if dynamic_batch else inputs
    with evaluating(model):
        program = program_of(model, inputs, dynamic_batch=dynamic_batch)
    _no_subclasses(program)
    program.example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    records = archive.unpacked(buffer.getvalue())
    plain = guard.cleaned(json.loads(records[archive.PROGRAM]))
    records[archive.PROGRAM] = json.dumps(plain).encode()
    manifest = manifest_of(program, guard.named_ops(plain), checksums(records))
    manifest = replace(manifest, metadata=dict(metadata or {}))
    _loadable(records, plain)
    records[archive.MANIFEST] = manifest.to_json()
    archive.write(path, archive.packed(records))
    return manifest


def checked(path: str | Path) -> Path:
    """The path, if a model can be written there.

    Raises:
        StoreError: it has another ending, or no folder.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise StoreError(f"save: expected a path ending in .pt2, received {path}; rename it")
    if not path.parent.is_dir():
        raise StoreError(f"save: there is no folder {path.parent}; make it first")
    return path


def _no_subclasses(program: torch.export.ExportedProgram) -> None:
    """Refuse weights that only a pickle could hold."""
    for name, value in (*program.state_dict.items(), *program.constants.items()):
        if type(value) not in (Tensor, nn.Parameter):
            raise StoreError(
                f"save: expected plain tensors in the model, received a {type(value).__name__} at {name}; "
                "make a plain tensor of it first"
            )


def _loadable(records: dict[str, bytes], plain: dict[str, Any]) -> None:
    """Refuse now what `load` would refuse."""
    try:
        guard.check(plain, payloads(records), ops=registry().keys())
    except guard.Refused as error:
        raise StoreError(f"save: the model cannot be written as plain data: {error}") from error


def payloads(records: dict[str, bytes]) -> dict[str, Any]:
    """The descriptions of weights and constants."""
    return {
        "weights": json.loads(records[archive.WEIGHTS]),
        "constants": json.loads(records[archive.CONSTANTS]),
    }


def manifest_of(program: torch.export.ExportedProgram, ops: set[str], sums: Mapping[str, str]) -> Manifest:
    """What a program takes, gives and needs.

    Args:
        program: what will be written.
        ops: names of the ops in it; those of PyTorch are left out.
        sums: the checksums of its records.
    """
    known, signature = registry(), program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return Manifest(
        inputs=tuple(_place(name, values[name]) for name in signature.user_inputs if name in values),
        outputs=tuple(_place(name, values[name]) for name in signature.user_outputs if name in values),
        ops=tuple(needed(known[name]) for name in sorted(ops) if name in known),
        parameters=sum(weight.numel() for weight in program.parameters()),
        versions=versions(),
        checksums=sums,
    )


def _place(name: Any, value: Any) -> Place:
    if not isinstance(value, Tensor):
        raise ExportError(f"save: expected tensors in and out, received a {type(value).__name__} at {name}")
    shape = tuple(size if isinstance(size, int) else FREE for size in value.shape)
    return Place(str(name), str(value.dtype).removeprefix("torch."), shape)
