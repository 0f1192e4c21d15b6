"""Batches of an epoch: complete, equal for any workers, shared by ranks, resumed wherever they broke off."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.utils.data import DataLoader, Subset, TensorDataset

from biolayers import Batch, BatchSampler, FastaDataset, Part, SequenceDataset, loader
from shared.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads


def sequences(n: int, *, longest: int = 9) -> list[str]:
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), rng.integers(1, longest + 1))) for _ in range(n)]


def numbered(n: int, **options: Any) -> SequenceDataset:
    """Sequences whose target is their number."""
    return SequenceDataset(sequences(n), targets=np.arange(n), pad_to="longest", **options)


def seen(batches: Any) -> list[list[int]]:
    return [batch[-1].int().tolist() for batch in batches]


# Which samples make up a batch

SIZES = {
    "n": st.integers(1, 200),
    "batch_size": st.integers(1, 40),
    "world": st.integers(1, 4),
    "bucket": st.booleans(),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 3),
}


def of_all_ranks(world: int, n: int, *args: Any, epoch: int = 0, **options: Any) -> list[list[list[int]]]:
    """Each rank's batches; how many there are must be what it says."""
    found = []
    for rank in range(world):
        sampler = BatchSampler(n, *args, rank=rank, world=world, **options)
        sampler.set_epoch(epoch)
        found.append([batch.indices.tolist() for batch in sampler])
        assert len(found[-1]) == len(sampler)
    return found


@given(**SIZES)
def test_every_sample_is_in_one_batch_of_one_rank(
    n: int, batch_size: int, world: int, bucket: bool, shuffle: bool, seed: int, epoch: int
) -> None:
    if n < world:
        with pytest.raises(UserError, match=f"at least one sample for each of {world} processes"):
            BatchSampler(n, batch_size, rank=0, world=world)
        return
    lengths = np.arange(n) * 7 % 50 + 1
    options = {"bucket": bucket, "shuffle": shuffle, "seed": seed, "lengths": lengths}
    found = of_all_ranks(world, n, batch_size, epoch=epoch, **options)
    assert sorted(i for batches in found for batch in batches for i in batch) == list(range(n))
    assert len({len(batches) for batches in found}) == 1
    sizes = [len(batch) for batches in found for batch in batches]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + (world > 1)
    if not shuffle and not bucket and world == 1:
        assert found[0] == [list(range(k, min(k + batch_size, n))) for k in range(0, n, batch_size)]


