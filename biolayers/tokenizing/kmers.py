"""Words of k letters."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.alphabet import DNA, PAD, Alphabet
from biolayers.tokenizing.encoded import (
    PAD_ID,
    SPECIAL,
    UNKNOWN_ID,
    Encoded,
    checked_ids,
    lengths_of,
    padded_tokens,
)
from shared.errors import UserError

_AMBIGUOUS = ("unknown", "skip", "error")
_REST = ("unknown", "drop", "error")
_WORDS = 1 << 24  # as many as a tokenizer may know


@dataclass(frozen=True)
class KmerTokenizer:
    """Cut sequences into words of k letters, each with a number.

    Ids 0, 1 and 2 are `[PAD]`, `[UNK]` and `[MASK]`; from 3 on come the words of plain letters in
    alphabetical order of their tokens.

    Args:
        k: letters per word.
        overlapping: whether a word begins at every letter (as for DNABERT; Ji et al., 2021), or where the
            last one ends.
        canonical: whether a word and its reverse complement have one id: that of the earlier one.
        alphabet: whose letters the sequences are, with the policy for lower case and other bytes.
        ambiguous: what a word with N, another ambiguous letter or a gap becomes: "unknown", `[UNK]`;
            "skip", nothing; "error" refuses it.
        rest: what becomes of letters that fill no word, at the end of a sequence or in one that is shorter
            than a word: "unknown", one `[UNK]`; "drop", nothing; "error" refuses them.

    Raises:
        UserError: an option is out of range, there would be more than 16,777,216 words, or `canonical` is
            asked for letters without complement.

    Example:
        >>> from biolayers.tokenizing import KmerTokenizer
        >>> tokenizer = KmerTokenizer(3, overlapping=False)
        >>> encoded = tokenizer.encode(["ACGTTTNAA", "GGG"])
        >>> encoded.input_ids
        tensor([[ 9, 66,  1],
                [45,  0,  0]])
        >>> tokenizer.decode(encoded.input_ids)
        ['ACGTTTNNN', 'GGG']
        >>> len(tokenizer), tokenizer.words(encoded.input_ids)[0]
        (67, ['ACG', 'TTT', '[UNK]'])
    """

    k: int
    _: KW_ONLY
    overlapping: bool = True
    canonical: bool = False
    alphabet: Alphabet = DNA
    ambiguous: str = "unknown"
    rest: str = "unknown"

    def __post_init__(self) -> None:
        for name, known in (("ambiguous", _AMBIGUOUS), ("rest", _REST)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"KmerTokenizer: expected {name} to be one of {', '.join(map(repr, known))}, received "
                    f"{getattr(self, name)!r}"
                )
        if self.k < 1 or self.alphabet.channels**self.k > _WORDS:
            raise UserError(
                f"KmerTokenizer: expected k of at least 1 and at most {_WORDS:,} words, received {self.k}, "
                f"which gives {self.alphabet.channels}^{self.k} words"
            )
        if self.canonical and not self.alphabet.stranded:
            raise UserError(
                f"KmerTokenizer: expected an alphabet with complements for canonical words, received "
                f"{self.alphabet}"
            )

    def __len__(self) -> int:
        """How many ids there are, the special ones among them."""
        return len(SPECIAL) + len(self._codes)

    def encode(self, sequences: Any) -> Encoded:
        """Cut sequences into words.

        Args:
            sequences: a text or a list of texts, of Python or Biopython, or tokens (l,) or (b, l) uint8 with
                `PAD` at the ends of shorter rows.

        Returns:
            Ids (b, n) int64 and mask (b, n) bool, n as wide as the longest row.

        Raises:
            UserError: an option says "error" and there is a reason (with the sequence and the position), a
                letter is refused by the alphabet's policy, or tokens have another dtype or shape.
        """
        tokens = padded_tokens(sequences, self.alphabet)
        lengths = lengths_of(tokens).unsqueeze(1)  # (b, 1)
        step = 1 if self.overlapping else self.k
        ids = self._ids(tokens, step)  # (b, n), a word begins at every step
        start = torch.arange(ids.shape[1], device=ids.device) * step
        short = (start < lengths) & (start + self.k > lengths)  # begins, but is not filled
        if self.overlapping:
            short &= start == 0  # later letters stand in earlier words
        unclear = (ids == UNKNOWN_ID) & (start + self.k <= lengths)
        self._refuse(unclear, self.ambiguous, start, "plain letters")
        self._refuse(short, self.rest, start, f"whole words of {self.k} letters")
        ids = ids.masked_fill(start + self.k > lengths, PAD_ID).masked_fill(short, UNKNOWN_ID)
        left_out = torch.zeros_like(short)
        left_out |= unclear if self.ambiguous == "skip" else left_out
        left_out |= short if self.rest == "drop" else left_out
        kept = (ids != PAD_ID) & ~left_out
        return _packed(ids, kept) if self.ambiguous == "skip" else _trimmed(ids, kept)

    def decode(self, ids: Tensor) -> list[str]:
        """The sequences that words came from; `[UNK]` and `[MASK]` become unknown letters.

        Exact for sequences of plain letters that whole words fill; of overlapping words with "skip", what was
        skipped must be known to put the rest in place, so they are refused where they do not overlap.

        Args:
            ids: (n,) or (b, n) integers.

        Raises:
            UserError: words are canonical (their strand is lost), are outside the vocabulary, do not overlap
                as neighbours do, or there is no unknown letter to write.
        """
        if self.canonical:
            raise UserError(
                "KmerTokenizer: expected words with their strand, received canonical ones; use words()"
            )
        ids = checked_ids(ids, len(self))
        return [self._sequence(row[row != PAD_ID].cpu()) for row in ids]

    def words(self, ids: Tensor) -> list[list[str]]:
        """The letters of each word, special ones by name, `[PAD]` left out.

        Args:
            ids: (n,) or (b, n) integers.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        ids = checked_ids(ids, len(self)).cpu()
        return [[self._word(i) for i in row[row != PAD_ID].tolist()] for row in ids]

    # -- numbers of words

    @cached_property
    def _codes(self) -> np.ndarray:
        """The code of each word that has an id, as a number whose digits are its tokens: (words,) int64."""
        codes = np.arange(self.alphabet.channels**self.k)
        return codes[self._partners() >= codes] if self.canonical else codes

    @cached_property
    def _ranks(self) -> Tensor:
        """For each code, the place of its word among the words: (channels^k,) int64; of canonical ones."""
        codes = np.arange(self.alphabet.channels**self.k)
        return torch.from_numpy(np.searchsorted(self._codes, np.minimum(codes, self._partners())))

    def _partners(self) -> np.ndarray:
        """The code of the reverse complement of each code."""
        base, codes = self.alphabet.channels, np.arange(self.alphabet.channels**self.k)
        partner, complement = np.zeros_like(codes), self.alphabet.complement_table.astype(np.int64)
        for _ in range(self.k):
            partner = partner * base + complement[codes % base]
            codes = codes // base
        return partner

    def _ids(self, tokens: Tensor, step: int) -> Tensor:
        """The id of the word that begins at every `step`-th token, `[UNK]` if not all letters are plain."""
        base, count = self.alphabet.channels, -(-tokens.shape[1] // step)
        tokens = F.pad(tokens, (0, self.k), value=PAD)
        code = torch.zeros(len(tokens), count, dtype=torch.int64, device=tokens.device)
        plain = torch.ones_like(code, dtype=torch.bool)
        for j in range(self.k):
            letter = tokens[:, j : j + count * step : step][:, :count]
            plain &= letter < base
            code = code * base + letter.clamp(max=base - 1)
        word = self._ranks.to(code.device)[code] if self.canonical else code
        return (word + len(SPECIAL)).where(plain, UNKNOWN_ID)

    # -- words back to letters

    def _digits(self, ids: Tensor) -> Tensor:
        """The tokens of words that are not special: (n,) to (n, k) uint8."""
        base = self.alphabet.channels
        code = torch.from_numpy(self._codes)[ids - len(SPECIAL)]
        power = base ** torch.arange(self.k - 1, -1, -1)
        return (code.unsqueeze(1) // power % base).to(torch.uint8)

    def _word(self, number: int) -> str:
        if number < len(SPECIAL):
            return SPECIAL[number]
        return self.alphabet.text(self._digits(torch.tensor([number]))[0])

    def _sequence(self, ids: Tensor) -> str:
        """The letters of one row without padding."""
        step = 1 if self.overlapping else self.k
        length = (len(ids) - 1) * step + self.k if len(ids) else 0
        place = torch.arange(len(ids)).unsqueeze(1) * step + torch.arange(self.k)  # (n, k)
        known = ids >= len(SPECIAL)
        digits, place = self._digits(ids[known]), place[known]
        letters = torch.full((length,), PAD, dtype=torch.uint8)
        letters[place] = digits
        if (letters[place] != digits).any():
            raise UserError("KmerTokenizer: expected words that overlap as neighbours do, received others")
        if (letters == PAD).any():
            if self.alphabet.unknown_token is None:
                raise UserError(f"KmerTokenizer: {self.alphabet} has no unknown letter to write for [UNK]")
            letters[letters == PAD] = self.alphabet.unknown_token
        return self.alphabet.text(letters)

    def _refuse(self, found: Tensor, option: str, start: Tensor, expected: str) -> None:
        if option == "error" and found.any():
            row, word = found.nonzero()[0].tolist()
            raise UserError(
                f"KmerTokenizer: expected {expected}, received others in sequence {row + 1}, in the word at "
                f"position {int(start[word]) + 1:,}; mend the sequence, or choose another option than 'error'"
            )


def _packed(ids: Tensor, kept: Tensor) -> Encoded:
    """The ids that are kept, moved to the front of their rows."""
    order = (~kept).int().argsort(dim=1, stable=True)
    return _trimmed(ids.gather(1, order), kept.gather(1, order))


def _trimmed(ids: Tensor, kept: Tensor) -> Encoded:
    """The ids that are kept, which stand at the front of their rows."""
    width = int(kept.sum(1).max()) if kept.numel() else 0
    mask = kept[:, :width]
    return Encoded(ids[:, :width].masked_fill(~mask, PAD_ID), mask)
