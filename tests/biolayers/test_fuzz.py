"""Mutated files: the reader finds what a naive parser finds, or refuses what that refuses.

`make fuzz` tries a million, in parts that processes share; the ordinary tests some hundreds.
"""

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from biolayers import DNA, Fasta, FastaError, Fastq, convert, read_batches
from biolayers.reading import records, window

COUNT = int(os.environ.get("QBIO_FUZZ", "700"))
PART = 10_000  # files of a part
ANY = DNA.with_policy(other="unknown")  # letters are not what is tested here
BLANKS = b" \t\r\v\f"

FASTA = [
    b">a\nACGT\nACGT\nAC\n>b some words\nACGTACGT\nACGTACGT\nA\n",
    b">a\r\nACGT\r\nACGT\r\nAC\r\n>b\r\n>c\tx\r\nAC\r\n",
    b"\n>a\nACGTACGTAC\nACGT\n\nACGTACG\n>b\n\n\nACGT",
    b"\xef\xbb\xbf>a\nACGT\n>empty\n>  b x>y\nACGTACGT\nACGTACGTACG\nAC\n\n",
    b">one\n" + b"ACGTN" * 30 + b"\n>two\n" + b"acgtRY\n" * 12 + b"ac\n",
]
FASTQ = [
    b"@a\nACGT\n+\nIIII\n@b x\nACGTACGT\n+b x\n@@@@++++\n",
    b"@a\r\nACG\r\n+\r\n>I!\r\n\r\n@b\r\nA\r\n+\r\n@\r\n",
    b"@a\nACGT\nACGT\nAC\n+\n@III\n+III\nII\n@e\n\n+\n\n@b\nAC\n+\nII",
]
PARTS = [b"\n", b"\r\n", b"\r", b">", b"@", b"+", b" ", b"\t", b"\0", b"\xff", b"\n>", b"\n@", b"\n+\n", b"A",
         b"\n\n", b">a\n", b"ACGT\n", b"\x7f", b"\xef\xbb\xbf"]  # fmt: skip


class RefusedError(Exception):
    """The naive parsers' word for a file that is not well formed."""


def header(line: bytes, ended: bool) -> bytes:
    """The name in a header line, whose first character is off."""
    text = line[:-1] if ended and line.endswith(b"\r") else line
    if b"\r" in text or any(byte == 127 or (byte < 32 and byte not in BLANKS) for byte in text):
        raise RefusedError
    name = line.lstrip(BLANKS)
    for blank in BLANKS:
        name = name.split(bytes([blank]), 1)[0]
    if not name:
        raise RefusedError
    return name


def letters(line: bytes) -> bytes:
    text = line.rstrip(BLANKS)
    if any(not 33 <= byte <= 126 for byte in text):
        raise RefusedError
    return text


def lines_of(content: bytes) -> list[tuple[bytes, bool]]:
    """Each line, and whether a newline ends it."""
    parts = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [(part, i < len(parts) - 1) for i, part in enumerate(parts) if part or i < len(parts) - 1]