@given(**SIZES)
def test_drop_last_leaves_full_batches_only(
    n: int, batch_size: int, world: int, bucket: bool, shuffle: bool, seed: int, epoch: int
) -> None:
    options = {"bucket": bucket, "shuffle": shuffle, "seed": seed, "lengths": np.ones(n, int)}
    if n < batch_size * world:
        with pytest.raises(UserError, match="expected at least"):
            BatchSampler(n, batch_size, drop_last=True, rank=0, world=world)
        return
    found = of_all_ranks(world, n, batch_size, epoch=epoch, drop_last=True, **options)
    assert all(len(batch) == batch_size for batches in found for batch in batches)
    assert [len(batches) for batches in found] == [n // (batch_size * world)] * world
    kept = [i for batches in found for batch in batches for i in batch]
    assert len(set(kept)) == len(kept)


@given(
    st.integers(1, 150), st.integers(20, 60), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans()
)
def test_batches_within_a_budget_of_letters(
    n: int, letters: int, world: int, packed: bool, bucket: bool, shuffle: bool
) -> None:
    lengths = np.arange(n) * 7 % 20 + 1
    if n < world:
        return
    options = {"letters": letters, "packed": packed, "bucket": bucket, "shuffle": shuffle, "lengths": lengths}
    found = of_all_ranks(world, n, **options)
    assert sorted(i for batches in found for batch in batches for i in batch) == list(range(n))
    assert len({len(batches) for batches in found}) == 1
    for batch in (batch for batches in found for batch in batches):
        size = lengths[batch].sum() if packed else lengths[batch].max() * len(batch)
        assert size <= letters
    if world == 1 and not shuffle and not bucket:  # no batch could have taken the first sample of the next
        for batch, later in zip(found[0], found[0][1:], strict=False):
            more = lengths[[*batch, later[0]]]
            assert (more.sum() if packed else more.max() * len(more)) > letters


@given(data=st.data(), **SIZES)
def test_an_epoch_may_begin_in_its_middle(
    data: st.DataObject,
    n: int,
    batch_size: int,
    world: int,
    bucket: bool,
    shuffle: bool,
    seed: int,
    epoch: int,
) -> None:
    n = max(n, world)
    lengths = np.arange(n) * 7 % 50 + 1
    size = data.draw(st.sampled_from([{"batch_size": batch_size}, {"letters": 60}]))
    options = {"bucket": bucket, "shuffle": shuffle, "seed": seed, "lengths": lengths, **size}
    sampler = BatchSampler(n, rank=world - 1, world=world, **options)
    sampler.set_epoch(epoch)
    whole = [batch.indices.tolist() for batch in sampler]
    start = data.draw(st.integers(0, len(whole) - 1))
    later = BatchSampler(n, rank=world - 1, world=world, **options)
    state = {"epoch": epoch, "batches": start, "settings": later.position.settings}
    later.position.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert [batch.indices.tolist() for batch in later] == whole[start:]


def test_a_large_order_has_many_pools_and_needs_none_of_them() -> None:
    sampler = BatchSampler(50_000, 32, shuffle=True, bucket=True, lengths=np.arange(50_000) % 300)
    batches = [batch.indices for batch in sampler]
    assert sorted(np.concatenate(batches).tolist()) == list(range(50_000))
    assert np.median([np.ptp(batch % 300) for batch in batches]) <= 3  # lengths are alike within a batch
    huge = BatchSampler(10**11, 64, shuffle=True)
    assert len(huge) == -(-(10**11) // 64)
    assert len(next(iter(huge))) == 64


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchSampler(100, 100, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return next(iter(sampler)).indices.tolist()

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(each) for each in orders}) == 4


# Loaders


def epochs(batches: Any, count: int = 2) -> bytes:
    return pickle.dumps(
        [[part.numpy().tobytes() for part in batch] for _ in range(count) for batch in batches]
    )


@pytest.fixture(scope="module")
def augmented(tmp_path_factory: pytest.TempPathFactory) -> FastaDataset:
    path = tmp_path_factory.mktemp("fasta") / "x.fa"
    path.write_text("".join(f">s{i} y={i}\n{text}\n" for i, text in enumerate(sequences(101, longest=60))))
    options = {
        "window": 12,
        "jitter": 5,
        "reverse_complement": 0.5,
        "pad_to": "batch",
        "return_lengths": True,
    }
    return FastaDataset(path, label_pattern="y=(.+)", targets="y", **options)


# `make workers` asks for more epochs, 1,000 batches in all, and for 8 processes started either way
EPOCHS = int(os.environ.get("QBIO_EPOCHS", "2"))
WORKERS = [(1, "fork"), (8, "fork"), (8 if EPOCHS > 2 else 1, "spawn")]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes:UserWarning")
@pytest.mark.parametrize(("workers", "context"), WORKERS)
def test_workers_change_nothing(augmented: FastaDataset, workers: int, context: str) -> None:
    options = {"batch_size": 8, "shuffle": True, "seed": 4, "bucket": True}
    here = epochs(loader(augmented, **options), EPOCHS)
    with_workers = loader(augmented, workers=workers, context=context, **options)
    assert epochs(with_workers, EPOCHS) == here
    assert here != epochs(loader(augmented, **{**options, "seed": 5}), EPOCHS)


def test_only_epochs_are_augmented(augmented: FastaDataset) -> None:
    plain = [augmented.batch(batch)[0] for batch in np.array_split(np.arange(101), 5)]
    for found, expected in zip(loader(augmented, batch_size=21), plain, strict=True):
        assert found[0].shape[1] == expected.shape[1]
    assert torch.equal(next(iter(loader(augmented, batch_size=101)))[0], augmented.batch(range(101))[0])
    moved = next(iter(loader(augmented, batch_size=101, augment=True)))[0]
    assert torch.equal(moved, augmented.batch(range(101), epoch=0)[0])
    assert not torch.equal(moved, augmented.batch(range(101), epoch=1)[0])


def test_a_part_keeps_the_numbers_of_the_whole(augmented: FastaDataset) -> None:
    nested = Subset(Subset(augmented, list(range(50, 101))), [3, 1])
    batch = next(iter(loader(nested, batch_size=2, augment=True)))
    assert torch.equal(batch[0], augmented.batch([53, 51], epoch=0)[0])
    assert Part(nested)[0][-1] == 53
    assert [sample[-1].item() for sample in Part(nested).__getitems__([1, 0])] == [51, 53]
    assert Part(nested).labels.tolist() == [53, 51]


def test_a_plain_dataloader_takes_batches_too() -> None:
    data = numbered(10)
    batches = DataLoader(data, sampler=BatchSampler(10, 4), batch_size=None)
    assert seen(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert torch.equal(data[Batch(np.array([3]))][0][0], data[3][0])


def test_epochs_follow_each_other_without_being_told() -> None:
    batches = loader(numbered(10), batch_size=4, shuffle=True)
    first, second = seen(batches), seen(batches)
    assert batches.epoch == 2
    assert first != second
    batches.set_epoch(0)
    assert seen(batches) == first
    assert seen(batches) == second


def test_a_look_at_the_first_batch_costs_nothing() -> None:
    batches = loader(numbered(10), batch_size=4, shuffle=True, workers=2, context="fork")
    peeped = next(iter(batches))[-1].int().tolist()
    whole = seen(batches)
    assert whole[0] == peeped
    assert sorted(i for batch in whole for i in batch) == list(range(10))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 4, 5])
