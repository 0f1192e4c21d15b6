"""Whether a test file holds sequences of the training file."""

import sys

from biolayers import Near
from biolayers import leakage as find
from biolayers.commands.fasta.streams import ALPHABETS, BYTES, PIPE, free, stored
from shared.app.runs import fresh_file
from shared.errors import UserError


def leakage(
    train: str,
    test: str,
    out: str | None,
    *,
    identity: float,
    coverage: float,
    equal_only: bool,
    forward_only: bool,
    alphabet: str,
    force: bool,
) -> bool:
    """Print the report, write the table, and return whether there is leakage."""
    if train == test == PIPE:
        raise UserError("qbio fasta leakage: expected one - at most, received two; give the name of a file")
    near = None if equal_only else Near(identity=identity, coverage=coverage)
    if out not in (None, PIPE):
        free(out, force=force)
    with stored(train) as first, stored(test) as second:
        report = find(
            first,
            second,
            near=near,
            reverse_complement=not forward_only,
            alphabet=ALPHABETS[alphabet],
            progress=True,
        )
    if out == PIPE:
        report.write_csv(sys.stdout)
        print(report, file=sys.stderr)
        return bool(report)
    print(report)
    if out is not None:
        with fresh_file(free(out, force=force), errors=BYTES) as file:
            report.write_csv(file)
    return bool(report)
