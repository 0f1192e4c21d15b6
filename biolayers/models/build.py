"""Models by name: a row of the table is the class, its settings, and the head that it takes."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import nn

from biolayers.models.cnn import Head, SequenceCNN
from shared.errors import UserError

# name of the model -> name of its head; None is a plain linear layer, others come from the group `qbio.heads`
MODELS: dict[str, str | None] = {"cnn": None, "hybrid": "quantum"}


def build(name: str, *, length: int, classes: int, letters: int = 4, **options: Any) -> nn.Module:
    """A new model with random weights.

    Args:
        name: A key of `MODELS`, or `cnn+HEAD` with any head that an installed package offers.
        length: Length of the sequences.
        classes: Number of classes.
        letters: Letters of the alphabet.
        options: Further arguments of `SequenceCNN`.

    Raises:
        UserError: There is no such model, or no such head.

    Example:
        >>> build("cnn", length=60, classes=3).head
        Linear(in_features=640, out_features=3, bias=True)
    """
    head: Head = nn.Linear
    wanted = name.removeprefix("cnn+") if name.startswith("cnn+") else MODELS.get(name, name)
    if wanted is not None:
        if name not in MODELS and not name.startswith("cnn+"):
            raise UserError(f"model: expected one of {_offer()}, received {name!r}")
        head = _head(wanted)
    return SequenceCNN(length, classes, letters=letters, head=head, **options)


def heads() -> dict[str, EntryPoint]:
    """The heads of every installed package, by name."""
    return {entry.name: entry for entry in entry_points(group="qbio.heads")}


def _head(name: str) -> Head:
    try:
        return heads()[name].load()
    except KeyError:
        raise UserError(
            f"model: no installed package offers the head {name!r}; choose one of {_offer()}"
        ) from None


def _offer() -> str:
    return ", ".join([*MODELS, *(f"cnn+{name}" for name in sorted(heads()))])