def test_resumed_in_the_middle(workers: int, stop: int) -> None:
    """Workers have read ahead by then; what the loop has not received comes again."""

    def make() -> Any:
        return loader(numbered(25), batch_size=5, shuffle=True, seed=3, workers=workers,
                      context="fork" if workers else None)  # fmt: skip

    batches = make()
    whole = [seen(batches), seen(batches)]
    again = make()
    seen(again)
    before = []
    state = again.state_dict()
    for batch in again if stop else []:
        before.append(batch[-1].int().tolist())
        state = again.state_dict()
        if len(before) == stop:
            break
    later = make()
    later.load_state_dict(pickle.loads(pickle.dumps(state)))
    if stop < 5:
        assert later.epoch == 1
        assert before + seen(later) == whole[1]
    assert later.epoch == 2
    assert len(later) == 5


def test_a_state_of_other_settings_is_refused() -> None:
    state = loader(numbered(25), batch_size=5, seed=3).state_dict()
    with pytest.raises(
        UserError, match=r"expected a loader with batch_size=5, seed=3 .* received batch_size=6, seed=0"
    ):
        loader(numbered(25), batch_size=6).load_state_dict(state)
    with pytest.raises(UserError, match=r"expected the state of a loader, received keys \['weights'\]"):
        loader(numbered(25), batch_size=6).load_state_dict({"weights": 1})


COMPLAINTS: dict[str, Callable[[], Any]] = {
    "expected either batch_size or letters, received None and None": lambda: loader(numbered(3)),
    "expected batch_size from 1 on, received 0": lambda: loader(numbered(3), batch_size=0),
    "letters: expected at least the 9 letters of sample": lambda: loader(numbered(30), letters=5),
    "expected drop_last only with batch_size": lambda: loader(numbered(3), letters=50, drop_last=True),
    "expected a dataset of biolayers or a Subset of one, received TensorDataset": lambda: loader(
        TensorDataset(torch.zeros(2)), batch_size=1
    ),
    "expected an epoch from 0 on, received -1": lambda: loader(numbered(3), batch_size=1).set_epoch(-1),
    "expected rank and world together": lambda: loader(numbered(3), batch_size=1, rank=0),
    "expected a rank from 0 to 1, received 2": lambda: loader(numbered(3), batch_size=1, rank=2, world=2),
}


@pytest.mark.parametrize("message", COMPLAINTS)
def test_complaints(message: str) -> None:
    with pytest.raises(UserError) as caught:
        COMPLAINTS[message]()
    assert message in str(caught.value)


# Processes that die or share

LOOP = """
import json, os, sys, time
sys.path.insert(0, {root!r})
import numpy as np
from biolayers import SequenceDataset, loader
data = SequenceDataset(["ACGT"] * 60, targets=np.arange(60))
batches = loader(data, batch_size=4, shuffle=True, workers=2, context="fork")
if os.path.exists("state.json"):
    batches.load_state_dict(json.load(open("state.json")))
while batches.epoch == 0:
    for tokens, numbers in batches:
        with open("next.json", "w") as file:
            json.dump(batches.state_dict(), file)
        with open("seen.txt", "a") as file:
            file.write(" ".join(map(str, numbers.int().tolist())) + "\\n")
        os.replace("next.json", "state.json")
        print("batch", flush=True)
        if len(sys.argv) > 1:
            sys.stdin.readline()
"""


def test_killed_and_resumed(tmp_path: Path) -> None:
    """The process dies after its seventh batch, without any warning; its workers were further on."""
    (tmp_path / "loop.py").write_text(LOOP.format(root=str(Path(__file__).parents[2])))
    command = [sys.executable, "-W", "ignore", "loop.py"]
    process = subprocess.Popen(
        [*command, "wait"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        for number in range(7):
            assert process.stdout.readline() == "batch\n"
            if number < 6:
                process.stdin.write("\n")
                process.stdin.flush()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert len((tmp_path / "seen.txt").read_text().splitlines()) == 7
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    rows = (tmp_path / "seen.txt").read_text().splitlines()
    assert len(rows) == 15
    assert sorted(int(number) for row in rows for number in row.split()) == list(range(60))


def _share(rank: int, world: int, path: str, results: Any) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    batches = loader(numbered(50), batch_size=4, shuffle=True, workers=1, context="fork")
    received = []
    for batch in batches:  # a rank with a batch more or less would wait here for ever
        count = torch.tensor(len(batch[-1]))
        distributed.all_reduce(count)
        received.append((batch[-1].int().tolist(), int(count)))
    results.put((rank, received, len(batches)))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch(world: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    path = str(tmp_path / "meeting")
    processes = [context.Process(target=_share, args=(rank, world, path, results)) for rank in range(world)]
    for process in processes:
        process.start()
    found = {rank: (rows, count) for rank, rows, count in (results.get(timeout=120) for _ in processes)}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(i for rows, _ in found.values() for batch, _ in rows for i in batch) == list(range(50))
    totals = [[total for _, total in rows] for rows, _ in found.values()]
    assert all(each == totals[0] for each in totals)
    assert all(len(rows) == count for rows, count in found.values())
    alone = of_all_ranks(world, 50, 4, shuffle=True)
    assert [[batch for batch, _ in found[rank][0]] for rank in range(world)] == alone
