"""Words for what keeps a text from being read, with its line."""

import numpy as np

from biolayers.reading.window import Window


def line_number(window: Window, at: int) -> int:
    """The line (from 1) of a byte of the text that a window will move over."""
    line = 1
    while window.base + len(window.data) < at and not window.final:
        line += int(np.count_nonzero(window.data == 10))
        window.advance(len(window.data))
    return line + int(np.count_nonzero(window.data[: at - window.base] == 10))


def fault(path: str, data: np.ndarray, code: int, at: int, line: int) -> str:
    """The message for a fault that a scan found at byte `at` of `data`, on a line of the file."""
    from biolayers.kernels.numba import scan, scan_fastq

    byte = int(data[at]) if at < len(data) else 0
    shown = repr(chr(byte)) if 32 < byte < 127 else f"byte 0x{byte:02x}"
    what = {
        scan.NO_HEADER: f"expected '>' as the first character, received {shown}; is this a FASTA file?",
        scan.NO_NAME: f"expected a name after {shown}, received none; give the record a name",
        scan.CARRIAGE_RETURN: "expected lines that end in LF or CRLF, received a lone carriage return; "
        "convert the line endings (tr '\\r' '\\n')",
        scan.CONTROL_BYTE: f"expected text in the header, received {shown}; is this a FASTA file?",
        scan.STRAY_BYTE: f"expected a letter, received {shown} in column {_before(data, at) + 1}; remove it",
        scan_fastq.NO_AT: f"expected '@' at the start of a record, received {shown}; "
        "does a record have more qualities than letters?",
        scan_fastq.NO_PLUS: "expected letters, a line of '+', and as many qualities, received the end of the "
        "file; it is cut off: copy it anew",
        scan_fastq.UNEVEN: "expected '+' after a line shorter than the first, and no line longer than it; "
        "write each sequence on one line (seqtk seq FILE)",
        scan_fastq.QUALITIES: "expected qualities in lines as long as those of the letters, received a line "
        f"of {_letters(data, at)}; each letter needs one quality",
    }[code]
    return f"{path}, line {line}: {what}"


def _before(data: np.ndarray, at: int) -> int:
    """How many bytes of its line stand before `at`."""
    newlines = np.flatnonzero(data[:at] == 10)
    return at - (int(newlines[-1]) + 1 if len(newlines) else 0)


def _letters(data: np.ndarray, at: int) -> int:
    """How many bytes the line at `at` has, its ending apart."""
    end = np.flatnonzero(data[at:] == 10)
    return len(data[at : at + int(end[0]) if len(end) else len(data)].tobytes().rstrip())
