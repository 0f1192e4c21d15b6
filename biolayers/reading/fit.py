"""Whether a stored index belongs to a text: every header is looked at, and the ends of some lines."""

import numpy as np

from biolayers.reading.source import Source


def fit(
    source: Source, rows: np.ndarray, names: np.ndarray, edges: np.ndarray, first: int, *, fastq: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Headers (4, n) and segments (5, m) as of `kernels.numba.scan`, or None where something does not fit.

    Args:
        source: The text.
        rows: (4, m) int64 of a stored index: length, offset, letters and bytes of a full line; of FASTQ
            (5, m), with the place of the qualities.
        names: The stored names, one after the other, as bytes.
        edges: (m + 1,) int64: where each of them begins.
        first: Where the text begins: after a byte-order mark.
        fastq: Which of the two it is.
    """
    from biolayers.kernels.numba import walk

    lengths, offsets, bases, widths = rows[:4]
    if not (_layout(lengths, offsets, bases, widths, source.size) and _breaks(source, rows[:4])):
        return None
    ends = end_of(lengths, offsets, bases, widths)
    if fastq:
        if not _qualities(source, rows, ends):
            return None
        ends = end_of(lengths, rows[4], bases, widths)
    starts, stops = np.concatenate([[first], ends]), np.concatenate([offsets, [source.size]])
    if (stops < starts).any():
        return None
    text, places = source.spans(starts, stops)
    headers, owners, agrees = walk.walk(
        text, places, starts, stops, names, edges, ord("@") if fastq else ord(">")
    )
    if not agrees or (fastq and (owners < 0).any()):
        return None
    return headers, np.stack([np.flatnonzero(owners >= 0), lengths, offsets, bases, widths])


def end_of(lengths: np.ndarray, offsets: np.ndarray, bases: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The byte after the last letter of each record: (m,) int64."""
    full = np.maximum(bases, 1)
    last = np.maximum(lengths - 1, 0)
    return np.where(lengths > 0, offsets + last // full * widths + last % full + 1, offsets)


def _layout(
    lengths: np.ndarray, offsets: np.ndarray, bases: np.ndarray, widths: np.ndarray, size: int
) -> bool:
    """Whether the numbers of each row make sense by themselves, within a text of this size."""
    empty = lengths == 0
    lines = np.maximum(lengths - 1, 0) // np.maximum(bases, 1)
    sound = np.where(empty, bases == 0, (bases > 0) & (widths > bases))
    sound &= (offsets > 0) & (offsets <= size) & (lines <= (size - offsets) // np.maximum(widths, 1))
    return bool(sound.all()) and bool((end_of(lengths, offsets, bases, widths) <= size).all())


def _breaks(source: Source, rows: np.ndarray) -> bool:
    """Whether letters end where they should, and the first and the last line break where they should."""
    rows = rows[:, rows[0] > 0]
    lengths, offsets, bases, widths = rows
    ends = end_of(*rows)
    inner = ends < source.size
    if _blank(source, ends - 1).any() or not _blank(source, ends[inner]).all():
        return False
    several = lengths > bases
    lengths, offsets, bases, widths = rows[:, several]
    last = ends[several] - ((lengths - 1) % bases + 1)
    return bool(
        _blank(source, offsets + bases).all()
        and (_bytes(source, offsets + widths - 1) == 10).all()
        and (_bytes(source, last - 1) == 10).all()
    )


def _qualities(source: Source, rows: np.ndarray, ends: np.ndarray) -> bool:
    """Whether a line of `+` stands between the letters and the qualities of each record."""
    lengths, _, bases, widths, places = rows
    if (lengths == 0).any() or (places < ends + 3).any() or not _layout(
        lengths, places, bases, widths, source.size
    ):  # fmt: skip
        return False
    text, at = source.spans(ends, places)
    stops = at + places - ends
    if (text[stops - 1] != 10).any():
        return False
    while (found := _is_blank(text[at])).any():
        at = at + found
        if (at >= stops).any():
            return False
    return bool((text[at] == ord("+")).all()) and _breaks(source, np.stack([lengths, places, bases, widths]))


def _bytes(source: Source, places: np.ndarray) -> np.ndarray:
    text, at = source.spans(places, places + 1)
    return text[at]


def _blank(source: Source, places: np.ndarray) -> np.ndarray:
    return _is_blank(_bytes(source, places))


def _is_blank(text: np.ndarray) -> np.ndarray:
    return (text == 32) | ((text >= 9) & (text <= 13))
