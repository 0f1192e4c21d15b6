"""The ground floor of qbio: declare an op once, dispatch it with reasons, derive it under every transform.

Names load when first used, so that the command line answers before PyTorch is imported.
"""

import importlib

_HOMES = {
    "op": "shared.declare",
    "Op": "shared.declare",
    "Cost": "shared.declare",
    "registry": "shared.declare",
    "prefer": "shared.dispatch",
    "explain": "shared.dispatch",
    "NoProviderError": "shared.dispatch",
    "UserError": "shared.errors",
    "analyse": "shared.graph",
    "optimize": "shared.graph",
    "save": "shared.store",
    "load": "shared.store",
    "export_onnx": "shared.export",
}
_SUBMODULES = (
    "check",
    "declare",
    "derive",
    "dispatch",
    "errors",
    "export",
    "graph",
    "schema",
    "store",
    "threads",
)

__all__ = sorted([*_HOMES, "check"])


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"shared.{name}")
    raise AttributeError(f"module 'shared' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES]
