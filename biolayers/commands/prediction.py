"""From a checkpoint and a FASTA file to a table of predictions."""

import csv
from pathlib import Path

import torch

from biolayers import FastaDataset
from biolayers.commands.rebuilding import rebuilt
from biolayers.commands.training import ALPHABETS
from shared.app.runs import fresh_file, read_checkpoint
from shared.app.settings import MOST_TASKS, within
from shared.errors import UserError


def predict(
    checkpoint: Path, fasta: Path, out: Path, *, force: bool, batch_size: int, threads: int | None
) -> int:
    """Write the table and return its number of rows; an error leaves what was at `out` as it was."""
    if out.is_dir() or (out.exists() and not force):
        way = "give the name of a file" if out.is_dir() else "give another name, or --force to replace it"
        raise UserError(f"--out: {out} is there already; {way}")
    if not out.parent.is_dir():
        raise UserError(f"--out: there is no folder {out.parent}; make it first")
    within("--batch-size", batch_size, 1)
    if threads is not None:
        within("--threads", threads, 1, MOST_TASKS)
        torch.set_num_threads(threads)
    content = read_checkpoint(checkpoint)
    card = content["qbio"]
    data = FastaDataset(
        fasta,
        unlabelled=True,
        pad_to=card["length"] if card["padded"] else None,
        alphabet=ALPHABETS[card["alphabet"]],
    )
    if data.width != card["length"]:
        raise UserError(
            f"{fasta}: expected sequences of {card['length']:,} letters, as the model was trained on, "
            f"received {data.width:,}"
        )
    model = rebuilt(content)
    with fresh_file(out) as file, torch.inference_mode():
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "predicted", *(f"probability_{name}" for name in card["classes"])])
        for start in range(0, len(data), batch_size):
            places = range(start, min(start + batch_size, len(data)))
            chances = model(data.batch(places)[0]).softmax(1)  # (b, classes)
            for place, row in zip(places, chances.tolist(), strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                table.writerow(
                    [data.name(place), card["classes"][best], *(f"{chance:.6f}" for chance in row)]
                )
    return len(data)
