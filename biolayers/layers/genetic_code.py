"""Genetic codes as tables over tokens, for every letter of DNA."""

import functools
from itertools import product

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, PROTEIN
from biolayers.ops.translate import DIGITS
from shared.errors import UserError

STOP = PROTEIN.channels  # the channel of a stop, behind the 20 residues
_GAP, _OTHER = len(DNA) - 1, DIGITS - 1  # tokens without a meaning
_BASES = 4


@functools.cache
def codons(code: int | str = 1) -> Tensor:
    """(4, 4, 4) uint8: the channel of each codon of plain letters: 0 to 19 for residues, 20 for stop.

    Codons that a code reads as a stop in some places and as a residue in others are the residue, as in
    Biopython.

    Args:
        code: number or name of NCBI's genetic codes, as in `Bio.Data.CodonTable`.

    Raises:
        UserError: there is no such code.

    Example:
        >>> codons()[0, 3, 2], PROTEIN.letters.index("M")  # ATG
        (tensor(10, dtype=torch.uint8), 10)
    """
    from Bio.Data import CodonTable

    known = CodonTable.unambiguous_dna_by_id if isinstance(code, int) else CodonTable.unambiguous_dna_by_name
    if code not in known:
        offer = ", ".join(map(str, CodonTable.unambiguous_dna_by_id))
        raise UserError(f"genetic code: expected a name or a number of NCBI's ({offer}), received {code!r}")
    residues = known[code].forward_table
    words = ("".join(letters) for letters in product(DNA.letters, repeat=3))
    found = [PROTEIN.letters.index(residues[word]) if word in residues else STOP for word in words]
    return torch.tensor(found, dtype=torch.uint8).view(_BASES, _BASES, _BASES)


@functools.cache
def residue_table(code: int | str = 1, *, complement: bool = False) -> Tensor:
    """(17, 17, 17) uint8: the protein token of each codon of tokens, ambiguous letters included.

    A codon whose meanings are all one residue (or stop) is that one; B, Z or J if they are both of that pair;
    otherwise X, as is a codon with a foreign token or with some gaps. Three gaps are a gap.

    Args:
        code: as for `codons`.
        complement: whether the tokens are those of the other strand.

    Raises:
        UserError: there is no such code.

    Example:
        >>> words = DNA.tokens(["AAR", "RAY", "TAN"]).int()
        >>> PROTEIN.text(residue_table()[words.unbind(1)])
        'KBX'
    """
    bits = np.left_shift(1, codons(code).numpy().astype(np.int64))  # (4, 4, 4): a set of one
    stands_for = letter_meanings(complement=complement)  # (17, 4)
    for axis in range(3):  # a letter's set is the union over what it stands for
        parts = np.where(stands_for[:, :, None, None], np.moveaxis(bits, axis, 0), 0)  # (17, 4, ...)
        bits = np.moveaxis(np.bitwise_or.reduce(parts, 1), 0, axis)
    table = _tokens_of_sets(bits)
    unclear = ~stands_for.any(1)
    table[unclear[:, None, None] | unclear[:, None] | unclear] = PROTEIN.unknown_token
    table[_GAP, _GAP, _GAP] = len(PROTEIN) - 1
    return torch.from_numpy(table)


@functools.cache
def codon_table(*, complement: bool = False) -> Tensor:
    """(17, 17, 17) uint8: the number 0 to 63 of each codon of plain letters, 64 for every other word."""
    table = torch.full((DIGITS,) * 3, _BASES**3, dtype=torch.uint8)
    numbers = torch.arange(_BASES**3, dtype=torch.uint8).view(_BASES, _BASES, _BASES)
    table[:_BASES, :_BASES, :_BASES] = numbers.flip(0, 1, 2) if complement else numbers
    return table


def letter_meanings(*, complement: bool = False) -> np.ndarray:
    """(17, 4) bool: which of A C G T each token stands for, or its complement does."""
    tokens = torch.arange(DIGITS, dtype=torch.uint8)
    shares = DNA.one_hot(tokens, spread=True).T  # (17, 4)
    return (shares.flip(1) if complement else shares).numpy() > 0


def _tokens_of_sets(bits: np.ndarray) -> np.ndarray:
    """The protein token of each set of residues and stop, given as bits."""
    table = np.full(bits.shape, PROTEIN.unknown_token, np.uint8)
    for letter, meaning in (("B", "DN"), ("Z", "EQ"), ("J", "IL")):
        pair = sum(1 << PROTEIN.letters.index(residue) for residue in meaning)
        table[bits == pair] = int(PROTEIN.tokens(letter))
    for channel, letter in enumerate((*PROTEIN.letters, "*")):
        table[bits == 1 << channel] = int(PROTEIN.tokens(letter))
    return table
