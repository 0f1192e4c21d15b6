"""The search for sites of motifs: in tokens, in text, and in FASTA files of any size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA
from biolayers.fasta import Fasta
from biolayers.motifs.bank import MotifBank, as_bank
from biolayers.motifs.distribution import Tails, check_p_value, tails
from biolayers.motifs.errors import MotifError
from biolayers.motifs.hits import MotifHits, joined
from shared.progress import bar
from shared.threads import parallel

PIECE = 1 << 24  # letters of a file that are in memory at a time
_ROOM = 64  # sites of a block for which there is always room
_TABLE = 1 << 24  # sites for which there is room in one go


def find_motifs(
    sequences: Any,
    motifs: Any,
    *,
    p_value: float | None = None,
    min_score: float | None = None,
    both_strands: bool = True,
    unknown: str = "skip",
    background: Any = None,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> MotifHits:
    """Find every site of every motif that is improbable enough, on both strands, the last window included.

    Nothing is missed: see `biolayers.kernels.numba.motif_hits`. Sites come by sequence and place; at one
    place, in the order of the motifs, forward before reverse. p-values are exact for scores on the grid of
    `Motif.log_odds`, under independent letters with the shares of the background; a site on the minus strand
    is judged by the letters that are read there, which matters if the background differs between the strands.

    Args:
        sequences: Tokens (l,) or (b, l) uint8, with `PAD` at the end of shorter rows; a string or several;
            or a `Fasta`.
        motifs: A `MotifBank`, motifs, consensus strings, or a path object of a file of motifs.
        p_value: The highest p-value of a site, above 0 and up to 1; 1e-4 where no score is given.
        min_score: The lowest score of a site in bits, instead of or as well as a p-value.
        both_strands: Whether the reverse strand is searched too.
        unknown: What N and other ambiguous letters do to a site, see `MotifBank.letters`: "skip", "zero" or
            "expected". Gaps and padding never belong to a site.
        background: The shares of A, C, G and T, in place of the motifs' own.
        names: Of the sequences; of a `Fasta` those of its records, else sequence1, sequence2, ...
        progress: Whether a bar shows on the terminal (of a `Fasta`).

    Raises:
        MotifError: An argument has another shape, dtype or range.

    Example:
        >>> hits = find_motifs(["TTGACGTCAA", "ACGT"], ["TGACGTCA"], p_value=1e-4)
        >>> [(int(s), int(d)) for s, d in zip(hits.start, hits.strand)], hits.tests
        ([(1, 1), (1, -1)], array([6]))
    """
    wanted = Wanted.of(motifs, p_value, min_score, both_strands, unknown, background)
    if isinstance(sequences, Fasta):
        if names is not None:
            raise MotifError("names: a Fasta has names of its own; leave them out")
        parts = list(_of_fasta(sequences, wanted, PIECE, progress))
        return joined(parts) if parts else wanted.hits(_NOTHING, sequences.names)
    tokens, edges = _flat(sequences)
    names = list(names) if names is not None else [f"sequence{i + 1}" for i in range(len(edges) - 1)]
    if len(names) != len(edges) - 1:
        raise MotifError(f"names: expected {len(edges) - 1}, one for each sequence, received {len(names)}")
    return wanted.hits(wanted.search(tokens, edges, np.diff(edges)), names)


def stream_motifs(
    fasta: Fasta,
    motifs: Any,
    *,
    p_value: float | None = None,
    min_score: float | None = None,
    both_strands: bool = True,
    unknown: str = "skip",
    background: Any = None,
    piece: int = PIECE,
    progress: bool = False,
) -> Iterator[MotifHits]:
    """`find_motifs` in a file, piece by piece in the order of the file, so that memory stays bounded.

    The parts together have the same sites; their q-values are those of each part by itself.

    Args:
        fasta: The file.
        motifs: As of `find_motifs`, like the other arguments.
        p_value: As there.
        min_score: As there.
        both_strands: As there.
        unknown: As there.
        background: As there.
        piece: How many letters are in memory at a time; a motif may reach across the border of two pieces.
        progress: Whether a bar shows on the terminal.

    Raises:
        MotifError: As there.
    """
    wanted = Wanted.of(motifs, p_value, min_score, both_strands, unknown, background)
    if piece < 1:
        raise MotifError(f"piece: expected at least 1 letter, received {piece}")
    return _of_fasta(fasta, wanted, piece, progress)


@dataclass(frozen=True)
class _Found:
    """Sites: the score table (a strand of a motif), the row, the place in the row, and the score."""

    table: np.ndarray
    row: np.ndarray
    start: np.ndarray
    score: np.ndarray
    tests: np.ndarray


_NOTHING = _Found(*(np.zeros(0, np.int64),) * 3, np.zeros(0), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Wanted:
    """A search that is ready to run: score tables, one for each strand of each motif, and their thresholds.

    Args:
        bank: The motifs.
        strands: How many of each.
        widths: (s,) int64.
        weights: (s, 4, w) float64.
        letters: (rows, 4) float64: what tokens stand for.
        thresholds: (s,) float64: the lowest score of a site.
        tails: The chances of scores down to the thresholds.
        tables: (s, groups, lanes) uint8: the bytes that rule sites out.
    """

    bank: MotifBank
    strands: int
    widths: np.ndarray
    weights: np.ndarray
    letters: np.ndarray
    thresholds: np.ndarray
    tails: Tails
    tables: np.ndarray

    @classmethod
    def of(
        cls,
        motifs: Any,
        p_value: float | None,
        min_score: float | None,
        both_strands: bool,
        unknown: str,
        background: Any,
    ) -> "Wanted":
        """A search for arguments of `find_motifs`."""
        from biolayers.kernels.numba.motif_hits import tabulate
        from biolayers.kernels.numba.motif_lanes import LANES, WORD

        bank = as_bank(motifs, background)
        strands = 1 + both_strands
        widths = np.repeat(bank.widths, strands)
        weights = _by_strand(bank, strands)
        chances, thresholds = _limits(bank, strands, p_value, min_score)
        groups = -(-weights.shape[2] // WORD)
        tables = np.empty((len(widths), groups, LANES), np.uint8)
        parallel(tabulate, len(widths), weights, widths, thresholds, tables, grain=64)
        letters = bank.letters(unknown, torch.float64).numpy()
        return cls(bank, strands, widths, weights, letters, thresholds, chances, tables)

    def search(self, tokens: np.ndarray, edges: np.ndarray, limits: np.ndarray) -> _Found:
        """The sites of all rows of flat tokens that begin before `limits` (of each row), in order."""
        from biolayers.kernels.numba import motif_hits as kernel

        plain, legal = np.empty_like(tokens), np.empty_like(tokens)
        kernel.runs(tokens, edges, 4, plain)
        kernel.runs(tokens, edges, len(self.letters), legal)
        table, place, score = self._sites(tokens, plain)
        if len(self.letters) > 4:
            values = np.einsum("rc,scj->srj", self.letters, self.weights)
            more = kernel.unclear(tokens, plain, legal, values, self.widths, self.thresholds)
            table, place, score = (
                np.concatenate(both) for both in zip((table, place, score), more, strict=True)
            )
        row = np.searchsorted(edges, place, "right") - 1
        start = place - edges[row]
        order = np.argsort(place * len(self.widths) + table)
        order = order[start[order] < limits[row[order]]]
        longer = kernel.tally(edges, limits, legal)[::-1].cumsum()[
            ::-1
        ]  # sites with at least so many letters
        tests = longer[self.bank.widths] * self.strands
        return _Found(table[order], row[order], start[order], score[order], tests)

    def _sites(self, tokens: np.ndarray, plain: np.ndarray) -> list[np.ndarray]:
        """Table, place in the flat tokens, and score of the sites of plain letters."""
        from biolayers.kernels.numba.motif_hits import BLOCK

        expected = self.tails.p_values(np.arange(len(self.widths)), self.thresholds).sum()
        left = [(np.arange(-(-len(tokens) // BLOCK)), _ROOM + int(2 * BLOCK * expected))]
        parts: list[list[np.ndarray]] = []
        while left:
            blocks, room = left.pop()
            some, others = np.split(blocks, [max(1, _TABLE // room)])
            counts, *columns = self._in_blocks(tokens, plain, some, room)
            whole = counts <= room
            inside = np.arange(room) < np.where(whole, counts, 0)[:, None]
            parts.append([column[inside] for column in columns])
            crowded = (some[~whole], int(counts.max(initial=0)))
            left += [each for each in ((others, room), crowded) if len(each[0])]
        empty = [np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)]
        return [np.concatenate(column) for column in zip(empty, *parts, strict=True)]

    def _in_blocks(
        self, tokens: np.ndarray, plain: np.ndarray, blocks: np.ndarray, room: int
    ) -> tuple[np.ndarray, ...]:
        from biolayers.kernels.numba.motif_hits import find

        counts, shape = np.zeros(len(blocks), np.int64), (len(blocks), room)
        columns = np.empty(shape, np.int32), np.empty(shape, np.int64), np.empty(shape)
        parallel(
            find, len(blocks), blocks, tokens, plain, self.tables, self.widths, self.weights, self.thresholds,
            counts, *columns, grain=max(1, 512 // len(self.widths)),
        )  # fmt: skip
        return counts, *columns

    def hits(self, found: _Found, names: Sequence[str], rows: np.ndarray | None = None) -> MotifHits:
        """What was found as a table; `rows` numbers the sequences of the rows."""
        silent = np.isinf(self.thresholds).reshape(-1, self.strands).all(1)
        motif_names = self.bank.names
        return MotifHits(
            motif_names,
            names,
            found.table // self.strands,
            found.row if rows is None else rows[found.row],
            found.start,
            np.where(found.table % self.strands == 0, 1, -1).astype(np.int8),
            found.score,
            self.tails.p_values(found.table, found.score),
            self.bank.widths,
            found.tests if len(found.tests) else np.zeros(len(self.bank), np.int64),
            tuple(name for name, none in zip(motif_names, silent, strict=True) if none),
        )


def _by_strand(bank: MotifBank, strands: int) -> np.ndarray:
    """The log-odds of each strand of each motif: (m * strands, 4, w) float64."""
    out = np.zeros((len(bank) * strands, 4, bank.log_odds.shape[2]))
    out[::strands] = bank.log_odds
    if strands == 2:
        for table, odds, width in zip(out[1::2], bank.log_odds, bank.widths, strict=True):
            table[:, :width] = odds[::-1, :width][:, ::-1]
    return out


def _limits(
    bank: MotifBank, strands: int, p_value: float | None, min_score: float | None
) -> tuple[Tails, np.ndarray]:
    """The chances of the scores that are wanted, and the lowest of them, for each strand of each motif."""
    if p_value is None:
        p_value = 1e-4 if min_score is None else 1.0
    check_p_value(p_value)
    if min_score is not None and not np.isfinite(min_score):
        raise MotifError(f"min_score: expected a number of bits, received {min_score!r}")
    weights = [odds[:, :width] for odds, width in zip(bank.log_odds, bank.widths, strict=True)]
    background = np.array(bank.background)
    if strands == 1 or np.array_equal(background, background[::-1]):
        chances = tails(weights, np.tile(background, (len(bank), 1)), p_value=p_value).repeated(strands)
    else:
        both = np.stack([background, background[::-1]])
        chances = tails(
            [each for each in weights for _ in range(2)], np.tile(both, (len(bank), 1)), p_value=p_value
        )
    lowest = chances.thresholds(p_value)
    return chances, lowest if min_score is None else np.maximum(lowest, min_score)


def _flat(sequences: Any) -> tuple[np.ndarray, np.ndarray]:
    """All tokens one after the other, (n,) uint8, and the edges of the sequences, (rows + 1,) int64."""
    if isinstance(sequences, Tensor):
        if sequences.dtype != torch.uint8 or sequences.ndim not in (1, 2):
            raise MotifError(
                f"find_motifs: expected tokens (l,) or (b, l) uint8, received {tuple(sequences.shape)} "
                f"{sequences.dtype}; biolayers.DNA.tokens makes them of text"
            )
        rows = sequences.detach().cpu()
        l = rows.shape[-1]
        b = 1 if rows.ndim == 1 else rows.shape[0]
        return rows.contiguous().numpy().reshape(-1), np.arange(b + 1, dtype=np.int64) * l
    texts = [sequences] if isinstance(sequences, (str, bytes)) else list(sequences)
    parts = [DNA.tokens(text, record=f"sequence {i}").numpy() for i, text in enumerate(texts, 1)]
    edges = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return np.concatenate([np.zeros(0, np.uint8), *parts]), edges


def _of_fasta(fasta: Fasta, wanted: Wanted, piece: int, progress: bool) -> Iterator[MotifHits]:
    if fasta.alphabet.letters[:2] + fasta.alphabet.letters[2] != "ACG" or fasta.alphabet.channels != 4:
        raise MotifError(f"find_motifs: expected DNA or RNA, received a file of {fasta.alphabet}")
    reach = int(wanted.widths.max()) - 1
    lengths, names = fasta.lengths, fasta.names
    with bar(int(lengths.sum()), "letters searched", show=progress) as advance:
        for ids, starts, sites in _pieces(lengths, piece):
            ends = np.minimum(starts + sites + reach, lengths[ids])
            tokens, edges = fasta.fetch_ragged(ids, starts, ends)
            found = wanted.search(tokens.numpy(), np.asarray(edges), sites)
            hits = wanted.hits(found, names, ids)
            hits.start[:] += starts[found.row]
            advance(int(sites.sum()))
            yield hits


def _pieces(lengths: np.ndarray, piece: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Parts of records (number, start, letters) that have up to `piece` letters together."""
    part: list[tuple[int, int, int]] = []
    room = piece
    for record, length in enumerate(lengths.tolist()):
        start = 0
        while start < length:
            size = min(room, length - start)
            part.append((record, start, size))
            start, room = start + size, room - size
            if room == 0:
                yield _columns(part)
                part, room = [], piece
    if part:
        yield _columns(part)


def _columns(part: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, starts, sizes = np.array(part, np.int64).T.copy()
    return ids, starts, sizes
