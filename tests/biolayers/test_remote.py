"""Files behind an address: a file system in memory, and a server on this machine."""

import http.server
import itertools
import multiprocessing
import pickle
import re
import threading
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from biolayers import DNA, Fasta, FastaError, convert, read_batches

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python 3.12 with threads
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One text of several blocks, as plain text and as bgzip, with indices."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("remote")
    text = rng.choice(np.frombuffer(b"ACGT", np.uint8), 300_000).tobytes()
    lines = b"\n".join(text[k : k + 60] for k in range(0, len(text), 60))
    (folder / "x.fa").write_bytes(b">a first\n" + lines + b"\n>b\nACGTN\n>c\nGG")
    convert(folder / "x.fa", folder / "x.fa.gz")
    for name in ("x.fa", "x.fa.gz"):
        Fasta(folder / name)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Memory:
    """`memory://`, a new folder for each test."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.root = f"memory://qbio{next(self.numbers)}"

    def put(self, name: str, content: bytes) -> str:
        fsspec.filesystem("memory").pipe_file(f"{self.root}/{name}", content)
        return f"{self.root}/{name}"


class Server:
    """A server that answers requests for ranges, or (`ranges=False`) ignores them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges, self.asked = True, 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                content = owner.files.get(self.path[1:])
                if content is None:
                    self.send_error(404)
                    return
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                part = content
                if found and owner.ranges:
                    part = content[int(found[1]) : int(found[2]) + 1]
                self.send_response(206 if found and owner.ranges else 200)
                self.send_header("Content-Length", str(len(part)))
                self.send_header("ETag", f'"{hash(content)}"')
                if owner.ranges:
                    self.send_header("Accept-Ranges", "bytes")
                self.end_headers()
                if body:
                    owner.asked += len(part)
                    self.wfile.write(part)

            def log_message(self, *_: object) -> None:
                """The tests' output stays clean."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def put(self, name: str, content: bytes) -> str:
        self.files[name] = content
        return f"http://127.0.0.1:{self.server.server_port}/{name}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture(params=["memory", "http"])
def place(request: pytest.FixtureRequest, server: Server) -> Memory | Server:
    return Memory() if request.param == "memory" else server


@pytest.mark.parametrize("name", ["x.fa", "x.fa.gz"])
@pytest.mark.parametrize("indexed", [True, False])
def test_windows(
    files: dict[str, bytes], place: Memory | Server, name: str, indexed: bool, tmp_path: Path
) -> None:
    path = place.put(name, files[name])
    if indexed:
        for ending in (".fai", ".gzi"):
            place.put(name + ending, files.get(name + ending, b""))
    (tmp_path / "x.fa").write_bytes(files["x.fa"])
    here, there = Fasta(tmp_path / "x.fa"), Fasta(path)
    assert there.names == here.names
    assert there.headers() == here.headers()
    starts = np.arange(0, 290_000, 977)
    ids = np.zeros_like(starts)
    assert torch.equal(
        there.fetch_arrays(ids, starts, starts + 500), here.fetch_arrays(ids, starts, starts + 500)
    )
    assert str(there["b"]) == "ACGTN"
    assert there.line(1) == here.line(1)
    assert there.counts() == here.counts()
    (batch,) = read_batches(path)
    assert batch.names == here.names
    assert torch.equal(batch.tokens[:300_000], here["a"].tokens())


def test_a_window_asks_for_little(files: dict[str, bytes], server: Server) -> None:
    for name in ("x.fa", "x.fa.fai"):
        path = server.put(name, files[name])
    fa = Fasta(path.removesuffix(".fai"))
    before = server.asked
    assert fa.fetch([("a", 100_000, 100_100)]).shape == (1, 100)
    assert 0 < server.asked - before <= 2 << 16
    before = server.asked
    fa.fetch([("a", 100_020, 100_080)])
    assert server.asked == before  # from the blocks that are kept


def test_index_may_be_kept_here(files: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    path, index = server.put("x.fa", files["x.fa"]), tmp_path / "kept.fai"
    assert str(Fasta(path, index=index)["c"]) == "GG"
    assert index.read_bytes() == files["x.fa.fai"]
    made = index.stat().st_mtime_ns
    before = server.asked
    assert str(Fasta(path, index=index)["c"]) == "GG"
    assert index.stat().st_mtime_ns == made
    assert server.asked - before < len(files["x.fa"])


def test_processes(files: dict[str, bytes], server: Server) -> None:
    fa = Fasta(server.put("x.fa.gz", files["x.fa.gz"]))
    expected = fa.fetch([("a", 0, 100)])
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert torch.equal(pool.apply(methodcaller("fetch", [("a", 0, 100)]), (fa,)), expected)


def test_a_changed_file_is_noticed(files: dict[str, bytes], place: Memory | Server) -> None:
    fa = Fasta(place.put("x.fa", files["x.fa"]))
    frozen = pickle.dumps(fa)
    place.put("x.fa", files["x.fa"].replace(b"A", b"C"))
    with pytest.raises(FastaError, match="the file changed after it was opened; open it again"):
        fa.fetch([("a", 200_000, 200_100)])
    with pytest.raises(FastaError, match="the file changed after it was indexed; make a new Fasta of it"):
        pickle.loads(frozen).fetch([("a", 0, 100)])


def test_faults(files: dict[str, bytes], server: Server) -> None:
    missing = server.put("x.fa", b"")[:-4] + "none.fa"
    with pytest.raises(FastaError, match=r"none\.fa: expected a FASTA file, but it cannot be read"):
        Fasta(missing)
    with pytest.raises(FastaError, match="received an empty file"):
        Fasta(missing.replace("none.fa", "x.fa"))
    with pytest.raises(FastaError, match="cut off or damaged"):
        Fasta(server.put("cut.fa.gz", files["x.fa.gz"][:-40]))
    content = bytearray(files["x.fa.gz"])
    content[5_000] ^= 255
    with pytest.raises(FastaError, match="received a damaged one"):
        Fasta(server.put("bad.fa.gz", bytes(content)))
    server.ranges = False
    with pytest.raises(FastaError, match="does the server answer requests for ranges"):
        Fasta(server.put("y.fa", files["x.fa"]))


def test_letters_beyond_the_alphabet(server: Server) -> None:
    path = server.put("odd.fa", b">a\nACGT\nACJT\n")
    with pytest.raises(FastaError, match=r"odd\.fa, line 3, record 'a': .* received 'J' at position 7"):
        Fasta(path, alphabet=DNA)["a"].tokens()
