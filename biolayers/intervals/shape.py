"""What is done to intervals one by one: resized, fitted into their contigs, cut into windows and bins."""

from dataclasses import replace

import numpy as np

from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import Genome, check_choice, lengths_of
from biolayers.intervals.sweep import ragged
from biolayers.intervals.table import Intervals

_ANCHORS = ("centre", "summit", "start", "end", "five_prime", "three_prime")


def resize(table: Intervals, length: int, around: str) -> Intervals:
    """`Intervals.resize`.

    The letter that stays in the middle has number `length // 2` of the window, and of an interval of even
    length the middle is the right one of the two middle letters.
    """
    _check_length("resize", "length", length)
    check_choice("around", around, _ANCHORS)
    starts = _anchored(table, length, around)
    return replace(table, starts=starts, ends=starts + length)


def _anchored(table: Intervals, length: int, around: str) -> np.ndarray:
    """Where the resized intervals start: (n,) int64."""
    if around == "centre":
        return (table.starts + table.ends) // 2 - length // 2
    if around == "summit":
        return table.starts + _summits(table) - length // 2
    at_start = {
        "start": np.ones(len(table), bool),
        "end": np.zeros(len(table), bool),
        "five_prime": table.strands >= 0,
        "three_prime": table.strands < 0,
    }[around]
    return np.where(at_start, table.starts, table.ends - length)


def _summits(table: Intervals) -> np.ndarray:
    """How many letters lie before each summit: (n,) int64."""
    summits = table.numbers("summit")
    wrong = ~((summits >= 0) & (summits < np.maximum(table.lengths, 1)))
    if wrong.any():
        i = int(wrong.argmax())
        raise IntervalError(
            f"{table.where(i)}: expected a summit within the {table.lengths[i]:,} letters of its interval, "
            f"received {summits[i]:g}; drop such rows, or choose around='centre'"
        )
    return summits.astype(np.int64)


def fit(table: Intervals, genome: Genome, beyond: str, margin: int) -> Intervals:
    """`Intervals.fit`, for a table whose ids count the genome's contigs."""
    check_choice("beyond", beyond, ("error", "clip", "drop", "shift"))
    sizes = np.fromiter(lengths_of(genome).values(), np.int64)[table.contig_ids]
    low, high = np.full(len(table), margin), sizes - margin
    out = (table.starts < low) | (table.ends > high)
    if not out.any():
        return table
    if beyond == "error":
        raise IntervalError(_outside(table, sizes, int(out.argmax()), int(out.sum()), margin))
    if beyond == "drop":
        return table._left_out("dropped, as they leave the contig", out)
    if beyond == "shift":
        short = table.lengths > high - low
        if short.any():
            raise IntervalError(_too_short(table, sizes, int(short.argmax()), margin))
        starts = np.clip(table.starts, low, high - table.lengths)
        moved = replace(table, starts=starts, ends=starts + table.lengths)
        return moved._changed("shifted into the contig", out)
    return _clipped(table, low, high, out)


def _clipped(table: Intervals, low: np.ndarray, high: np.ndarray, out: np.ndarray) -> Intervals:
    """Cut at the ends of the contigs; what has no letter left is dropped, and counted apart."""
    starts, ends = np.maximum(table.starts, low), np.minimum(table.ends, high)
    empty = out & (ends <= starts)
    cut = replace(table, starts=np.where(empty, 0, starts), ends=np.where(empty, 0, ends))
    return cut._changed("clipped to the contig", out & ~empty)._left_out(
        "dropped, as they lie beyond the contig", empty
    )


def _outside(table: Intervals, sizes: np.ndarray, i: int, count: int, margin: int) -> str:
    name, edge = (
        table.contig_names[table.contig_ids[i]],
        f" with {margin:,} letters to spare" if margin else "",
    )
    return (
        f"{table.where(i)}: expected an interval within {name!r} of {sizes[i]:,} letters{edge}, received "
        f"{table.starts[i]:,} to {table.ends[i]:,} (and {count - 1:,} more such); mend them, or "
        "clip, drop or shift them (intervals.fit)"
    )


def _too_short(table: Intervals, sizes: np.ndarray, i: int, margin: int) -> str:
    name = table.contig_names[table.contig_ids[i]]
    return (
        f"{table.where(i)}: expected a contig with room for {table.lengths[i] + 2 * margin:,} letters, "
        f"received {name!r} of {sizes[i]:,}; choose beyond='drop', or shorter intervals"
    )


def tiles(table: Intervals, length: int, step: int, last: str) -> Intervals:
    """`Intervals.tiles`."""
    _check_length("tiles", "length", length)
    _check_length("tiles", "step", step)
    check_choice("last", last, ("drop", "clip", "shift"))
    full = np.maximum((table.lengths - length) // step + 1, 0)  # windows that lie within the interval
    covered = np.where(full > 0, (full - 1) * step + length, 0)
    if last == "drop":
        more = np.zeros_like(full)
    else:
        rest = (covered < table.lengths) & (full * step < table.lengths)
        more = (rest & ((table.lengths >= length) | (last == "clip"))).astype(np.int64)
    owner, place = ragged(full + more)
    starts = table.starts[owner] + place * step
    if last == "shift":
        starts = np.minimum(starts, table.ends[owner] - length)
    ends = np.minimum(starts + length, table.ends[owner])
    return replace(table.take(owner), starts=starts, ends=ends)


def bins(table: Intervals, count: int) -> Intervals:
    """`Intervals.bins`."""
    _check_length("bins", "count", count)
    uneven = table.lengths % count != 0
    if uneven.any():
        i = int(uneven.argmax())
        raise IntervalError(
            f"{table.where(i)}: expected a length that {count} bins divide, received {table.lengths[i]:,} "
            "letters; resize the intervals first"
        )
    owner, place = ragged(np.full(len(table), count))
    width = (table.lengths // count)[owner]
    starts = table.starts[owner] + place * width
    return replace(table.take(owner), starts=starts, ends=starts + width)


def _check_length(operation: str, what: str, given: int) -> None:
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
        raise IntervalError(
            f"{operation}: expected {what} to be a whole number from 1 on, received {given!r}"
        )
