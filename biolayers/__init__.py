"""Genomic-sequence layers for PyTorch: FASTA in, tokens, datasets, fused sequence ops, layers and models.

Everything is loaded when it is first used, so `import biolayers` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biolayers import layers, models, ops
    from biolayers.alphabet import DNA, PAD, PROTEIN, RNA, Alphabet
    from biolayers.dataset import FastaDataset
    from biolayers.errors import FastaError
    from biolayers.fasta import Fasta, Record
    from biolayers.policy import LetterCounts, Policy
    from biolayers.splits import DuplicateGroup, Duplicates, duplicates, split

_homes = {
    "Alphabet": "alphabet",
    "DNA": "alphabet",
    "LetterCounts": "policy",
    "PAD": "alphabet",
    "PROTEIN": "alphabet",
    "Policy": "policy",
    "RNA": "alphabet",
    "FastaError": "errors",
    "Fasta": "fasta",
    "Record": "fasta",
    "FastaDataset": "dataset",
    "DuplicateGroup": "splits",
    "Duplicates": "splits",
    "duplicates": "splits",
    "split": "splits",
}
_subpackages = ("layers", "models", "ops")

__all__ = [
    "DNA",
    "PAD",
    "PROTEIN",
    "RNA",
    "Alphabet",
    "DuplicateGroup",
    "Duplicates",
    "Fasta",
    "FastaDataset",
    "FastaError",
    "LetterCounts",
    "Policy",
    "Record",
    "duplicates",
    "layers",
    "models",
    "ops",
    "split",
]


def __getattr__(name: str) -> Any:
    if name in _subpackages:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_homes[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
