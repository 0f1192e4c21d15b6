"""The records of a `.pt2` file, a zip archive of uncompressed parts: read with care, written whole."""

import io
import os
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from shared.store.errors import DamagedError, StoreError

MODEL = "model"  # the name of the program in the archive
PROGRAM = f"models/{MODEL}.json"
SAMPLES = f"data/sample_inputs/{MODEL}.pt"
WEIGHTS = f"data/weights/{MODEL}_weights_config.json"
CONSTANTS = f"data/constants/{MODEL}_constants_config.json"
MANIFEST = "extra/qbio.json"
FIXED = {PROGRAM, WEIGHTS, CONSTANTS, MANIFEST}
NUMBERED = re.compile(r"data/(weights/weight|constants/tensor)_\d+")  # raw numbers
# what PyTorch's writer adds, and its example inputs, which are a pickle and never looked at
IGNORED = {
    "archive_format",
    "archive_version",
    ".data/version",
    ".data/serialization_id",
    "byteorder",
    SAMPLES,
}


def read(path: Path) -> dict[str, bytes]:
    """The content of each record by its name.

    Raises:
        StoreError: there is no such file.
        DamagedError: it is damaged, or holds records of other kinds.
    """
    if not path.is_file():
        raise StoreError(f"{path}: expected a file that shared.save wrote, found none; check the path")
    try:
        with zipfile.ZipFile(path) as file:
            return _records(path, file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(path, f"it cannot be read ({error})") from error


def _records(path: Path, file: zipfile.ZipFile) -> dict[str, bytes]:
    entries, found, whole = file.infolist(), {}, path.stat().st_size
    roots = {entry.filename.partition("/")[0] for entry in entries}
    if len(roots) != 1 or sum(entry.file_size for entry in entries) > whole:
        raise DamagedError(path, "its records are not laid out like those of a model")
    for entry in entries:
        name = entry.filename.partition("/")[2]
        if entry.compress_type != zipfile.ZIP_STORED or name in found:
            raise DamagedError(path, f"its record {name!r} is compressed or there twice")
        if name not in FIXED | IGNORED and not NUMBERED.fullmatch(name):
            raise DamagedError(path, f"it holds {name!r}")
        found[name] = file.read(entry)  # compares the checksum
    missing = sorted(FIXED - found.keys())
    if missing:
        raise DamagedError(path, f"it lacks {', '.join(missing)}")
    if found.get("byteorder", b"little") != sys.byteorder.encode():
        raise DamagedError(path, "it was written on a machine of the other byte order")
    return {name: content for name, content in found.items() if name not in IGNORED}


def packed(records: Mapping[str, bytes]) -> bytes:
    """An archive with these records and nothing else, as PyTorch reads it."""
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, content in records.items():
            writer.write_bytes(name, bytes(content))
        writer.write_bytes(SAMPLES, b"")
    return buffer.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """The records of an archive that PyTorch has just written."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        records = {entry.filename.partition("/")[2]: file.read(entry) for entry in file.infolist()}
    return {name: part for name, part in records.items() if name not in IGNORED}


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: nothing can be written there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: expected a path that can be written, but it cannot ({error.strerror}); choose another"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
