"""Windows over genomes as a map-style dataset: tokens, classes, targets and tracks, a batch at a time."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, PAD, Alphabet
from biolayers.batching.batches import BatchDataset
from biolayers.batching.randomness import coin, integers
from biolayers.fasta import Fasta
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import check_choice
from biolayers.intervals.given import of
from biolayers.intervals.labels import classes_of, targets_of
from biolayers.intervals.placing import check_alphabet, common_width, fitted, paired
from biolayers.intervals.table import Intervals
from biolayers.intervals.tracks import Tracks
from biolayers.labelled.targets import UNLABELLED

Path = str | os.PathLike[str]

_BEYOND = ("error", "drop", "shift", "pad", "unknown")


class IntervalDataset(BatchDataset):
    r"""Windows over one or several genomes, read from the mapped files when asked for.

    A sample is a tuple: its tokens (length,) uint8, then, as far as asked for, its class (int64), its targets
    (targets,) float32 and its tracks (channels, bins) float32. How far a window is moved in an epoch
    and from which strand it is read depends on (seed, epoch, index) alone, so batches are the same for any
    number of workers, forked or spawned, and after a resume; without an epoch windows come as they are. See
    `biolayers.batching.batches` for what all datasets have in common.

    Args:
        genome: A `Fasta`, the path of one, or several in a mapping from name.
        intervals: As `Intervals.of` takes them: `Intervals`, a BED file, tuples, a frame. Of several
            genomes a mapping from the same names.
        length: Of the windows; by default that of the intervals, which must then be one.
        around: Where a window lies on its interval: see `Intervals.resize`.
        stranded: Whether intervals on the reverse strand are read from there.
        beyond: What to do with windows that (with their jitter) leave their contig: "error", "drop", "shift"
            them inwards, or fill what is missing with "pad" (the token `PAD`) or "unknown" (N).
        jitter: A window is moved by up to so many letters to either side, all places equally probable.
        reverse_complement: The probability with which a window is read from its other strand.
        labels: The column of classes.
        classes: The classes in the order of their numbers; by default those found, sorted.
        targets: The columns of numbers to predict.
        tracks: The signals to predict; of several genomes a mapping from the same names, with the same
            channels.
        seed: From 0 up to 2**64.
        alphabet: How letters become tokens, with its policy, where `genome` is a path.

    Raises:
        IntervalError: Intervals, columns or tracks are not as they must be, or do not fit the genome.
        FastaError: A FASTA file is not as it must be; on reading also if a letter is refused.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a\nAACCGGTTAACC\n")
        >>> peaks = Intervals.of({"chrom": ["a", "a"], "start": [2, 6], "end": [6, 8], "kind": ["p", "q"]})
        >>> data = IntervalDataset(path, peaks, length=4, labels="kind")
        >>> data.batch([0, 1])
        (tensor([[1, 1, 2, 2],
                [2, 3, 3, 0]], dtype=torch.uint8), tensor([0, 1]))
    """

    def __init__(
        self,
        genome: Fasta | Path | Mapping[str, Fasta | Path],
        intervals: Any,
        *,
        length: int | None = None,
        around: str = "centre",
        stranded: bool = True,
        beyond: str = "error",
        jitter: int = 0,
        reverse_complement: float = 0.0,
        labels: str | None = None,
        classes: Sequence[str] | None = None,
        targets: str | Sequence[str] | None = None,
        tracks: Tracks | Mapping[str, Tracks] | None = None,
        seed: int = 0,
        alphabet: Alphabet = DNA,
    ):
        check_choice("beyond", beyond, _BEYOND)
        if jitter < 0 or not 0 <= reverse_complement <= 1:
            raise IntervalError(
                "IntervalDataset: expected jitter from 0 on and a probability reverse_complement from "
                f"0 to 1, received {jitter} and {reverse_complement}"
            )
        self.beyond, self.jitter, self.reverse_complement, self.seed = (
            beyond,
            jitter,
            reverse_complement,
            seed,
        )
        self.genomes, given = paired(genome, intervals, alphabet)
        self.alphabet = self.genomes[0].alphabet
        check_alphabet(self.alphabet, reverse_complement, beyond)
        tables = [
            fitted(of(each), fasta, length, around, beyond, jitter)
            for each, fasta in zip(given, self.genomes, strict=True)
        ]
        self.width = common_width(tables)
        self._names = list(genome) if isinstance(genome, Mapping) else [""]
        self._tables = tables
        self._place(tables, stranded)
        self.classes, self.labels = list(classes or []), torch.full((len(self),), UNLABELLED)
        self.targets: Tensor | None = None
        if labels:
            self.classes, self.labels = classes_of(tables, labels, classes)
        if targets:
            self.targets = targets_of(tables, targets)
        self._labelled = bool(labels)
        self.tracks = self._checked_tracks(tracks)

    def _place(self, tables: list[Intervals], stranded: bool) -> None:
        """Keep where every window lies, as columns over all genomes."""
        sizes = [len(table) for table in tables]
        self._genome = np.repeat(np.arange(len(sizes)), sizes)  # (n,)
        self._first = np.cumsum([0, *sizes])
        self._contig = np.concatenate([table.contig_ids for table in tables])  # (n,): of its genome
        self._start = np.concatenate([table.starts for table in tables])
        self._minus = np.concatenate([table.strands < 0 for table in tables]) & stranded
        self._sizes = [fasta.lengths for fasta in self.genomes]
        shuffled = [table.columns.get("shuffle", np.zeros(len(table))) for table in tables]
        words = np.nan_to_num(np.concatenate(shuffled).astype(np.float64)).astype(np.int64)
        self._words = words if words.any() else None  # (n,): k of each window to be shuffled, else 0

    def _checked_tracks(self, tracks: Tracks | Mapping[str, Tracks] | None) -> list[Tracks] | None:
        if tracks is None:
            return None
        given = tracks if isinstance(tracks, Mapping) else {"": tracks}
        if set(given) != set(self._names):
            raise IntervalError(
                f"IntervalDataset: expected tracks for genomes {self._names}, received {list(given)}"
            )
        ordered = [given[name] for name in self._names]
        for each, fasta, table in zip(ordered, self.genomes, self._tables, strict=True):
            if each.channels != ordered[0].channels:
                raise IntervalError("IntervalDataset: expected the same channels of tracks for every genome")
            each.check_window(self.width)
            each.check(fasta, [fasta.names[i] for i in np.unique(table.contig_ids)])
            each.warn_of_steps(table[:16], self.width)
        return ordered

    # -- samples

    def __len__(self) -> int:
        """How many windows."""
        return len(self._start)

    def batch(self, indices: Any, *, epoch: int | None = None) -> tuple[Tensor, ...]:
        """Windows by number, as they are in an epoch, or without jitter and random strands.

        Returns:
            Tokens (b, length) uint8, and as far as they are asked for, classes (b,) int64, targets
            (b, targets) float32 and tracks (b, channels, bins) float32.
        """
        chosen = np.array(indices, np.int64, order="C")
        starts, minus = self._drawn(chosen, epoch)
        parts = [self._tokens(chosen, starts, minus)]
        rows = torch.from_numpy(chosen)
        if self._labelled:
            parts.append(self.labels[rows])
        if self.targets is not None:
            parts.append(self.targets[rows])
        if self.tracks is not None:
            parts.append(self._signals(self.tracks, chosen, starts, minus))
        return tuple(parts)

    def rows(self, indices: Any) -> Tensor:
        """The tokens of windows as they are: (b, length) uint8."""
        chosen = np.array(indices, np.int64, order="C")
        return self._tokens(chosen, *self._drawn(chosen, None))

    def _drawn(self, chosen: np.ndarray, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Where windows start, and whether they are read from the reverse strand."""
        starts, minus = self._start[chosen], self._minus[chosen]
        if epoch is None:
            return starts, minus
        if self.jitter:
            starts = starts + integers(self.seed, epoch, chosen, "jitter", -self.jitter, self.jitter + 1)
        if self.reverse_complement:
            minus = minus ^ coin(self.seed, epoch, chosen, "strand", self.reverse_complement)
        return starts, minus

    # -- tokens and tracks

    def _by_genome(self, chosen: np.ndarray) -> list[tuple[int, Any]]:
        """The genomes of windows, and which places of the batch are theirs."""
        if len(self.genomes) == 1:
            return [(0, slice(None))]
        mine = self._genome[chosen]
        return [(genome, np.flatnonzero(mine == genome)) for genome in np.unique(mine).tolist()]

    def _tokens(self, chosen: np.ndarray, starts: np.ndarray, minus: np.ndarray) -> Tensor:
        contigs = self._contig[chosen]
        if len(self.genomes) == 1:
            out = self._fetch(0, contigs, starts, minus)
        else:
            out = torch.empty((len(chosen), self.width), dtype=torch.uint8)
            for genome, rows in self._by_genome(chosen):
                out[rows] = self._fetch(genome, contigs[rows], starts[rows], minus[rows])
        return out if self._words is None else self._shuffled(out, chosen, self._words[chosen])

    def _fetch(self, genome: int, contigs: np.ndarray, starts: np.ndarray, minus: np.ndarray) -> Tensor:
        fasta, ends = self.genomes[genome], starts + self.width
        strands = np.where(minus, -1, 1) if minus.any() else None
        if self.beyond not in ("pad", "unknown"):
            return fasta.fetch_arrays(contigs, starts, ends, strands)
        sizes = self._sizes[genome][contigs]
        low, high = np.clip(starts, 0, sizes), np.clip(ends, 0, sizes)
        tokens = fasta.fetch_arrays(contigs, low, high, strands, pad=self.width)
        before = np.where(minus, ends - high, low - starts).clip(0, self.width)
        if (moved := np.flatnonzero(before)).size:
            tokens[moved] = _moved(tokens[moved], before[moved])
        if self.beyond == "unknown":
            tokens[tokens == PAD] = self.alphabet.unknown_token
        return tokens

    def _shuffled(self, tokens: Tensor, chosen: np.ndarray, words: np.ndarray) -> Tensor:
        """Shuffle the windows that negatives ask for, each always in the same way."""
        from biolayers.shuffling import shuffle

        for k in np.unique(words[words > 0]).tolist():
            rows = torch.from_numpy(np.flatnonzero(words == k))
            numbers = torch.from_numpy(chosen)[rows]
            tokens[rows] = shuffle(tokens[rows], k, seed=self.seed, rows=numbers, alphabet=self.alphabet)
        return tokens

    def _signals(
        self, tracks: list[Tracks], chosen: np.ndarray, starts: np.ndarray, minus: np.ndarray
    ) -> Tensor:
        parts = []
        for genome, rows in self._by_genome(chosen):
            table = self._tables[genome]
            names = [table.contig_names[i] for i in self._contig[chosen][rows].tolist()]
            mine = starts[rows]
            parts.append((rows, tracks[genome].read(names, mine, mine + self.width, minus[rows])))
        if len(parts) == 1:
            return parts[0][1]
        out = torch.empty((len(chosen), len(tracks[0]), parts[0][1].shape[2]))
        for rows, values in parts:
            out[rows] = values
        return out

    # -- the whole

    @property
    def intervals(self) -> Intervals:
        """The windows without jitter; of several genomes, contigs are called `genome:contig`."""
        tables = [
            table.rename(lambda contig, name=name: f"{name}:{contig}") if name else table
            for table, name in zip(self._tables, self._names, strict=True)
        ]
        return sum(tables[1:], tables[0])

    @property
    def regions(self) -> Intervals:
        """All letters that each window may show, jitter included."""
        table = self.intervals
        return table.resize(self.width + 2 * self.jitter) if self.jitter else table

    @property
    def contigs(self) -> np.ndarray:
        """The contig of each window by name, for splits by chromosome: (n,) of str."""
        return self.intervals.contigs

    @property
    def strata(self) -> Tensor:
        """The class of each window, or -1, for splits that hold classes together: (n,) int64."""
        return self.labels

    @property
    def lengths(self) -> Tensor:
        """The letters of each window: (n,) int64."""
        return torch.full((len(self),), self.width)

    @property
    def names(self) -> list[str]:
        """The name of each window."""
        return [self.name(i) for i in range(len(self))]

    def name(self, index: int) -> str:
        """The name of one window: its interval's, else where it lies, as `chr1:100-200(+)`."""
        table, row = self._row(index)
        if "name" in table.columns and table.columns["name"][row] not in ("", "."):
            return str(table.columns["name"][row])
        contig, start, end, strand = table[row]
        return f"{contig}:{start}-{end}" + ("" if strand == "." else f"({strand})")

    def where(self, index: int) -> str:
        """File and line of a window's interval, for messages."""
        table, row = self._row(index)
        return table.where(row)

    def _row(self, index: int) -> tuple[Intervals, int]:
        index = range(len(self))[index]
        genome = int(self._genome[index])
        return self._tables[genome], index - int(self._first[genome])

    def __repr__(self) -> str:
        genomes = ", ".join(fasta.path for fasta in self.genomes)
        more = [f"classes {', '.join(self.classes)}"] if self.classes else []
        more += [] if self.targets is None else [f"{self.targets.shape[1]} targets"]
        more += [] if self.tracks is None else [f"tracks {', '.join(self.tracks[0].channels)}"]
        described = "".join(f", {part}" for part in more)
        windows = f"{len(self):,} windows of {self.width:,}"
        return f"IntervalDataset({genomes}: {windows}{described}, {self.alphabet})"


def _moved(rows: Tensor, before: np.ndarray) -> Tensor:
    """Move what each row holds to the right, by `before` letters: (k, length) uint8; `PAD` comes in."""
    place = torch.arange(rows.shape[1]) - torch.from_numpy(before)[:, None]  # (k, length)
    return rows.gather(1, place.clamp(min=0)).masked_fill_(place < 0, PAD)
