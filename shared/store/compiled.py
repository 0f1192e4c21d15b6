"""A model compiled ahead of time by AOTInductor: machine code, and so a file that has to be trusted.

The package holds a shared library of the graph for this kind of processor. The ops of qbio are called in it
by name: they run in their kernels, which are Python, so that the package needs qbio and cannot be used from
plain C++. What it saves is the time between ops, which counts for small batches.
"""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shared.declare import registry
from shared.export.program import evaluating, foreign_remarks_ignored, of_several, program_of, tuple_of
from shared.store import archive
from shared.store.errors import DamagedError, StoreError
from shared.store.loading import check_inputs, check_ops
from shared.store.manifest import Manifest
from shared.store.saving import checked, manifest_of


def save_compiled(
    model: nn.Module, path: str | Path, example_inputs: Any, *, dynamic_batch: bool = True
) -> Manifest:
    """Compile a model, as it is in evaluation, into a package of AOTInductor; needs a C++ compiler here.

    Args:
        model: any module that `torch.export` takes; it is left as it is.
        path: of the file, ending in ".pt2".
        example_inputs: a tensor or a tuple of tensors, as the model's forward takes them.
        dynamic_batch: whether the first axis of all inputs is free.

    Returns:
        The manifest.

    Raises:
        StoreError: there is no compiler, or it refuses.
        ExportError: the model cannot be traced.
    """
    inputs, path = tuple_of(example_inputs, who="save_compiled"), checked(path)
    inputs = of_several(inputs) if dynamic_batch else inputs
    with evaluating(model):
        program = program_of(model, inputs, dynamic_batch=dynamic_batch)
    ops = {target._schema.name for target in _targets(program)}
    manifest = manifest_of(program, ops & registry().keys(), {})
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        try:
            with foreign_remarks_ignored():
                torch._inductor.aoti_compile_and_package(program, package_path=str(draft))
        except Exception as error:  # of the compiler, or that there is none
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StoreError(
                f"save_compiled: the model cannot be compiled here ({line}); it takes a C++ compiler such as "
                "g++. shared.save needs none"
            ) from error
        with zipfile.ZipFile(draft, "a") as file:
            root = file.namelist()[0].partition("/")[0]
            file.writestr(f"{root}/{archive.MANIFEST}", manifest.to_json())
        archive.write(path, draft.read_bytes())
    return manifest


def _targets(program: torch.export.ExportedProgram) -> Iterator[torch._ops.OpOverload]:
    return (node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload))


class Compiled(nn.Module):
    """A compiled model: called like any other, for results alone; it has no parameters to train.

    Args:
        manifest: what the file says of itself.
        run: what runs.
    """

    def __init__(self, manifest: Manifest, run: Any) -> None:
        super().__init__()
        self.manifest, self._run = manifest, run

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the model returned.

        Raises:
            UserError: a shape or dtype differs from what the manifest lists.
        """
        check_inputs(self.manifest.inputs, inputs)
        return self._run(*inputs)

    def extra_repr(self) -> str:
        return str(self.manifest)


def load_compiled(path: str | Path, *, trusted: bool = False) -> Compiled:
    """Load a package that `save_compiled` wrote; its machine code is then part of this process.

    Args:
        path: of the file.
        trusted: that you know who made the file. Without, nothing is loaded.

    Raises:
        StoreError: the file is not declared trusted.
        DamagedError: it is truncated, damaged or foreign.
        MissingPackageError: it uses ops of a package that is not installed; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"{path}: expected a file that save_compiled wrote, found none; check the path")
    manifest = _manifest(path)
    check_ops(path, manifest, registry())
    if not trusted:
        raise StoreError(
            f"{path} holds machine code, which runs once it is loaded; if you know who made it, give "
            "trusted=True, else ask for a file of shared.save"
        )
    return Compiled(manifest, torch._inductor.aoti_load_package(os.fspath(path)))


def _manifest(path: Path) -> Manifest:
    try:
        with zipfile.ZipFile(path) as file:
            names = [each for each in file.namelist() if each.endswith(f"/{archive.MANIFEST}")]
            if len(names) == 1 and file.testzip() is None:
                return Manifest.of_json(file.read(names[0]))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DamagedError(path, f"it cannot be read ({error})") from error
    raise DamagedError(path, "it is no whole package of save_compiled")
