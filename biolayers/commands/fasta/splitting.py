"""A file into parts that share no sequence."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from biolayers import Fasta, Near, Split
from biolayers import split as divide
from biolayers.commands.fasta.streams import ALPHABETS, BYTES, free, letters_of, opened, write_record
from biolayers.labelled.memory import SequenceDataset
from shared.app.runs import fresh_file
from shared.errors import UserError

NAMES = {1: ("all",), 2: ("train", "test"), 3: ("train", "val", "test")}
TABLE = "split.csv"


def split(path: str, out: str, options: dict[str, Any], *, force: bool) -> str:
    """Write the parts and the table; returns what was reached, in words."""
    alphabet = ALPHABETS[options["alphabet"]]
    fractions, members = options["fractions"] or (0.8, 0.1, 0.1), options["members"]
    names = _names(fractions, members)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: expected a folder, received the file {out}; give another name")
    with opened(path, alphabet) as fasta:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*(f"{name}.fa" for name in names), TABLE):
            free(str(folder / name), force=force)
        found = divide(_dataset(fasta, options["label_pattern"]), fractions, **_choices(options, names))
        _write(fasta, found, names, folder)
    return f"{found}\n{', '.join(f'{name}.fa' for name in names)} and {TABLE} are in {out}"


def _names(fractions: Any, members: dict[str, str] | None) -> tuple[str, ...]:
    if members is None:
        return NAMES.get(len(fractions)) or tuple(f"part{i}" for i in range(1, len(fractions) + 1))
    others = [name for name in members if name != "train"]
    return ("train", *sorted(others, key=("val", "test").index if set(others) <= {"val", "test"} else None))


def _choices(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What `biolayers.split` is told."""
    members = options["members"]
    by = options["by"]
    named = None if members is None else [_listed(members.get(name)) for name in names]
    near = Near(identity=options["identity"], coverage=options["coverage"])
    return {
        "by": by,
        "groups": options["groups"],
        "members": named,
        "near": near if by == "similarity" else None,
        "seed": options["seed"],
        "reverse_complement": not options["forward_only"],
        "progress": True,
    }


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _dataset(fasta: Fasta, pattern: str | None) -> SequenceDataset:
    from biolayers.labelled.labels import from_headers

    labels = None if pattern is None else [cells[0] for cells in from_headers(fasta, pattern) if cells]
    texts = [letters for _, letters in letters_of(fasta)]
    return SequenceDataset(texts, labels, names=fasta.names, pad_to="longest", alphabet=fasta.alphabet)


def _write(fasta: Fasta, found: Split, names: tuple[str, ...], folder: Path) -> None:
    headers, part_of = fasta.headers(), np.empty(len(fasta), object)
    for name, part in zip(names, found, strict=True):
        part_of[part.indices] = name
        with fresh_file(folder / f"{name}.fa", errors=BYTES) as file:
            for i, letters in letters_of(fasta, np.array(part.indices, np.int64)):
                write_record(file.write, headers[i], letters, 60)
    with fresh_file(folder / TABLE, errors=BYTES) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "part", "group"])
        table.writerows(zip(fasta.names, part_of, found.groups.tolist(), strict=True))
