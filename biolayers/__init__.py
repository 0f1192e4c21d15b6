"""Genomic-sequence layers for PyTorch: FASTA in, tokens, datasets, fused sequence ops, layers and models.

Everything is loaded when it is first used, so `import biolayers` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biolayers import interpret, layers, models, ops
    from biolayers.alphabet import DNA, PAD, PROTEIN, RNA, Alphabet
    from biolayers.batching.batches import Batch, BatchDataset, Part
    from biolayers.batching.loading import Loader, loader
    from biolayers.batching.samplers import BatchSampler
    from biolayers.batching.stream import FastaStream
    from biolayers.biopython import to_seqrecord
    from biolayers.comparing.leaks import Leak, Leakage, leakage
    from biolayers.comparing.repeats import DuplicateGroup, Duplicates, duplicates
    from biolayers.comparing.similarity import Near
    from biolayers.comparing.splits import Split, split
    from biolayers.encoding import one_hot
    from biolayers.errors import FastaError
    from biolayers.fasta import Fasta, Record
    from biolayers.fastq import Fastq, FastqRecord
    from biolayers.intervals import IntervalError, Intervals, OverlapLeakage, overlap_leakage
    from biolayers.intervals.negatives import negatives
    from biolayers.intervals.tracks import Tracks
    from biolayers.intervals.windows import IntervalDataset
    from biolayers.labelled.dataset import FastaDataset
    from biolayers.labelled.memory import SequenceDataset
    from biolayers.labelled.pairs import PairedDataset
    from biolayers.motifs.bank import MotifBank
    from biolayers.motifs.errors import MotifError
    from biolayers.motifs.hits import MotifHits
    from biolayers.motifs.motif import Motif
    from biolayers.motifs.search import find_motifs, stream_motifs
    from biolayers.policy import LetterCounts, Policy
    from biolayers.reading.batches import RecordBatch, read_batches
    from biolayers.reading.convert import convert
    from biolayers.shuffling import shuffle
    from biolayers.tokenizing.bpe import BPETokenizer
    from biolayers.tokenizing.kmers import KmerTokenizer
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
    "Batch": "batching.batches",
    "BatchDataset": "batching.batches",
    "BatchSampler": "batching.samplers",
    "FastaDataset": "labelled.dataset",
    "FastaStream": "batching.stream",
    "Loader": "batching.loading",
    "loader": "batching.loading",
    "PairedDataset": "labelled.pairs",
    "Part": "batching.batches",
    "SequenceDataset": "labelled.memory",
    "Leak": "comparing.leaks",
    "Leakage": "comparing.leaks",
    "leakage": "comparing.leaks",
    "Near": "comparing.similarity",
    "Split": "comparing.splits",
    "to_seqrecord": "biopython",
    "DuplicateGroup": "comparing.repeats",
    "Duplicates": "comparing.repeats",
    "duplicates": "comparing.repeats",
    "shuffle": "shuffling",
    "split": "comparing.splits",
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
    "Motif": "motifs.motif",
    "MotifBank": "motifs.bank",
    "MotifError": "motifs.errors",
    "MotifHits": "motifs.hits",
    "find_motifs": "motifs.search",
    "stream_motifs": "motifs.search",
    "BPETokenizer": "tokenizing.bpe",
    "KmerTokenizer": "tokenizing.kmers",
}
_subpackages = ("interpret", "layers", "models", "ops")

__all__ = [
    "DNA",
    "PAD",
    "PROTEIN",
    "RNA",
    "Alphabet",
    "BPETokenizer",
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
    "KmerTokenizer",
    "Leak",
    "Leakage",
    "LetterCounts",
    "Loader",
    "Motif",
    "MotifBank",
    "MotifError",
    "MotifHits",
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
    "find_motifs",
    "haplotypes",
    "interpret",
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
    "stream_motifs",
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
