"""Words learned from data: byte-pair encoding, by Hugging Face's `tokenizers`."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.tokenizing.encoded import (
    PAD_ID,
    SPECIAL,
    Encoded,
    batch_of,
    checked_ids,
    padded_tokens,
)
from shared.errors import UserError


class BPETokenizer:
    """Cut sequences into words that are frequent in the data they were learned from.

    Byte-pair encoding (Sennrich, Haddow and Birch, 2016; for DNA: DNABERT-2, Zhou et al., 2024): starting
    from single letters, the most frequent pair of neighbouring words becomes a new word, again and again.
    Every letter of the alphabet is a word, so every sequence is cut without loss; letters that are not plain
    (N, other ambiguous ones, gaps) stay words of their own. Ids 0, 1 and 2 are `[PAD]`, `[UNK]` and `[MASK]`.

    Made by `BPETokenizer.train` or `BPETokenizer.load`.

    Args:
        backend: a `tokenizers.Tokenizer` whose ids 0 to 2 are as said.
        alphabet: whose letters the sequences are, with the policy for lower case and other bytes.

    Raises:
        UserError: the backend has other special words.

    Example:
        >>> from biolayers.tokenizing import BPETokenizer
        >>> tokenizer = BPETokenizer.train(["TATATATAGGC", "TATANTATA"], vocabulary_size=22)
        >>> encoded = tokenizer.encode(["TATANGG", "TATA"])
        >>> tokenizer.words(encoded.input_ids)
        [['TATA', 'N', 'G', 'G'], ['TATA']]
        >>> tokenizer.decode(encoded.input_ids)
        ['TATANGG', 'TATA']
    """

    def __init__(self, backend: Any, *, alphabet: Alphabet = DNA) -> None:
        found = tuple(backend.id_to_token(i) for i in range(len(SPECIAL)))
        if found != SPECIAL:
            raise UserError(
                f"BPETokenizer: expected {', '.join(SPECIAL)} as the first words, received {found}; train it "
                "with BPETokenizer.train"
            )
        self.backend, self.alphabet = backend, alphabet

    @classmethod
    def train(
        cls,
        source: str | os.PathLike[str] | Iterable[Any],
        vocabulary_size: int = 4096,
        *,
        alphabet: Alphabet = DNA,
        min_count: int = 2,
        piece: int = 512,
    ) -> "BPETokenizer":
        """Learn words; the same data give the same words.

        Args:
            source: path of a FASTA or FASTQ file, or sequences as text or as tokens (l,) or (b, l) uint8.
            vocabulary_size: ids in all: the special ones, the letters, and the words that are learned; fewer
                if the data have no more.
            alphabet: whose letters the sequences are, with the policy for lower case and other bytes.
            min_count: how often a pair must occur to become a word.
            piece: sequences are cut into pieces of so many letters, across which no word is learned.

        Raises:
            UserError: `vocabulary_size` leaves no room for letters, another number is below 1, a letter is
                refused by the policy, or the package `tokenizers` is missing.
            FastaError: the file is missing or not well formed.
        """
        backends = _tokenizers()
        least = len(SPECIAL) + len(alphabet)
        if vocabulary_size < least or min(min_count, piece) < 1:
            raise UserError(
                f"BPETokenizer: expected vocabulary_size of at least {least} (special words and letters), "
                f"min_count and piece of at least 1, received {vocabulary_size}, {min_count} and {piece}"
            )
        backend = backends.Tokenizer(backends.models.BPE(unk_token=SPECIAL[1]))
        other = backends.Regex(f"[^{alphabet.letters}]")
        backend.pre_tokenizer = backends.pre_tokenizers.Split(other, "isolated")
        backend.decoder = backends.decoders.Fuse()
        letters = [chr(byte) for byte in alphabet.letter_table if byte]
        trainer = backends.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=min_count,
            special_tokens=list(SPECIAL),
            initial_alphabet=letters,
            show_progress=False,
        )
        backend.train_from_iterator(_pieces(_texts(source, alphabet), piece), trainer)
        return cls(backend, alphabet=alphabet)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, alphabet: Alphabet = DNA) -> "BPETokenizer":
        """Read what `save` wrote: the JSON of Hugging Face's `tokenizers`.

        Raises:
            UserError: the file is missing, of another kind, or has other special words, or the package
                `tokenizers` is missing.
        """
        backends = _tokenizers()
        try:
            backend = backends.Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"{path}: expected a tokenizer's JSON, received none ({error.strerror})"
            ) from error
        except Exception as error:  # the package raises this class itself
            raise UserError(
                f"{path}: expected a tokenizer's JSON, received another file ({error})"
            ) from error
        return cls(backend, alphabet=alphabet)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the words and how they were learned, as JSON that `tokenizers` and `transformers` read."""
        Path(path).write_text(self.backend.to_str(pretty=True), encoding="utf-8")

    def __len__(self) -> int:
        """How many ids there are, the special ones among them."""
        return self.backend.get_vocab_size()

    def encode(self, sequences: Any) -> Encoded:
        """Cut sequences into words.

        Args:
            sequences: a text or a list of texts, of Python or Biopython, or tokens (l,) or (b, l) uint8 with
                `PAD` at the ends of shorter rows.

        Returns:
            Ids (b, n) int64 and mask (b, n) bool, n as wide as the longest row.

        Raises:
            UserError: a letter is refused by the alphabet's policy, or tokens have another dtype or shape.
        """
        texts = self.alphabet.text(padded_tokens(sequences, self.alphabet))
        return batch_of([row.ids for row in self.backend.encode_batch(texts)])

    def decode(self, ids: Tensor) -> list[str]:
        """The sequences that words came from, without special words.

        Args:
            ids: (n,) or (b, n) integers.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        rows = checked_ids(ids, len(self)).tolist()
        return self.backend.decode_batch(rows, skip_special_tokens=True)

    def words(self, ids: Tensor) -> list[list[str]]:
        """The letters of each word, special ones by name, `[PAD]` left out.

        Args:
            ids: (n,) or (b, n) integers.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        rows = checked_ids(ids, len(self)).tolist()
        return [[self.backend.id_to_token(i) for i in row if i != PAD_ID] for row in rows]

    def __repr__(self) -> str:
        return f"BPETokenizer({len(self)} words, alphabet={self.alphabet})"


def _texts(source: Any, alphabet: Alphabet) -> Iterator[str]:
    """The sequences of a file or a collection, as the alphabet writes them."""
    if isinstance(source, (str, os.PathLike)):
        from biolayers.reading.batches import read_batches

        for batch in read_batches(source, alphabet=alphabet):
            for start, stop in zip(batch.offsets, batch.offsets[1:], strict=False):
                yield alphabet.text(batch.tokens[start:stop])
        return
    for sequence in source:
        yield from alphabet.text(padded_tokens(sequence, alphabet))


def _pieces(texts: Iterable[str], size: int) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), size):
            yield text[start : start + size]


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise UserError(
            'BPETokenizer: needs the package tokenizers; install it with: pip install "qbio[tokenizers]"'
        ) from error
    return tokenizers
