"""Fill memory with the tokens or qualities of many intervals, on several threads."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biolayers.alphabet import PAD, Alphabet
from biolayers.reading.fai import Index
from biolayers.reading.locate import Pieces, pieces, staged
from biolayers.reading.source import Source
from shared.threads import parallel

_SHARE = 400_000  # letters that one thread fetches in about 0.1 ms
_LONG = 1 << 20  # letters of an interval, in the mean, from which on its pages are let go after it was read


@dataclass(frozen=True, eq=False)
class Wanted:
    """Checked intervals, and where each goes: (n,) columns."""

    ids: np.ndarray  # int64: number of the record
    starts: np.ndarray  # int64: 0-based
    ends: np.ndarray  # int64: half-open
    minus: np.ndarray  # bool: whether it is read backwards
    places: np.ndarray  # int64: of its first token in the output
    rooms: np.ndarray  # int64: bytes there; `PAD` fills what is left


def gather(
    kernel: Any,
    source: Source,
    index: Index,
    alphabet: Alphabet,
    wanted: Wanted,
    out: np.ndarray,
    *,
    table: np.ndarray | None = None,
) -> tuple[int, int] | None:
    """Run a kernel of `kernels.numba.fetch`.

    Args:
        kernel: `fetch` or `fetch_qualities`.
        source: The text.
        index: Where its records are.
        alphabet: How letters become tokens.
        wanted: What to fetch.
        out: (bytes,) uint8.
        table: (3, records) int64: in place of the layout of the letters, that of the qualities.

    Returns:
        The first refused letter, as the number of its interval and its place in it, or None.
    """
    from biolayers.kernels.numba.fetch import recipe

    source.check()
    found = pieces(index, wanted.ids, wanted.starts, wanted.ends)
    if table is not None:
        found = replace(found, table=table)
    if found.owners is not None:
        out[...] = PAD
    minus, places, rooms = _places(found, wanted)
    text, layout, rows = staged(source, found)
    refused = np.empty(len(rows), np.int64)
    total = int(rooms.sum())
    parallel(
        kernel, len(rows), text, layout, rows, found.starts, found.stops, minus, recipe(alphabet), out,
        places, rooms, refused, grain=max(1, _SHARE * len(rows) // max(1, total)),
    )  # fmt: skip
    source.check()
    if total > _LONG * len(rows):
        source.forget(*found.bytes())
    if not refused.size or refused.max() < 0:
        return None
    at = int((refused >= 0).argmax())
    if found.owners is None:
        return at, int(refused[at])
    return int(found.owners[at]), int(refused[at] + found.before[at])


def _places(found: Pieces, wanted: Wanted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strand, place and room of each piece: where it belongs in its interval, from the end if minus."""
    own = found.owners
    if own is None:
        return wanted.minus, wanted.places, wanted.rooms
    sizes = found.stops - found.starts
    after = (wanted.ends - wanted.starts)[own] - found.before - sizes
    minus = wanted.minus[own]
    return minus, wanted.places[own] + np.where(minus, after, found.before), sizes
