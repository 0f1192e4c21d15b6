"""Texts that come in blocks (decompressed, or fetched from afar): a cache of blocks, and spans out of it."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from biolayers.errors import FastaError
from biolayers.reading.source import Identity
from biolayers.reading.window import StreamWindow, Window

BLOCK = 1 << 16  # the most bytes of a block
CACHE = 1 << 28  # bytes of blocks that are kept
_AHEAD = 256  # blocks that are taken at once when a text is read through

Load = Callable[[Sequence[int]], list[bytes]]  # blocks by number, rising


class BlockFile:
    """A `Source` over blocks.

    Args:
        path: For messages.
        edges: (m + 1,) int64: where each block begins in the text, and the end of the last.
        load: Gives blocks by number.
        identity: Of the file when it was opened.
        check: Raises `FastaError` if the file has changed since.
    """

    def __init__(
        self, path: str, edges: np.ndarray, load: Load, identity: Identity, check: Callable[[], None]
    ) -> None:
        self.path, self.identity, self.check = path, identity, check
        self.size = int(edges[-1])
        self._edges, self._load = edges, load
        self._empty()

    def _empty(self) -> None:
        """Start with no block; a lock or a half-filled block must not come from a parent process."""
        count = len(self._edges) - 1
        self._process, self._lock = os.getpid(), threading.Lock()
        self._slots = np.empty((max(1, min(count, CACHE // BLOCK)), BLOCK), np.uint8)
        self._slot_of = np.full(count, -1, np.int64)
        self._held = np.full(len(self._slots), -1, np.int64)  # which block is in each slot
        self._used = np.zeros(len(self._slots), np.int64)  # when each slot was last asked for
        self._clock = 0

    def spans(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `Source`: each block is taken once, however many spans lie in it."""
        from biolayers.kernels.numba import stage

        if os.getpid() != self._process:
            self._empty()
        places = np.concatenate([[0], np.cumsum(stops - starts)])
        out = np.empty(int(places[-1]), np.uint8)
        first, last = self._numbers(starts, stops)
        wanted = stage.union(first, last, len(self._slot_of))
        with self._lock:
            for k in range(0, len(wanted), len(self._slots)):
                share = wanted[k : k + len(self._slots)]
                self._bring(share)
                low, high = np.maximum(first, share[0]), np.minimum(last, share[-1] + 1)
                stage.copy(
                    self._slots.reshape(-1), self._slot_of, self._edges, starts, stops, low, high, places, out
                )
        out.flags.writeable = False
        return out, places[:-1]

    def _numbers(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first block of each span, and the one after its last."""
        first = np.searchsorted(self._edges, starts, side="right") - 1
        last = np.searchsorted(self._edges, stops, side="left")
        return first, np.where(stops > starts, last, first)

    def _bring(self, wanted: np.ndarray) -> None:
        """Put these blocks into the cache, in place of those that were not asked for the longest."""
        self._clock += 1
        there = self._slot_of[wanted]
        self._used[there[there >= 0]] = self._clock
        missing = wanted[there < 0]
        if not len(missing):
            return
        slots = np.argpartition(self._used, len(missing) - 1)[: len(missing)]
        for number, slot, block in zip(
            missing.tolist(), slots.tolist(), self._blocks(missing.tolist()), strict=True
        ):
            if self._held[slot] >= 0:
                self._slot_of[self._held[slot]] = -1
            self._slots[slot, : len(block)] = np.frombuffer(block, np.uint8)
            self._held[slot], self._slot_of[number], self._used[slot] = number, slot, self._clock

    def _blocks(self, numbers: list[int]) -> list[bytes]:
        blocks = self._load(numbers)
        for number, block in zip(numbers, blocks, strict=True):
            size = int(self._edges[number + 1] - self._edges[number])
            if len(block) != size:
                raise FastaError(
                    f"{self.path}: expected {size:,} bytes in block {number:,}, received {len(block):,}; the "
                    "file changed or is damaged: open it again"
                )
        return blocks

    def forget(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """As of `Source`: the cache is bounded already."""

    def window(self) -> Window:
        """As of `Source`, past the cache."""
        return StreamWindow(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        count = len(self._edges) - 1
        for k in range(0, count, _AHEAD):
            yield b"".join(self._blocks(list(range(k, min(k + _AHEAD, count)))))
