"""Models as files: a program of `torch.export` with a manifest, checked before anything of it is used.

`load` runs no code in a file, and unpickles nothing in it: see `shared.store.guard`. Files of `save_compiled`
are machine code, and are loaded only where they are declared trusted.
"""

from shared.store.compiled import Compiled, load_compiled, save_compiled
from shared.store.errors import DamagedError, IncompatibleError, MissingPackageError, StoreError
from shared.store.loading import Loaded, load
from shared.store.manifest import Manifest
from shared.store.saving import save

__all__ = [
    "Compiled",
    "DamagedError",
    "IncompatibleError",
    "Loaded",
    "Manifest",
    "MissingPackageError",
    "StoreError",
    "load",
    "load_compiled",
    "save",
    "save_compiled",
]
