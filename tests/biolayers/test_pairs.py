"""Pairs of records: linked by name, by table or by list; labels, numbers, complaints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biolayers import DNA, FastaError, PairedDataset, SequenceDataset, loader


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, name: str = "x.fa") -> str:
        path = tmp_path / name
        path.write_text(text, newline="")
        return str(path)

    return write


HERE = SequenceDataset(["ACG", "TTT", "AAA"], ["x", "y", "y"], names=["a", "b", "c"], reverse_complement=0.5)
THERE = SequenceDataset(["GG", "CC", "AA"], names=["c", "b", "a"], reverse_complement=0.5)


def test_pairs_by_name() -> None:
    data = PairedDataset(HERE, THERE)
    first, second, labels = data.batch([0, 2])
    assert DNA.text(first) == ["ACG", "AAA"]
    assert DNA.text(second) == ["AA", "GG"]
    assert labels.tolist() == [0, 1]
    assert data.lengths.tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("first,second,label\nb,a,p\na,a,q\n", {}),
        ("b,a,p\na,a,q\n", {}),
        ("kind\tleft\tright\np\tb\ta\nq\ta\ta\n",
         {"first_column": "left", "second_column": "right", "label_column": "kind"}),
        ([("b", "a", "p"), ("a", "a", "q")], {}),
    ],
)  # fmt: skip
def test_pairs_of_a_table(write: Callable[..., str], table: Any, options: dict[str, str]) -> None:
    pairs = write(table, "pairs.csv") if isinstance(table, str) else table
    data = PairedDataset(HERE, THERE, pairs, **options)
    first, second, labels = data.batch([1, 0])
    assert DNA.text(first) == ["ACG", "TTT"]
    assert DNA.text(second) == ["AA", "AA"]
    assert labels.tolist() == [1, 0]
    assert data.classes == ["p", "q"]
    assert seen_pair(data[0]) == ("TTT", "AA", 0)


def seen_pair(sample: tuple[Any, ...]) -> tuple[str, str, int]:
    return DNA.text(sample[0]), DNA.text(sample[1]), int(sample[2])


def test_both_sides_of_a_pair_are_drawn_anew() -> None:
    data = PairedDataset(HERE, HERE, [("a", "a")] * 400)
    first, second, labels = next(iter(loader(data, batch_size=400, augment=True)))
    counts = torch.bincount(2 * (first[:, 0] == 0).int() + (second[:, 0] == 0).int(), minlength=4)
    assert ((counts - 100) ** 2 / 100).sum() < 3 + 4 * 6**0.5
    assert labels.tolist() == [-1] * 400


def test_numbers_for_pairs() -> None:
    data = PairedDataset(HERE, THERE, [("a", "b", 0.25), ("c", "c", -1)], target="affinity")
    assert data.labels.tolist() == [0.25, -1]
    assert data.classes == ["affinity"]


PAIRS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pairs.csv, line 2: expected the name of a record of the second dataset, received 'z'": (
        "first,second,label\na,z,p\n",
        {},
    ),
    "expected pairs of two names, all with a label or all without": ([("a", "b"), ("a", "b", "p")], {}),
    "expected at least one pair, received none": ([], {}),
    "expected a column 'left', received ['first', 'second']": (
        "first,second\na,b\n",
        {"first_column": "left"},
    ),
}


@pytest.mark.parametrize("message", PAIRS)
def test_complaints_about_pairs(write: Callable[..., str], message: str) -> None:
    table, options = PAIRS[message]
    with pytest.raises(FastaError) as caught:
        PairedDataset(HERE, THERE, write(table, "pairs.csv") if isinstance(table, str) else table, **options)
    assert message in str(caught.value)


def test_names_that_do_not_match() -> None:
    other = SequenceDataset(["AC"], names=["z"])
    with pytest.raises(
        FastaError, match="expected the same names in both datasets, received 'a' in one only"
    ):
        PairedDataset(HERE, other)
    twice = SequenceDataset(["AC", "GT"], names=["z", "z"])
    with pytest.raises(FastaError, match=r"expected each name once in .*, received 'z' again"):
        PairedDataset(twice, twice)
