"""What kind of file it is, from its first bytes."""

import os

from biolayers.errors import FastaError

PLAIN, BGZIP, GZIP = "plain", "bgzip", "gzip"
HEAD = 18  # bytes that `kind_of` wants to see

MARK = b"\xef\xbb\xbf"  # the byte-order mark, which some editors write before the text

# The first bytes of files that people hand over as FASTA, and what to say about them.
_OTHERS = (
    (b"BZh", "is compressed with bzip2; decompress it first (bunzip2 -k FILE)"),
    (b"\xfd7zXZ\x00", "is compressed with xz; decompress it first (unxz -k FILE)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it first (unzstd FILE)"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"\xff\xfe", "is UTF-16 text or no text; save it as plain ASCII text"),
    (b"\xfe\xff", "is UTF-16 text or no text; save it as plain ASCII text"),
)


def kind_of(path: str, head: bytes) -> str:
    """PLAIN, BGZIP or GZIP.

    Raises:
        FastaError: The file is empty, or of a kind that is not read.
    """
    if not head:
        raise FastaError(f"{path}: expected at least one record, received an empty file")
    for magic, remark in _OTHERS:
        if head.startswith(magic):
            raise FastaError(
                f"{path}: expected FASTA text; the file {remark.replace('FILE', os.path.basename(path))}"
            )
    if head[:2] != b"\x1f\x8b":
        return PLAIN
    # The extra field "BC" of 2 bytes: SAM format specification, section 4.1.
    return BGZIP if len(head) >= HEAD and head[3] & 4 and head[12:16] == b"BC\x02\x00" else GZIP


def only_streamed(path: str) -> FastaError:
    """Why a gzip file cannot be read at any place, and what to do."""
    return FastaError(
        f"{path}: expected plain or bgzip text for random access, received gzip, which can only be read from "
        f"its start; convert it once: `qbio fasta convert {path}`, or biolayers.convert({path!r}, "
        f"'NEW.fa.gz'), or pass convert='NEW.fa.gz'; biolayers.read_batches reads it as it is"
    )
