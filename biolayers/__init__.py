"""Genomic-sequence layers for PyTorch: FASTA in, tokens, datasets, fused sequence ops, layers and models.

Everything is loaded when it is first used, so `import biolayers` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biolayers import layers, models, ops
    from biolayers.alphabet import DNA, PAD, PROTEIN, RNA, Alphabet
    from biolayers.batches import Batch, BatchDataset, Part
    from biolayers.biopython import to_seqrecord
    from biolayers.dataset import FastaDataset
    from biolayers.encoding import one_hot
    from biolayers.errors import FastaError
    from biolayers.fasta import Fasta, Record
    from biolayers.fastq import Fastq, FastqRecord
    from biolayers.intervals import IntervalError, Intervals, OverlapLeakage, overlap_leakage
    from biolayers.intervals.negatives import negatives
    from biolayers.intervals.tracks import Tracks
    from biolayers.intervals.windows import IntervalDataset
    from biolayers.leaks import Leak, Leakage, leakage
    from biolayers.loading import Loader, loader
    from biolayers.memory import SequenceDataset
    from biolayers.pairs import PairedDataset
    from biolayers.policy import LetterCounts, Policy
    from biolayers.reading.batches import RecordBatch, read_batches
    from biolayers.reading.convert import convert
    from biolayers.repeats import DuplicateGroup, Duplicates, duplicates
    from biolayers.samplers import BatchSampler
    from biolayers.shuffling import shuffle
    from biolayers.similarity import Near
    from biolayers.splits import Split, split
    from biolayers.stream import FastaStream
    from biolayers.variants.dataset import VariantDataset
    from biolayers.variants.effect import VariantEffects, variant_effect
    from biolayers.variants.errors import VariantError
    from biolayers.variants.haplotypes import HaplotypeDataset, Haplotypes, haplotypes
    from biolayers.variants.table import Variants

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
    "Fastq": "fastq",
    "FastqRecord": "fastq",
    "RecordBatch": "reading.batches",
    "convert": "reading.convert",
    "one_hot": "encoding",
    "read_batches": "reading.batches",
    "Batch": "batches",
    "BatchDataset": "batches",
    "BatchSampler": "samplers",
    "FastaDataset": "dataset",
    "FastaStream": "stream",
    "Loader": "loading",
    "loader": "loading",
    "PairedDataset": "pairs",
    "Part": "batches",
    "SequenceDataset": "memory",
    "Leak": "leaks",
    "Leakage": "leaks",
    "leakage": "leaks",
    "Near": "similarity",
    "Split": "splits",
    "to_seqrecord": "biopython",
    "DuplicateGroup": "repeats",
    "Duplicates": "repeats",
    "duplicates": "repeats",
    "shuffle": "shuffling",
    "split": "splits",
    "HaplotypeDataset": "variants.haplotypes",
    "Haplotypes": "variants.haplotypes",
    "VariantDataset": "variants.dataset",
    "VariantEffects": "variants.effect",
    "VariantError": "variants.errors",
    "Variants": "variants.table",
    "haplotypes": "variants.haplotypes",
    "variant_effect": "variants.effect",
    "IntervalDataset": "intervals.windows",
    "IntervalError": "intervals",
    "Intervals": "intervals",
    "OverlapLeakage": "intervals",
    "Tracks": "intervals.tracks",
    "negatives": "intervals.negatives",
    "overlap_leakage": "intervals",
}
_subpackages = ("layers", "models", "ops")

__all__ = [
    "DNA",
    "PAD",
    "PROTEIN",
    "RNA",
    "Alphabet",
    "Batch",
    "BatchDataset",
    "BatchSampler",
    "DuplicateGroup",
    "Duplicates",
    "Fasta",
    "FastaDataset",
    "FastaError",
    "FastaStream",
    "Fastq",
    "FastqRecord",
    "HaplotypeDataset",
    "Haplotypes",
    "IntervalDataset",
    "IntervalError",
    "Intervals",
    "Leak",
    "Leakage",
    "LetterCounts",
    "Loader",
    "Near",
    "OverlapLeakage",
    "PairedDataset",
    "Part",
    "Policy",
    "Record",
    "RecordBatch",
    "SequenceDataset",
    "Split",
    "Tracks",
    "VariantDataset",
    "VariantEffects",
    "VariantError",
    "Variants",
    "convert",
    "duplicates",
    "haplotypes",
    "layers",
    "leakage",
    "loader",
    "models",
    "negatives",
    "one_hot",
    "ops",
    "overlap_leakage",
    "read_batches",
    "shuffle",
    "split",
    "to_seqrecord",
    "variant_effect",
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
