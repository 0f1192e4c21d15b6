"""A model out of a file: manifest first, then everything that could do harm, then PyTorch."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.declare import Op, registry
from shared.errors import UserError
from shared.store import archive, guard
from shared.store.errors import DamagedError, IncompatibleError, MissingPackageError
from shared.store.manifest import FREE, Manifest, Place, checksums, package_of
from shared.store.saving import payloads


class Loaded(nn.Module):
    """A model from a file: called and moved like any module, with the names of parameters that it had.

    It computes as in evaluation, whatever its mode: dropout is off, batch norm has fixed statistics. In that
    state its parameters can be trained further.

    Args:
        manifest: what the file says of itself.
        program: what runs.
    """

    _program: nn.Module

    def __init__(self, manifest: Manifest, program: nn.Module) -> None:
        super().__init__()
        self.manifest = manifest
        self.__dict__["_program"] = program  # no submodule, or the names of all parameters would change
        for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[kind] = program.__dict__[kind]
        nn.Module.train(self, False)

    def forward(self, *inputs: Any) -> Any:
        """What the model returned, of tensors as the manifest lists them.

        Raises:
            UserError: a shape or dtype differs.
        """
        if not torch.compiler.is_compiling():
            check_inputs(self.manifest.inputs, inputs)
        return self._program.forward(*inputs)  # its own checks of inputs are those above

    def deoptimize(self) -> nn.Module:
        """A file has no model from before `shared.optimize`.

        Raises:
            UserError: always; it says what to do.
        """
        raise UserError(
            "deoptimize: expected a copy that shared.optimize made, received a model from a file, which has "
            "a program and not the Python model; build that model and give it this one's state_dict: names "
            "are the same"
        )

    def extra_repr(self) -> str:
        return str(self.manifest)


def check_inputs(places: tuple[Place, ...], inputs: tuple[Any, ...]) -> None:
    """Hold inputs against what a model takes.

    Raises:
        UserError: they differ.
    """
    if len(inputs) != len(places):
        raise UserError(f"expected {len(places)} inputs, received {len(inputs)}")
    free = None
    for place, given in zip(places, inputs, strict=True):
        wanted = f"{place.dtype} ({', '.join(map(str, place.shape))})"
        if not isinstance(given, Tensor):
            raise UserError(f"{place.name}: expected a tensor {wanted}, received a {type(given).__name__}")
        same = len(given.shape) == len(place.shape)
        for size, own in zip(place.shape, given.shape, strict=False):
            free = own if size == FREE and free is None else free
            same = same and own == (free if size == FREE else size)
        if not same or str(given.dtype) != f"torch.{place.dtype}":
            received = f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
            raise UserError(f"{place.name}: expected {wanted}, received {received}")


def load(path: str | Path) -> Loaded:
    """Read a model that `shared.save` wrote; nothing in the file is run or unpickled.

    First the manifest is read and held against what is installed, then each record against its checksum, and
    the program against a list of what may stand in it.

    Args:
        path: of the file.

    Returns:
        The model; `manifest` says what it takes and gives.

    Raises:
        MissingPackageError: the file uses ops of a package that is not installed; the message names it.
        IncompatibleError: an op has another schema here, or this PyTorch cannot read the file.
        DamagedError: the file is truncated, damaged, foreign, or holds something that no model needs.

    Example:
        >>> import shared
        >>> shared.load("no such file.pt2")
        Traceback (most recent call last):
        ...
        shared.store.errors.StoreError: no such file.pt2: expected a file that shared.save wrote, ...
    """
    path = Path(path)
    records = archive.read(path)
    manifest = _manifest(path, records)
    ops = registry()
    check_ops(path, manifest, ops)
    _check_program(path, records, ops)
    try:
        from torch.export.pt2_archive._package import load_pt2

        program = load_pt2(io.BytesIO(archive.packed(records))).exported_programs[archive.MODEL]
        return Loaded(manifest, program.module(check_guards=False))
    except Exception as error:  # its parts are whole and harmless, so that this is a matter of versions
        saved, reason = manifest.versions.get("torch"), (str(error).splitlines() or [""])[0]
        raise IncompatibleError(
            f"{path}: PyTorch {torch.__version__} cannot read this model, which was saved with {saved} "
            f"({type(error).__name__}: {reason}); install torch=={saved}, or save it again"
        ) from error


def _manifest(path: Path, records: dict[str, bytes]) -> Manifest:
    try:
        manifest = Manifest.of_json(records.pop(archive.MANIFEST))
    except ValueError as error:
        raise DamagedError(path, str(error)) from error
    if checksums(records) != dict(manifest.checksums):
        raise DamagedError(path, "its content is not what its manifest says")
    return manifest


def check_ops(path: Path, manifest: Manifest, ops: Mapping[str, Op]) -> None:
    """Hold the ops that a file needs against those that are installed.

    Raises:
        MissingPackageError: one is not there.
        IncompatibleError: one has another schema.
    """
    missing = [op for op in manifest.ops if op.name not in ops]
    if missing:
        first = missing[0]
        names = [op.name for op in missing if op.package == first.package]
        raise MissingPackageError(path, first.package, first.version, names)
    for op in manifest.ops:
        here = str(ops[op.name].overload._schema)
        if here != op.schema:
            package = package_of(ops[op.name].reference.__module__)
            raise IncompatibleError(
                f"{path}: the model was saved with {op.schema}, but {package} has {here} here; install "
                f"{op.package}=={op.version}, or save the model again"
            )


def _check_program(path: Path, records: dict[str, bytes], ops: Mapping[str, Op]) -> None:
    try:
        program = guard.cleaned(json.loads(records[archive.PROGRAM]))
        guard.check(program, payloads(records), ops=ops.keys())
    except guard.Refused as error:
        raise DamagedError(path, str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(path, f"its program is not laid out like a model ({error!r})") from error
    records[archive.PROGRAM] = json.dumps(program).encode()