def naive_fasta(content: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for line, ended in lines_of(content):
        if line.startswith(b">"):
            found.append((header(line[1:], ended), b""))
        elif text := letters(line):
            if not found:
                raise RefusedError
            found[-1] = found[-1][0], found[-1][1] + text
    return found


def naive_fastq(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """For texts whose records are wrapped evenly, as ours must be."""
    lines, found, at = lines_of(content), [], 0
    while at < len(lines):
        line, ended = lines[at]
        at += 1
        if not line.strip(BLANKS):
            continue
        if not line.startswith(b"@"):
            raise RefusedError
        name, widths, text = header(line[1:], ended), [], b""
        while at < len(lines) and not lines[at][0].startswith(b"+"):
            piece = letters(lines[at][0])
            widths.append((len(piece), len(lines[at][0])))
            text += piece
            at += 1
        if at == len(lines):
            raise RefusedError
        at += 1
        qualities = b""
        for width, size in [entry for entry in widths if entry[0]]:
            if at == len(lines) or len(letters(lines[at][0])) != width:
                raise RefusedError
            last = len(qualities) + width == len(text)
            if not last and (len(lines[at][0]), lines[at][1]) != (size, True):
                raise RefusedError
            qualities += letters(lines[at][0])
            at += 1
        held = [entry for entry in widths if entry[0]]
        if any(entry != held[0] for entry in held[:-1]) or any(width > held[0][0] for width, _ in held):
            raise RefusedError
        if held and (held != widths[: len(held)] or any(not width for width, _ in widths[: len(held)])):
            raise RefusedError
        found.append((name, text, qualities))
    return found


def mutated(rng: random.Random, content: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice([1, 1, 2, 8, 40]))
        content = rng.choice([
            lambda c, a, e: c[:a] + rng.choice(PARTS) + c[a:],
            lambda c, a, e: c[:a] + rng.choice(PARTS) + c[e:],
            lambda c, a, e: c[:a] + c[e:],
            lambda c, a, e: c[:e] + c[a:],
            lambda c, a, e: c[:a] + bytes([rng.randrange(256)]) + c[e:],
            lambda c, a, e: c[:a] if rng.random() < 0.3 else c,
        ])(content, at, end)  # fmt: skip
    return content


Resize = Callable[[random.Random], None]


@pytest.fixture
def resize(monkeypatch: pytest.MonkeyPatch) -> Resize:
    """Makes windows and pieces so small, at times, that records cross their edges as in huge files."""

    def choose(rng: random.Random) -> None:
        small = rng.random() < 0.25
        monkeypatch.setattr(window, "STEP", 64 if small else 1 << 20)
        monkeypatch.setattr(records, "_PIECE", 16 if small else 1 << 20)

    return choose


def expected(parser, content: bytes):  # type: ignore[no-untyped-def]
    """What the naive parser finds, or None where it refuses."""
    try:
        return parser(content) or None
    except RefusedError:
        return None


def streamed(path: Path) -> list[tuple[bytes, ...]] | None:
    try:
        found: list[tuple[bytes, ...]] = []
        for batch in read_batches(path, alphabet=ANY):
            edges = batch.offsets.tolist()
            for i, name in enumerate(batch.names):
                rows = [batch.tokens[edges[i] : edges[i + 1]].numpy().tobytes()]
                if batch.qualities is not None:
                    rows.append((batch.qualities[edges[i] : edges[i + 1]] + 33).numpy().tobytes())
                found.append((name.encode("utf-8", "surrogateescape"), *rows))
        return found
    except FastaError:
        return None


def spelled(text: bytes) -> bytes:
    return ANY.byte_table[list(text)].tobytes()


def check_fasta(rng: random.Random, path: Path, content: bytes) -> None:
    wanted = expected(naive_fasta, content)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"@":
        return
    path.write_bytes(content)
    tokens = None if wanted is None else [(name, spelled(text)) for name, text in wanted]
    assert streamed(path) == tokens, content
    unique = wanted is not None and len({name for name, _ in wanted}) == len(wanted)
    paths = [path, path]  # the second time with the index that the first has stored
    if unique and rng.random() < 0.1:
        paths += [path.with_suffix(".gz")] * 2
        convert(path, paths[-1], overwrite=True)
    for each in paths:
        try:
            fa = Fasta(each, alphabet=ANY)
        except FastaError:
            assert not unique, content
            continue
        assert unique, content
        assert [
            (name.encode("utf-8", "surrogateescape"), str(fa[name]).encode("latin-1")) for name in fa
        ] == [(name, text) for name, text in wanted], content
        check_intervals(rng, fa, [text for _, text in wanted], content)
    for ending in (".fai", ".gz", ".gz.fai", ".gz.gzi"):
        Path(f"{path.with_suffix('')}{ending}" if ending != ".fai" else f"{path}.fai").unlink(missing_ok=True)


def check_intervals(rng: random.Random, fa: Fasta, texts: list[bytes], content: bytes) -> None:
    ids = [rng.randrange(len(texts)) for _ in range(3)]
    starts = [rng.randint(0, len(texts[i])) for i in ids]
    ends = [rng.randint(start, len(texts[i])) for i, start in zip(ids, starts, strict=True)]
    strands = [rng.choice([1, -1]) for _ in ids]
    tokens, offsets = fa.fetch_ragged(ids, starts, ends, strands)
    for k, i in enumerate(ids):
        row = ANY.byte_table[list(texts[i][starts[k] : ends[k]])]
        row = row if strands[k] > 0 else ANY.complement_table[row][::-1]
        assert tokens[offsets[k] : offsets[k + 1]].numpy().tobytes() == row.tobytes(), content


def check_fastq(rng: random.Random, path: Path, content: bytes) -> None:
    wanted = expected(naive_fastq, content)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"@":
        return
    path.write_bytes(content)
    found = None if wanted is None else [(name, spelled(text), scores) for name, text, scores in wanted]
    assert streamed(path) == found, content
    unique = wanted is not None and len({name for name, *_ in wanted}) == len(wanted)
    for _ in range(2):
        try:
            fq = Fastq(path, alphabet=ANY)
        except FastaError:
            assert not unique, content
            continue
        assert unique, content
        for name, text, scores in wanted:
            record = fq[name.decode("utf-8", "surrogateescape")]
            assert str(record).encode() == text
            assert (record.qualities() + 33).numpy().tobytes() == scores, content
        check_intervals(rng, fq, [text for _, text, _ in wanted], content)
    Path(f"{path}.fai").unlink(missing_ok=True)


def parts(share: float) -> list[tuple[int, int]]:
    """The share of all files in parts: the number of each, and how many files it has."""
    count = round(share * COUNT)
    edges = [*range(0, count, PART), count]
    return [(i, end - start) for i, (start, end) in enumerate(itertools.pairwise(edges))]


@pytest.mark.parametrize(("part", "count"), parts(0.6))
def test_mutated_fasta(tmp_path: Path, resize: Resize, part: int, count: int) -> None:
    rng = random.Random(f"fasta {part}")
    for seed in FASTA:
        check_fasta(rng, tmp_path / "x.fa", seed)
    for _ in range(count):
        resize(rng)
        check_fasta(rng, tmp_path / "x.fa", mutated(rng, rng.choice(FASTA)))


@pytest.mark.parametrize(("part", "count"), parts(0.3))
def test_mutated_fastq(tmp_path: Path, resize: Resize, part: int, count: int) -> None:
    rng = random.Random(f"fastq {part}")
    for seed in FASTQ:
        check_fastq(rng, tmp_path / "x.fq", seed)
    for _ in range(count):
        resize(rng)
        check_fastq(rng, tmp_path / "x.fq", mutated(rng, rng.choice(FASTQ)))


@pytest.mark.parametrize(("part", "count"), parts(0.1))
def test_mutated_bgzip(tmp_path: Path, part: int, count: int) -> None:
    """Damage to compressed bytes is never served: the text is right, or the file is refused."""
    rng = random.Random(f"bgzip {part}")
    path, plain = tmp_path / "x.fa.gz", tmp_path / "x.fa"
    plain.write_bytes(FASTA[4])
    convert(plain, path)
    sound = path.read_bytes()
    for _ in range(count):
        content = bytearray(sound)
        for _ in range(rng.choice([1, 2, 4])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content)] * 3 + [rng.randrange(1, len(content))])])
        for read in (streamed, lambda path: [(name.encode(), spelled(str(fa[name]).encode()))
                     for fa in [Fasta(path, alphabet=ANY, store_index=False)] for name in fa]):  # fmt: skip
            try:
                found = read(path)
            except FastaError:
                continue
            assert found in (None, [(name, spelled(text)) for name, text in naive_fasta(FASTA[4])])
