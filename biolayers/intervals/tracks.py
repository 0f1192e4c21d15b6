"""Measured signals along a genome: bigWig files as tensors of bins."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from biolayers.intervals.bigwig import BigWig
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import Genome, check_choice, lengths_of, unknown_contig

if TYPE_CHECKING:
    from biolayers.intervals.table import Intervals

log = logging.getLogger("biolayers")

Path = str | os.PathLike[str]

_STATISTICS = ("mean", "max", "sum")
_MISSING = ("zero", "nan", "error")


class Tracks:
    """Signals of bigWig files over windows of a genome: (b, channels, bins) float32.

    A track is one file, or a pair of files for the two strands. A pair makes two channels, `name+` and
    `name-`; read from the other strand, their bins are reversed and the two change places, as in BPNet (Avsec
    et al., Nature Genetics 53, 2021, doi:10.1038/s41588-021-00782-6), while a single file is reversed only.
    An object may be used from several threads, forked and pickled: each opens the files by itself.

    Args:
        files: A file, or a mapping from name to file or pair of files (forward strand, reverse strand).
        bins: How many equal bins a window is cut into; by default one for each letter.
        statistic: What a bin holds of its letters: "mean", "max" or "sum".
        missing: What letters without a value count as: "zero"; "nan", which leaves them out, and makes a bin
            with no value nan; or "error". That goes for letters beyond a contig too.
        length: How many letters in the middle of each window are measured; by default all.
        absent: Whether a contig that a file lacks is an "error", or has "missing" values only.

    Raises:
        IntervalError: pyBigWig is not installed, a file is no bigWig file, or an option is not as described.

    Example:
        >>> import os, tempfile, pyBigWig
        >>> path = os.path.join(tempfile.mkdtemp(), "signal.bw")
        >>> with pyBigWig.open(path, "w") as file:
        ...     file.addHeader([("chr1", 12)])
        ...     file.addEntries(["chr1"], [2], ends=[6], values=[3.0])
        >>> tracks = Tracks({"atac": path}, bins=3)
        >>> tracks.read(["chr1", "chr1"], [0, 0], [12, 12], [False, True])
        tensor([[[1.5000, 1.5000, 0.0000]],
        <BLANKLINE>
                [[0.0000, 1.5000, 1.5000]]])
    """

    def __init__(
        self,
        files: Path | Mapping[str, Path | Sequence[Path]],
        *,
        bins: int | None = None,
        statistic: str = "mean",
        missing: str = "zero",
        length: int | None = None,
        absent: str = "error",
    ):
        check_choice("statistic", statistic, _STATISTICS)
        check_choice("missing", missing, _MISSING)
        check_choice("absent", absent, ("error", "missing"))
        for what, given in (("bins", bins), ("length", length)):
            if given is not None and given < 1:
                raise IntervalError(f"Tracks: expected {what} from 1 on, received {given}")
        self.bins, self.statistic, self.missing, self.length = bins, statistic, missing, length
        self.absent = absent
        self.channels: list[str] = []
        self._files: list[BigWig] = []
        partners: list[int] = []
        for name, given in _named(files).items():
            pair = isinstance(given, (tuple, list))
            if pair and len(given) != 2:
                raise IntervalError(
                    f"Tracks: expected a file or a pair of files as {name!r}, received {given}"
                )
            first = len(partners)
            self.channels += [f"{name}+", f"{name}-"] if pair else [name]
            self._files += [BigWig(path) for path in (given if pair else [given])]
            partners += [first + 1, first] if pair else [first]
        self._partners = np.array(partners, np.int64)

    def __len__(self) -> int:
        """How many channels."""
        return len(self.channels)

    def __repr__(self) -> str:
        bins = "a bin for each letter" if self.bins is None else f"{self.bins} bins"
        return f"Tracks({', '.join(self.channels)}: {self.statistic} of {bins}, missing={self.missing!r})"

    def read(self, contigs: Sequence[str], starts: Any, ends: Any, minus: Any = None) -> Tensor:
        """The signals over windows of one length: (b, channels, bins) float32.

        Args:
            contigs: (b,) names.
            starts: (b,) integers: 0-based; may lie beyond the contig, as may `ends`.
            ends: (b,) integers: half-open.
            minus: (b,) bool: which windows are read from the reverse strand; by default none.

        Raises:
            IntervalError: Windows differ in length, the bins do not divide them, a file lacks a contig, or a
                value is missing where that is an error (file, contig and position).
        """
        starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
        starts, length, bins = self._measured(starts, ends)
        out = np.empty((len(starts), len(self), bins), np.float32)
        letters = np.empty((len(starts), length), np.float32)
        for channel, file in enumerate(self._files):
            for row, (contig, start) in enumerate(zip(contigs, starts.tolist(), strict=True)):
                file.fill(letters[row], contig, start, absent=self.absent)
            self._check_missing(file, letters, contigs, starts)
            out[:, channel] = _binned(
                letters.reshape(len(starts), bins, length // bins), self.statistic, self.missing
            )
        if minus is not None and (turned := np.asarray(minus, bool)).any():
            out[turned] = out[turned][:, self._partners, ::-1]
        return torch.from_numpy(out)

    def _measured(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Where the measured letters start, how many they are, and how many bins."""
        lengths = np.unique(ends - starts)
        if len(lengths) > 1:
            raise IntervalError(f"Tracks: expected windows of one length, received {lengths.tolist()}")
        window = int(lengths[0]) if len(lengths) else self.length or self.bins or 1
        length = self.check_window(window)
        return starts + (window - length) // 2, length, self.bins or length

    def check_window(self, window: int) -> int:
        """How many letters of a window of so many are measured.

        Raises:
            IntervalError: The window is too short, has no exact middle, or the bins do not divide it.
        """
        length = self.length or window
        if length > window or (window - length) % 2:
            raise IntervalError(
                f"Tracks: expected a window longer than the measured {length:,} letters by an even number, "
                f"received {window:,}; make one of the two a letter longer"
            )
        if length % (self.bins or length):
            raise IntervalError(
                f"Tracks: expected bins that divide the {length:,} measured letters, received {self.bins}"
            )
        return length

    def _check_missing(self, file: BigWig, letters: np.ndarray, contigs: Sequence[str], starts: Any) -> None:
        if self.missing != "error" or not (gaps := np.isnan(letters)).any():
            return
        row, place = np.argwhere(gaps)[0].tolist()
        raise IntervalError(
            f"{file.path}: expected a value for every letter, received none for {contigs[row]!r} at "
            f"{starts[row] + place:,} (0-based); choose missing='zero' or 'nan'"
        )

    # -- checks against a genome

    def check(self, genome: Genome, contigs: Sequence[str]) -> None:
        """Compare the contigs that will be read with a genome.

        Raises:
            IntervalError: A file has another length for one, so it is of another assembly, or lacks one.
        """
        lengths = lengths_of(genome)
        for file in self._files:
            for name in contigs:
                found = file.contigs.get(name)
                if found is None and self.absent == "missing":
                    continue
                if found is None:
                    complaint = unknown_contig(file.path, name, file.contigs)
                    raise IntervalError(f"{complaint} (or choose absent='missing' if it has no values there)")
                if found != lengths[name]:
                    raise IntervalError(
                        f"{file.path}: expected {name!r} with {lengths[name]:,} letters as in the genome, "
                        f"received {found:,}; is the file of another assembly?"
                    )

    def resolution(self, intervals: "Intervals") -> list[int]:
        """The width of each channel's steps, as far as these intervals show; 0 where they show nothing."""
        places = list(zip(intervals.contigs, intervals.starts.tolist(), intervals.ends.tolist(), strict=True))
        return [file.resolution(places) for file in self._files]

    def warn_of_steps(self, intervals: "Intervals", window: int) -> None:
        """Log a warning where bins are finer than a file's own steps."""
        width = self.check_window(window) // (self.bins or self.check_window(window))
        for name, step in zip(self.channels, self.resolution(intervals), strict=True):
            if step > width:
                log.warning(
                    "track %s has one value for every %d letters; bins of %d letters repeat it",
                    name,
                    step,
                    width,
                )


def _named(files: Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(files, Mapping):
        if not files:
            raise IntervalError("Tracks: expected at least one file, received an empty mapping")
        return files
    return {os.path.splitext(os.path.basename(os.fspath(files)))[0]: files}


def _binned(letters: np.ndarray, statistic: str, missing: str) -> np.ndarray:
    """Reduce (b, bins, letters of a bin) float32 to (b, bins) float32, sums in float64."""
    gaps = np.isnan(letters)
    if statistic == "max":
        values = np.where(gaps, -np.inf if missing == "nan" else 0, letters).max(-1)
        return np.where(gaps.all(-1), np.nan, values) if missing == "nan" else values
    sums = np.where(gaps, 0, letters).sum(-1, dtype=np.float64)
    present = letters.shape[-1] - gaps.sum(-1)
    if missing == "nan":
        sums[present == 0] = np.nan
    if statistic == "mean":
        sums /= np.maximum(present, 1) if missing == "nan" else letters.shape[-1]
    return sums.astype(np.float32)
