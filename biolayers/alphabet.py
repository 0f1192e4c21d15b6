"""Letters to tokens and back, with one stated policy for every letter that is not plain."""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.letters import BASES, RESIDUES, of_biopython
from biolayers.policy import LetterCounts, Policy
from shared.errors import UserError

PAD = 255  # the token beyond the end of a sequence in a padded row; no letter
ILLEGAL = 254  # only inside tables: a byte that the policy refuses


@dataclass(frozen=True)
class Alphabet:
    """The letters of a kind of sequence, their tokens (`uint8`), and the policy for all other bytes.

    Tokens count up through `letters`, then the unknown letter, then `codes`, then the gap; for DNA that is
    A C G T = 0..3, N = 4, R Y S W K M B D H V = 5..14, gap = 15. `PAD` (255) marks what lies beyond the end
    of a sequence. In sequence ops, every token at or above `channels` is a column of zeros.

    Args:
        letters: The plain letters, in the order of their tokens (and channels).
        name: How the alphabet prints.
        unknown: The letter for "any of them"; empty where there is none.
        codes: Further letters, each with the plain letters that it stands for.
        gap: The letter of a gap; empty where there is none.
        complements: For each of `letters` its partner on the other strand; empty where there are no strands.
        ut: A pair such as ("U", "T"): the first is read as the second under `Policy(ut="convert")`.
        policy: What becomes of ambiguous letters, lower case, gaps and foreign bytes.

    Example:
        >>> from biolayers import DNA
        >>> DNA.tokens("ACGTNacgt")
        tensor([0, 1, 2, 3, 4, 0, 1, 2, 3], dtype=torch.uint8)
        >>> DNA.text(DNA.reverse_complement(DNA.tokens("AACGR")))
        'YCGTT'
        >>> DNA.with_policy(lower="mask")
        Alphabet.parse('DNA(lower=mask)')
        >>> DNA.with_policy(ambiguous="error").tokens("ACGN")
        Traceback (most recent call last):
        ...
        shared.errors.UserError: sequence: expected letters ACGT or -, received 'N' at position 4; ...
    """

    letters: str
    _: KW_ONLY
    name: str = ""
    unknown: str = ""
    codes: tuple[tuple[str, str], ...] = ()
    gap: str = ""
    complements: str = ""
    ut: tuple[str, str] | None = None
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        everything = self._symbols
        if not self.letters:
            raise UserError("Alphabet: expected at least one letter, received none")
        if len(set(everything)) != len(everything) or len(everything) > 200:
            raise UserError(f"Alphabet: expected at most 200 letters, each once, received {everything!r}")
        if not everything.isascii() or not everything.isprintable() or " " in everything or ">" in everything:
            raise UserError(
                f"Alphabet: expected printable ASCII letters without ' ' and '>', received {everything!r}"
            )
        if self.complements and sorted(self.complements) != sorted(self.letters):
            raise UserError(
                f"Alphabet: expected complements to reorder {self.letters}, received {self.complements}"
            )
        if not self.unknown and self.policy.uses_unknown:
            raise UserError(
                f"Alphabet: policy '{self.policy}' needs an unknown letter; give one with unknown="
            )
        if self.complements:
            self._check_codes()

    def _check_codes(self) -> None:
        """Every code must have a partner, or the other strand could not be written."""
        partner = dict(zip(self.letters, self.complements, strict=True))
        meanings = {frozenset(meaning) for meaning in self.meanings.values()}
        for letter, meaning in self.codes:
            if not set(meaning) <= set(self.letters):
                raise UserError(
                    f"Alphabet: expected code {letter!r} for some of {self.letters}, received {meaning!r}"
                )
            if frozenset(partner[plain] for plain in meaning) not in meanings:
                raise UserError(
                    f"Alphabet: expected a code for the complement of {letter!r} ({meaning}), received none"
                )

    # -- names

    @classmethod
    def parse(cls, text: str) -> "Alphabet":
        """Read what `str(alphabet)` prints: `DNA`, `RNA` or `PROTEIN`, and options as `DNA(lower=mask)`.

        Example:
            >>> Alphabet.parse("dna(ambiguous=unknown, ut=convert)").policy.ut
            'convert'
        """
        match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", text)
        known = {alphabet.name: alphabet for alphabet in (DNA, RNA, PROTEIN)}
        if match is None or match[1].upper() not in known:
            raise UserError(
                f"Alphabet: expected DNA, RNA or PROTEIN, perhaps with options, received {text!r}"
            )
        options = {}
        for item in filter(str.strip, (match[2] or "").split(",")):
            key, _, value = (part.strip() for part in item.partition("="))
            options[key] = value
        return known[match[1].upper()].with_policy(**options)

    def with_policy(self, **options: str) -> "Alphabet":
        """The same alphabet with some clauses of its `Policy` changed."""
        Policy.check_names(list(options))
        return replace(self, policy=replace(self.policy, **options))

    def __str__(self) -> str:
        options = str(self.policy)
        return (self.name or self.letters) + (f"({options})" if options else "")

    def __repr__(self) -> str:
        if any(self == known.with_policy(**vars(self.policy)) for known in (DNA, RNA, PROTEIN)):
            return f"Alphabet.parse({str(self)!r})"
        given = ((f.name, getattr(self, f.name), f.default) for f in fields(self)[1:-1])
        options = "".join(f", {name}={value!r}" for name, value, default in given if value != default)
        return f"Alphabet({self.letters!r}{options}" + (
            f", policy={self.policy!r})" if str(self.policy) else ")"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # without the cached tables

    # -- sizes and tables

    @property
    def channels(self) -> int:
        """How many plain letters there are: the channels of a one-hot tensor."""
        return len(self.letters)

    def __len__(self) -> int:
        """How many tokens there are, `PAD` apart."""
        return len(self._symbols)

    @cached_property
    def _symbols(self) -> str:
        return self.letters + self.unknown + "".join(letter for letter, _ in self.codes) + self.gap

    @property
    def stranded(self) -> bool:
        """Whether sequences have a reverse complement."""
        return bool(self.complements)

    @property
    def unknown_token(self) -> int | None:
        """The token of N (DNA, RNA) or X (proteins)."""
        return self.channels if self.unknown else None

    @cached_property
    def meanings(self) -> dict[str, str]:
        """For every letter but the gap, the plain letters that it stands for (none for such as `*`)."""
        plain = {letter: letter for letter in self.letters}
        return plain | ({self.unknown: self.letters} if self.unknown else {}) | dict(self.codes)

    @cached_property
    def byte_table(self) -> np.ndarray:
        """The token of each of the 256 bytes under the policy, 254 where the policy refuses: (256,) uint8."""
        return np.array([self._token(chr(byte)) for byte in range(256)], np.uint8)

    def _token(self, letter: str) -> int:
        policy, unknown = self.policy, self.channels
        if letter not in self._symbols and letter.upper() != letter and self._legal(letter.upper()):
            if policy.lower == "mask":
                return unknown
            return self._token(letter.upper()) if policy.lower == "upper" else ILLEGAL
        if self.ut and letter == self.ut[0] and policy.ut == "convert":
            letter = self.ut[1]
        if letter not in self._symbols:
            return unknown if policy.other == "unknown" else ILLEGAL
        choice = "keep" if letter in self.letters else policy.gap if letter == self.gap else policy.ambiguous
        return {"keep": self._symbols.index(letter), "unknown": unknown, "error": ILLEGAL}[choice]

    def _legal(self, letter: str) -> bool:
        return letter in self._symbols or (self.ut is not None and letter == self.ut[0])

    @cached_property
    def letter_table(self) -> np.ndarray:
        """The letter (as a byte) of each token, 0 where there is none: (256,) uint8."""
        table = np.zeros(256, np.uint8)
        table[: len(self)] = np.frombuffer(self._symbols.encode(), np.uint8)
        return table

    @cached_property
    def complement_table(self) -> np.ndarray:
        """The token of the complement of each token: (256,) uint8. R (A or G) becomes Y (T or C)."""
        if not self.stranded:
            raise UserError(f"{self}: sequences of this alphabet have no complement; use DNA or RNA")
        partner = dict(zip(self.letters, self.complements, strict=True))
        by_meaning = {frozenset(meaning): letter for letter, meaning in self.meanings.items()}
        table = np.arange(256, dtype=np.uint8)
        for letter, meaning in self.meanings.items():
            other = by_meaning[frozenset(partner[plain] for plain in meaning)]
            table[self._symbols.index(letter)] = self._symbols.index(other)
        return table

    # -- letters to tokens and back

    def tokens(
        self, text: str | bytes | np.ndarray | Tensor | Sequence[Any] | Any, *, record: str = "sequence"
    ) -> Tensor:
        """Encode letters: (l,) uint8, or (n, l) for a list of n sequences of one length.

        Args:
            text: A string, bytes, Biopython's `Seq` or `SeqRecord`, a `uint8` array or tensor of letters of
                any shape, or a list of strings or of Biopython's sequences.
            record: The name used in messages.

        Raises:
            UserError: A letter is refused by the policy (record, position from 1, letter), or lengths differ.
        """
        if isinstance(text, (list, tuple)):
            return self._tokens_of_many(text, record)
        text = of_biopython(text)
        letters = self._bytes(text, record)
        tokens = self.byte_table[letters]
        if (tokens == ILLEGAL).any():
            position = int((tokens.reshape(-1) == ILLEGAL).argmax())
            letter = text[position] if isinstance(text, str) else chr(letters.reshape(-1)[position])
            raise UserError(self.complaint(record, letter, position + 1))
        return torch.from_numpy(tokens)

    def _tokens_of_many(self, texts: Sequence[Any], record: str) -> Tensor:
        rows = [self.tokens(text, record=f"{record} {i}") for i, text in enumerate(texts, 1)]
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            shown = ", ".join(map(str, sorted(lengths)))
            raise UserError(
                f"{record}: expected sequences of one length, received lengths {shown}; encode them singly"
            )
        return torch.stack(rows) if rows else torch.empty((0, 0), dtype=torch.uint8)

    @staticmethod
    def _bytes(text: Any, record: str) -> np.ndarray:
        if isinstance(text, str):  # one byte per letter, so that positions stay right
            return np.frombuffer(text.encode("ascii", errors="replace"), np.uint8)
        if isinstance(text, (bytes, bytearray, memoryview)):
            return np.frombuffer(text, np.uint8)
        letters = text.cpu().numpy() if isinstance(text, Tensor) else np.asarray(text)
        if letters.dtype != np.uint8:
            raise UserError(f"{record}: expected letters as str, bytes or uint8, received {letters.dtype}")
        return letters

    def complaint(self, record: str, letter: str, position: int) -> str:
        """The message for a refused letter at `position` (from 1) of `record`."""
        legal = [letter for letter in self._symbols if self._token(letter) != ILLEGAL]
        plain, more = legal[: self.channels], " or ".join(legal[self.channels :][-1:])
        others = "".join(legal[self.channels : -1])
        expected = "".join(plain) + (f" or {others}{more}" if more else "")
        return (
            f"{record}: expected letters {expected}, received {letter!r} at position {position:,}; "
            f"mend the sequence{self._remedy(letter)}"
        )

    def _remedy(self, letter: str) -> str:
        """Which clause of the policy would admit the letter."""
        if letter in self._symbols:
            clause = "gap='keep'" if letter == self.gap else "ambiguous='keep'"
        elif letter.upper() != letter and self._legal(letter.upper()) and self.policy.lower == "error":
            clause = "lower='upper'"
        elif self.ut and letter.upper() == self.ut[0]:
            clause = "ut='convert'"
        elif self.unknown:
            clause = "other='unknown'"
        else:
            return ""
        return f", or choose the policy {clause}"

    def text(self, tokens: Tensor) -> str | list[str]:
        """Decode tokens: a string for (l,), a list of strings for (n, l); padding at the end is dropped.

        Raises:
            UserError: A token has no letter (position from 0), or `PAD` stands before a letter.
        """
        if tokens.dtype != torch.uint8 or tokens.dim() not in (1, 2):
            raise UserError(
                f"{self}: expected uint8 tokens (l,) or (n, l), received {tokens.dtype} {tuple(tokens.shape)}"
            )
        if tokens.dim() == 2:
            return [self.text(row) for row in tokens]  # type: ignore[misc]
        values = tokens.cpu().numpy()
        real = np.flatnonzero(values != PAD)
        letters = self.letter_table[values[: real[-1] + 1 if len(real) else 0]]
        if (letters == 0).any():
            position = int((letters == 0).argmax())
            raise UserError(
                f"{self}: expected tokens 0..{len(self) - 1}, received {values[position]} at index {position}"
            )
        return letters.tobytes().decode("ascii")

    # -- tensors of tokens

    def complement(self, tokens: Tensor) -> Tensor:
        """The partner of each token on the other strand, same shape; `PAD` stays `PAD`."""
        return _look_up(self.complement_table, tokens)

    def reverse_complement(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read the other strand, for tokens (..., l) of any leading shape.

        Args:
            tokens: (..., l) uint8.
            lengths: (...) integers: the true length of each row, so that padding stays at the end. Without
                it the whole row is reversed, padding included.
        """
        if lengths is None:
            return self.complement(tokens).flip(-1)
        place = torch.arange(tokens.shape[-1], device=tokens.device)  # (l,)
        mirror = lengths.to(place).unsqueeze(-1) - 1 - place  # (..., l)
        return self.complement(tokens).gather(-1, torch.where(mirror < 0, place, mirror).expand(tokens.shape))

    def one_hot(self, tokens: Tensor, *, spread: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
        """One channel per plain letter: tokens (..., l) to (..., channels, l).

        Args:
            tokens: (..., l) uint8.
            spread: Ambiguous letters become equal shares of the letters that they stand for (R is 0.5 A and
                0.5 G) instead of zeros. Gaps and padding are zeros either way.
            dtype: Of the result.
        """
        if not spread:
            from biolayers.encoding import one_hot

            return one_hot(tokens, self, dtype)
        table = np.zeros((256, self.channels))
        for letter, meaning in self.meanings.items():
            for plain in meaning:
                table[self._symbols.index(letter), self.letters.index(plain)] = 1 / len(meaning)
        columns = torch.from_numpy(table).to(tokens.device, dtype).index_select(0, tokens.flatten().int())
        return columns.view(*tokens.shape, self.channels).movedim(-1, -2).contiguous()

    # -- counts

    def counts(self, text: str | bytes | np.ndarray | Tensor) -> LetterCounts:
        """How many letters each clause of the policy touches in `text`."""
        return self.counts_of(np.bincount(self._bytes(text, "sequence").reshape(-1), minlength=256))

    def counts_of(self, histogram: np.ndarray) -> LetterCounts:
        """The same from how often each byte occurs, (256,) integers."""
        sums = {"lower": 0, "ambiguous": 0, "gap": 0, "ut": 0, "other": 0}
        for byte in np.flatnonzero(histogram):
            for kind in self._kinds(chr(byte)):
                sums[kind] += int(histogram[byte])
        return LetterCounts(int(histogram.sum()), **sums)

    def _kinds(self, letter: str) -> list[str]:
        if letter not in self._symbols and letter.upper() != letter and self._legal(letter.upper()):
            return ["lower", *self._kinds(letter.upper())]
        if letter in self.letters:
            return []
        if letter == self.gap:
            return ["gap"]
        if letter in self._symbols:
            return ["ambiguous"]
        return ["ut"] if self.ut and letter == self.ut[0] else ["other"]


def _look_up(table: np.ndarray, tokens: Tensor) -> Tensor:
    return (
        torch.from_numpy(table).to(tokens.device).index_select(0, tokens.flatten().int()).view(tokens.shape)
    )


DNA = Alphabet(
    "ACGT",
    name="DNA",
    unknown="N",
    codes=tuple(BASES.items()),
    gap="-",
    complements="TGCA",
    ut=("U", "T"),
)
RNA = Alphabet(
    "ACGU",
    name="RNA",
    unknown="N",
    codes=tuple((letter, bases.replace("T", "U")) for letter, bases in BASES.items()),
    gap="-",
    complements="UGCA",
    ut=("T", "U"),
)
PROTEIN = Alphabet(
    "ACDEFGHIKLMNPQRSTVWY",
    name="PROTEIN",
    unknown="X",
    codes=tuple(RESIDUES.items()),
    gap="-",
)
