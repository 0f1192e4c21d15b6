"""Streams: every record once, in an order that workers, ranks and resumes do not change."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biolayers import PAD, FastaError, FastaStream, loader
from shared.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads

COUNT = 67


def coded(number: int) -> str:
    """A sequence of 4 letters that says its number."""
    return "".join("ACGT"[number // 4**place % 4] for place in range(4))


def numbers(batches: Any) -> list[list[int]]:
    """What `coded` said."""
    return [(batch[0].long() * 4 ** torch.arange(4)).sum(1).tolist() for batch in batches]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stream")
    texts = [f">s{i} y={'ab'[i % 2]}\n{coded(i)}\n" for i in range(COUNT)]
    (folder / "one.fa").write_text("".join(texts[:40]))
    with gzip.open(folder / "two.fa.gz", "wt") as file:
        file.write("".join(texts[40:]))
    return [str(folder / "one.fa"), str(folder / "two.fa.gz")]


def stream(files: Any, **options: Any) -> FastaStream:
    return FastaStream(files, **{"batch_size": 6, "buffer": 10, **options})


def test_in_order(files: list[str]) -> None:
    found = numbers(loader(stream(files, shuffle=False)))
    assert found == [list(range(k, min(k + 6, COUNT))) for k in range(0, COUNT, 6)]


def test_shuffled(files: list[str]) -> None:
    batches = loader(stream(files, seed=1))
    first, second = numbers(batches), numbers(batches)
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(COUNT))  # noqa: RUF017
    assert first != second
    assert first != numbers(loader(stream(files, seed=2)))
    assert first == numbers(loader(stream(files, seed=1)))


def test_a_large_buffer_shuffles_evenly(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(f">s{i}\n{coded(i)}\n" for i in range(8)))
    batches = loader(stream(path, batch_size=8, buffer=20))
    table = np.zeros((8, 8))
    for _ in range(200):
        for place, number in enumerate(numbers(batches)[0]):
            table[place, number] += 1
    assert ((table - 25) ** 2 / 25).sum() < 49 + 4 * np.sqrt(2 * 49)


@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (3, "fork"), (1, "spawn")])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes:UserWarning")
def test_workers_change_nothing(files: list[str], workers: int, context: str) -> None:
    options = {"reverse_complement": 0.5, "label_pattern": "y=(.)", "classes": ["a", "b"]}

    def two_epochs(batches: Any) -> bytes:
        return pickle.dumps([[part.tolist() for part in batch] for _ in range(2) for batch in batches])

    here = two_epochs(loader(stream(files, **options)))
    assert two_epochs(loader(stream(files, **options), workers=workers, context=context)) == here


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 5, 11, 12])
def test_resumed_in_the_middle(files: list[str], workers: int, stop: int) -> None:
    options = {"workers": workers, "context": "fork" if workers else None}
    batches = loader(stream(files), **options)
    whole = [numbers(batches), numbers(batches)]
    again = loader(stream(files), **options)
    numbers(again)
    before = []
    for batch in again:
        before += numbers([batch])
        if len(before) == stop:
            break
    state = json.loads(json.dumps(again.state_dict()))
    assert (state["epoch"], state["batches"]) == (1, stop)
    later = loader(stream(files), **options)
    later.load_state_dict(state)
    assert before + numbers(later) == whole[1]


@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    world=st.integers(1, 3),
    buffer=st.integers(1, 30),
    drop_last=st.booleans(),
)
def test_ranks_share_a_stream(n: int, batch_size: int, world: int, buffer: int, drop_last: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.fa"
        path.write_text("".join(f">s{i}\n{coded(i)}\n" for i in range(n)))
        options = {"batch_size": batch_size, "buffer": buffer, "drop_last": drop_last, "world": world}
        made = [loader(stream(path, rank=rank, records=n, **options)) for rank in range(world)]
        if n < world and not drop_last:
            with pytest.raises(UserError, match=f"at least one record for each of {world} processes"):
                numbers(made[0])
            return
        found = [numbers(batches) for batches in made]
        assert [len(batches) for batches in made] == [len(each) for each in found]
    assert len({len(batches) for batches in found}) == 1
    kept = [number for batches in found for batch in batches for number in batch]
    expected = n // (batch_size * world) * batch_size * world if drop_last else n
    assert len(kept) == len(set(kept)) == expected


def test_lengths(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nACG\n>b\nT\n>c\nCC\n")
    options = {"shuffle": False, "batch_size": 2}
    found = [batch[0].tolist() for batch in loader(stream(path, pad_to="batch", **options))]
    assert found == [[[0, 1, 2], [3, PAD, PAD]], [[1, 1]]]
    assert next(iter(loader(stream(path, pad_to=4, **options))))[0].shape == (2, 4)
    turned = loader(stream(path, pad_to="batch", reverse_complement=1.0, **options))
    assert next(iter(turned))[0].tolist() == [[1, 2, 3], [0, PAD, PAD]]
    with pytest.raises(FastaError, match=r"x\.fa, record 'b': expected 3 letters, received 1; choose pad_to"):
        list(loader(stream(path, **options)))
    with pytest.raises(FastaError, match=r"x\.fa, record 'a': expected at most 2 letters, received 3"):
        list(loader(stream(path, pad_to=2, **options)))


def test_complaints(files: list[str]) -> None:
    with pytest.raises(FastaError, match=r"record 's1': expected a label among \['a', 'c'\] by the pattern"):
        list(loader(stream(files[0], label_pattern="y=(.)", classes=["a", "c"], shuffle=False)))
    with pytest.raises(UserError, match="expected label_pattern and classes together"):
        stream(files, classes=["a", "b"])
    with pytest.raises(UserError, match="expected 60 records as told, received 67"):
        list(loader(stream(files, records=60)))
    with pytest.raises(UserError, match="to be given to FastaStream itself, received batch_size, shuffle"):
        loader(stream(files), batch_size=3, shuffle=True)
    with pytest.raises(UserError, match="expected files, a batch_size and a buffer from 1 on"):
        stream(files, buffer=0)
    with pytest.raises(UserError, match="expected pad_to None, 'batch' or a length, received 'longest'"):
        stream(files, pad_to="longest")
    with pytest.raises(TypeError, match="length of a FastaStream is not known; pass records="):
        len(loader(stream(files)))
    with pytest.raises(UserError, match="a loader with batch_size=6"):
        loader(stream(files, batch_size=7)).load_state_dict(loader(stream(files)).state_dict())
