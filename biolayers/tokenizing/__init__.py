"""Tokenisers that make words of letters: k-mers, and byte pairs learned from data."""

from biolayers.tokenizing.bpe import BPETokenizer
from biolayers.tokenizing.encoded import MASK_ID, PAD_ID, UNKNOWN_ID, Encoded
from biolayers.tokenizing.kmers import KmerTokenizer

__all__ = ["MASK_ID", "PAD_ID", "UNKNOWN_ID", "BPETokenizer", "Encoded", "KmerTokenizer"]
