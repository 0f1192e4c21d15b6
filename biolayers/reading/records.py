"""Find the records of a text, a window at a time, each window on several threads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from biolayers.errors import FastaError
from biolayers.reading.faults import fault, line_number
from biolayers.reading.formats import MARK
from biolayers.reading.window import Window
from shared.threads import parallel

_PIECE = 1 << 22  # bytes that one thread scans
HEAD = 4096  # bytes in which a text shows whether it is FASTA or FASTQ


@dataclass(frozen=True, eq=False)
class Found:
    """The records that begin in a part of a text, and the runs of equal lines that end there, in pieces."""

    names: list[bytes]  # each name with a newline after it
    headers: list[np.ndarray]  # (4, n) int64 each: see `kernels.numba.scan`
    segments: list[np.ndarray]  # (5, m) int64 each: see there; records count from the start of the text
    qualities: np.ndarray | None = None  # (n,) int64, of FASTQ: byte of the first quality


class Scanner:
    """Reads on through a text; `fastq` says what it is.

    Args:
        path: For messages.
        open_window: Gives a window at the start of the text; called again to count lines for a message.
        whole: Whether a part of FASTA must end with a record, and not merely with a line.
    """

    def __init__(self, path: str, open_window: Callable[[], Window], *, whole: bool = False) -> None:
        from biolayers.kernels.numba import scan

        self.path, self._open, self._whole = path, open_window, whole
        self.window = open_window()
        self._first, self.fastq = beginning_of(self.window.data[:HEAD].tobytes())
        self._state = scan.beginning()

    def __iter__(self) -> Iterator[Found]:
        """The parts of the text, in order; while one is in use, `window` holds its bytes.

        Raises:
            FastaError: The text is not well formed (with the line number).
        """
        read = self._read_fastq if self.fastq else self._read_fasta
        window = self.window
        while True:
            stop = self._stop()
            found, code, at = read(stop)
            window.check()
            if code:
                raise FastaError(fault(self.path, window.data, code, at, self.line(at)))
            yield found
            if window.final:
                return
            window.advance(at)
            self._first = max(0, self._first - at)  # a window too small for a record is only enlarged

    def line(self, at: int) -> int:
        """The line (from 1) of byte `at` of the window."""
        return line_number(self._open(), self.window.base + at)

    def _stop(self) -> int:
        """The end of the last whole line (or record) of the window."""
        from biolayers.kernels.numba import lines

        data = self.window.data
        if self.window.final:
            return len(data)
        return lines.last_after(data, 0, ord(">") if self._whole and not self.fastq else 0)

    def _read_fasta(self, stop: int) -> tuple[Found, int, int]:
        from biolayers.kernels.numba import scan

        state = self._state
        parts = self._pieces(stop)
        records = int(state[scan.RECORD]) + 1
        names, headers, segments = [], [], []
        for number, (own, text, begun, ended, code, place) in enumerate(parts):
            if code != scan.FINE:
                return Found([], [], []), code, place
            if number:
                ended[0] += records
                records += begun.shape[1]
            else:
                records = int(own[scan.RECORD]) + 1
            names.append(text)
            headers.append(begun)
            segments.append(ended)
            state[:] = own
        state[scan.RECORD] = records - 1
        return Found(names, headers, segments), scan.FINE, stop

    def _pieces(self, stop: int) -> list[tuple[Any, ...]]:
        """What `scan.scan` gives for each piece in which a record begins, after its state and names."""
        from biolayers.kernels.numba import lines, scan

        window, state, ended = self.window, self._state, self.window.final or self._whole
        count = max(1, stop // _PIECE)
        bounds = [max(self._first, stop * k // count) for k in range(count)] + [stop]
        results: list[tuple[Any, ...] | None] = [None] * count

        def work(low: int, high: int) -> None:
            for k in range(low, high):
                own, begin = (scan.beginning(), bounds[k]) if k else (state.copy(), bounds[0])
                if k:
                    begin = lines.next_header(window.data, begin, bounds[k + 1])
                    if begin >= bounds[k + 1]:
                        continue
                limit = bounds[k + 1] if k + 1 < count else stop
                found = scan.scan(window.data, begin, limit, stop, window.base, ended, own)
                results[k] = (own, _names(window, found[0]), *found)

        parallel(work, count, grain=1)
        return [result for result in results if result is not None]

    def _read_fastq(self, stop: int) -> tuple[Found, int, int]:
        from biolayers.kernels.numba import scan_fastq

        window = self.window
        headers, columns, code, at = scan_fastq.scan(
            window.data, self._first, stop, window.base, window.final
        )
        lengths, bases, widths, qualities = columns
        first = int(self._state[0]) + 1
        numbers = np.arange(first, first + len(lengths))
        self._state[0] += len(lengths)
        held = lengths > 0
        segments = np.stack([numbers, lengths, headers[3], bases, widths])[:, held]
        return Found([_names(window, headers)], [headers], [segments], qualities.copy()), code, at


def beginning_of(head: bytes) -> tuple[int, bool]:
    """Where a text begins, after a byte-order mark, and whether it is FASTQ."""
    first = len(MARK) if head.startswith(MARK) else 0
    return first, head[first:].lstrip()[:1] == b"@"


def _names(window: Window, headers: np.ndarray) -> bytes:
    from biolayers.kernels.numba import fai

    return fai.gather(window.data, headers[1] - window.base, headers[2] - window.base).tobytes()
