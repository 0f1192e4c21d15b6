"""The packages of the extra `export`, loaded when first used."""

import importlib
from typing import Any

from shared.export.errors import ExportError


def module(name: str) -> Any:
    """A module of the extra.

    Raises:
        ExportError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExportError(
            f'export_onnx needs {error.name}, which is not installed; pip install "qbio[export]"'
        ) from error
