"""bigWig tracks against arrays: bins, gaps, strands, edges, threads and processes."""

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biolayers import Fasta, IntervalDataset, IntervalError, Intervals, Tracks
from biolayers.intervals.bigwig import BigWig

SIZES = {"chr1": 120, "chr2": 50}


def save(path: Path, values: dict[str, np.ndarray], sizes: dict[str, int] | None = None) -> str:
    """A bigWig file of one value for each letter; letters that are nan get none."""
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list((sizes or {name: len(column) for name, column in values.items()}).items()))
        for name, column in values.items():
            starts = np.flatnonzero(~np.isnan(column))
            if len(starts):
                ends, found = (starts + 1).tolist(), column[starts].astype(float).tolist()
                file.addEntries([name] * len(starts), starts.tolist(), ends=ends, values=found)
    return str(path)


def signal(seed: int, gaps: float = 0.3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for name, size in SIZES.items():
        column = rng.normal(size=size).astype(np.float32)
        column[rng.random(size) < gaps] = np.nan
        found[name] = column
    return found


A, B, WHOLE = signal(0), signal(1), signal(2, gaps=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tracks")
    return {
        name: save(folder / f"{name}.bw", values) for name, values in (("a", A), ("b", B), ("whole", WHOLE))
    }


def naive(
    values: dict[str, np.ndarray], contig: str, start: int, end: int, bins: int, statistic: str, missing: str
) -> list[float]:
    size = SIZES[contig]
    letters = [float(values[contig][p]) if 0 <= p < size else np.nan for p in range(start, end)]
    width = len(letters) // bins
    found = []
    for k in range(bins):
        part = [x for x in letters[k * width : (k + 1) * width] if missing == "zero" or not np.isnan(x)]
        part = [0.0 if np.isnan(x) else x for x in part]
        if not part:
            found.append(np.nan)
        else:
            found.append({"mean": sum(part) / len(part), "max": max(part), "sum": sum(part)}[statistic])
    return found


@given(
    st.lists(st.tuples(st.sampled_from(list(SIZES)), st.integers(-40, 130), st.booleans()), max_size=5),
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(0, 3),
    st.sampled_from(["mean", "max", "sum"]),
    st.sampled_from(["zero", "nan"]),
)
def test_bins_are_those_of_a_naive_loop(
    files: dict[str, str],
    places: list[tuple[str, int, bool]],
    bins: int,
    width: int,
    margin: int,
    statistic: str,
    missing: str,
) -> None:
    tracks = Tracks(
        {"pair": (files["a"], files["b"]), "alone": files["whole"]},
        bins=bins,
        statistic=statistic,
        missing=missing,
        length=bins * width,
    )
    assert tracks.channels == ["pair+", "pair-", "alone"]
    starts = [start - margin for _, start, _ in places]
    ends = [start + bins * width + margin for _, start, _ in places]
    found = tracks.read([contig for contig, _, _ in places], starts, ends, [minus for *_, minus in places])
    assert (found.shape, found.dtype) == ((len(places), 3, bins), torch.float32)
    for row, (contig, start, minus) in zip(found, places, strict=True):
        expected = [
            naive(values, contig, start, start + bins * width, bins, statistic, missing)
            for values in ((B, A, WHOLE) if minus else (A, B, WHOLE))
        ]
        if minus:
            expected = [channel[::-1] for channel in expected]
        torch.testing.assert_close(row, torch.tensor(expected), equal_nan=True, rtol=1e-5, atol=1e-6)


def test_one_bin_for_each_letter(files: dict[str, str]) -> None:
    tracks = Tracks(files["whole"])
    assert tracks.channels == ["whole"]
    assert tracks.read(["chr1"], [3], [9])[0, 0].tolist() == WHOLE["chr1"][3:9].tolist()
    assert tracks.read([], [], []).shape[0] == 0


def test_windows_and_their_tracks_move_together(files: dict[str, str], tmp_path: Path) -> None:
    """A track that is the number of each letter says which letters a window shows."""
    path = tmp_path / "x.fa"
    letters = np.random.default_rng(0).choice(list("ACGT"), 120)
    path.write_text(">chr1\n" + "".join(letters) + "\n")
    numbers = save(tmp_path / "numbers.bw", {"chr1": np.arange(120, dtype=np.float32)})
    data = IntervalDataset(
        path,
        [("chr1", k, k + 30, "+-."[k % 3]) for k in range(5, 80, 3)],
        jitter=4,
        reverse_complement=0.5,
        tracks=Tracks(numbers),
    )
    tokens, places = data.batch(range(len(data)), epoch=2)
    plain = np.array(["ACGT".index(letter) for letter in letters])
    turned = 0
    for row, track in zip(tokens.numpy(), places[:, 0].numpy().astype(int), strict=True):
        backwards = track[0] > track[-1]
        turned += backwards
        assert row.tolist() == (3 - plain[track] if backwards else plain[track]).tolist()
    assert 0 < turned < len(data)


# Genomes


def test_contigs_are_compared_with_the_genome(files: dict[str, str], tmp_path: Path) -> None:
    tracks = Tracks(files["a"])
    tracks.check(SIZES, ["chr1", "chr2"])
    with pytest.raises(
        IntervalError, match=r"a\.bw: expected 'chr2' with 51 letters as in the genome, received 50; "
    ):
        tracks.check({"chr1": 120, "chr2": 51}, ["chr2"])
    with pytest.raises(IntervalError, match="received '1', which seems to be called 'chr1' there"):
        tracks.check({"1": 120}, ["1"])
    with pytest.raises(IntervalError, match=r"received 'chr3'; .*choose absent='missing'"):
        tracks.check({"chr3": 5}, ["chr3"])
    with pytest.raises(IntervalError, match="received 'chr3'"):
        tracks.read(["chr3"], [0], [5])
    lenient = Tracks(files["a"], absent="missing")
    lenient.check({"chr3": 5}, ["chr3"])
    assert lenient.read(["chr3"], [0], [2]).tolist() == [[[0.0, 0.0]]]
    (tmp_path / "x.fa").write_text(">chr1\n" + "A" * 119 + "\n")
    with pytest.raises(IntervalError, match="is the file of another assembly"):
        IntervalDataset(tmp_path / "x.fa", [("chr1", 0, 10)], tracks=tracks)


def test_coarse_files_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "coarse.bw")
    with pyBigWig.open(path, "w") as file:
        file.addHeader([("chr1", 103)])
        file.addEntries("chr1", 0, values=[1.0, 2.0, 2.0, 3.0], span=25, step=25)
    fine, coarse = Tracks(path), Tracks(path, bins=2)
    table = Intervals.of([("chr1", 0, 50), ("chr1", 50, 100)])
    assert fine.resolution(table) == [25]
    assert fine.resolution(table[:0]) == [0]
    (tmp_path / "x.fa").write_text(">chr1\n" + "A" * 103 + "\n")
    IntervalDataset(tmp_path / "x.fa", table, tracks=coarse)
    assert not caplog.records
    IntervalDataset(tmp_path / "x.fa", table, tracks=fine)
    assert "track coarse has one value for every 25 letters; bins of 1 letters repeat it" in caplog.text


def test_two_genomes(files: dict[str, str], tmp_path: Path) -> None:
    for name, size in (("x", 120), ("y", 50)):
        (tmp_path / f"{name}.fa").write_text(f">chr{1 if name == 'x' else 2}\n" + "A" * size + "\n")
    genomes = {name: Fasta(tmp_path / f"{name}.fa") for name in "xy"}
    given = {"x": [("chr1", 0, 6), ("chr1", 3, 9)], "y": [("chr2", 1, 7)]}
    tracks = {"x": Tracks({"t": files["whole"]}), "y": Tracks({"t": files["whole"]})}
    data = IntervalDataset(genomes, given, tracks=tracks)
    _, values = data.batch([2, 1])
    assert values[:, 0].tolist() == [WHOLE["chr2"][1:7].tolist(), WHOLE["chr1"][3:9].tolist()]
    assert "tracks t" in repr(data)
    with pytest.raises(IntervalError, match=r"expected tracks for genomes \['x', 'y'\], received \['x'\]"):
        IntervalDataset(genomes, given, tracks={"x": tracks["x"]})
    with pytest.raises(IntervalError, match="expected the same channels of tracks for every genome"):
        IntervalDataset(genomes, given, tracks={**tracks, "y": Tracks(files["a"])})


# Threads and processes


def test_threads_and_pickles(files: dict[str, str]) -> None:
    tracks = Tracks(files, bins=5)
    places = [("chr1", k) for k in range(0, 110, 3)]

    def read(part: list[tuple[str, int]]) -> torch.Tensor:
        return tracks.read([name for name, _ in part], [k for _, k in part], [k + 10 for _, k in part])

    expected = read(places)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(found, expected) for found in pool.map(read, [places] * 24))
    again = pickle.loads(pickle.dumps(tracks))
    assert torch.equal(again.read(["chr2"], [0], [10]), tracks.read(["chr2"], [0], [10]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_opens_the_file_itself(files: dict[str, str]) -> None:
    file = BigWig(files["whole"])
    before = file._handle
    child = os.fork()
    if not child:
        values = np.empty(5, np.float32)
        file.fill(values, "chr1", 0, absent="error")
        os._exit(0 if file._handle is not before and (values == WHOLE["chr1"][:5]).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert file._handle is before


# Complaints


def test_files_that_are_no_bigwig(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(
        IntervalError, match=r"no\.bw: expected a bigWig file, but it cannot be read: No such"
    ):
        Tracks(tmp_path / "no.bw")
    (tmp_path / "x.bw").write_text("chr1\t0\t5\t1.0\n")
    with pytest.raises(
        IntervalError, match=r"x\.bw: expected a bigWig file, received one that starts with b'chr1'"
    ):
        Tracks(tmp_path / "x.bw")
    (tmp_path / "x.bw").write_bytes(Path(files["a"]).read_bytes())
    tracks = Tracks(tmp_path / "x.bw")
    os.utime(tmp_path / "x.bw", (1, 1))
    with pytest.raises(IntervalError, match=r"x\.bw: the file changed after it was opened"):
        pickle.loads(pickle.dumps(tracks)).read(["chr1"], [0], [5])


FAULTS: dict[str, Callable[[dict[str, str]], Any]] = {
    "expected a value for every letter, received none for 'chr1' at": lambda f: Tracks(
        f["a"], missing="error"
    ).read(["chr1"], [0], [120]),
    "expected windows of one length, received [5, 6]": lambda f: Tracks(f["a"]).read(
        ["chr1"] * 2, [0, 0], [5, 6]
    ),
    "expected bins that divide the 10 measured letters, received 3": lambda f: Tracks(f["a"], bins=3).read(
        ["chr1"], [0], [10]
    ),
    "longer than the measured 5 letters by an even number, received 10": lambda f: Tracks(
        f["a"], length=5
    ).read(["chr1"], [0], [10]),
    "longer than the measured 12 letters by an even number, received 10": lambda f: Tracks(
        f["a"], length=12
    ).read(["chr1"], [0], [10]),
    "expected statistic to be one of 'mean', 'max', 'sum', received 'min'": lambda f: Tracks(
        f["a"], statistic="min"
    ),
    "expected missing to be one of": lambda f: Tracks(f["a"], missing="drop"),
    "expected bins from 1 on, received 0": lambda f: Tracks(f["a"], bins=0),
    "expected at least one file, received an empty mapping": lambda f: Tracks({}),
    "expected a file or a pair of files as 'x'": lambda f: Tracks({"x": (f["a"],) * 3}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints(files: dict[str, str], message: str) -> None:
    with pytest.raises(IntervalError) as caught:
        FAULTS[message](files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_library(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyBigWig", None)
    with pytest.raises(IntervalError, match=r"pip install 'qbio\[tracks\]'"):
        Tracks(files["a"])
