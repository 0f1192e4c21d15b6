"""Models by name: the class, the options that the name fixes, and the head that it takes."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from biolayers.models import storing
from biolayers.models.base import ReferenceModel
from biolayers.models.cnn import SequenceCNN
from biolayers.models.head import Head, head_of, heads
from shared.errors import UserError

# name of the model -> name of its head; None is a plain linear layer, others come from the group `qbio.heads`
MODELS: dict[str, str | None] = {
    "cnn": None,
    "hybrid": "quantum",
    "deepbind": None,
    "danq": None,
    "basset": None,
    "bpnet": None,
    "deepstarr": None,
    "legnet": None,
    "rchyena": None,
    "carp": None,
}
# the published architectures -> where they live, and what makes classifiers of sequences of them
REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "deepbind": ("biolayers.models.deepbind:DeepBind", {}),
    "danq": ("biolayers.models.danq:DanQ", {}),
    "basset": ("biolayers.models.basset:Basset", {}),
    "bpnet": ("biolayers.models.bpnet:BPNet", {}),
    "deepstarr": ("biolayers.models.deepstarr:DeepSTARR", {}),
    "legnet": ("biolayers.models.legnet:LegNet", {}),
    "rchyena": ("biolayers.models.rchyena:RCHyena", {}),
    "carp": ("biolayers.models.carp:CARP", {"per": "sequence"}),
}


def build(
    name: str, *, length: int, classes: int, letters: int = 4, head: Head | str | None = None, **options: Any
) -> nn.Module:
    """A new classifier of sequences with random weights.

    Args:
        name: A key of `MODELS`, or `NAME+HEAD` with any head that an installed package offers, such as
            "deepstarr+quantum".
        length: Length of the sequences.
        classes: Number of classes.
        letters: Letters of the alphabet.
        head: As in `ReferenceModel`, instead of one in `name`.
        options: Further arguments of the model's class.

    Raises:
        UserError: There is no such model or head, or the model takes another alphabet.

    Example:
        >>> build("cnn", length=60, classes=3).head
        Linear(in_features=640, out_features=3, bias=True)
        >>> build("deepbind", length=60, classes=3).head
        Linear(in_features=32, out_features=3, bias=True)
    """
    stem, _, wanted = name.partition("+")
    if stem not in MODELS or name.endswith("+"):
        raise UserError(f"model: expected one of {_offer()}, received {name!r}")
    if wanted and head is not None:
        raise UserError(f"model: expected one head, received {wanted!r} in the name and head={head!r}")
    head = wanted or MODELS[stem] if head is None else head
    if stem not in REFERENCES:
        return SequenceCNN(length, classes, letters=letters, head=head_of(head), **options)
    return _reference(stem, {"length": length, "classes": classes, "letters": letters}, head, options)


def reference(name: str) -> type[ReferenceModel]:
    """The class of a published architecture.

    Raises:
        UserError: There is none of that name.

    Example:
        >>> reference("basset").name
        'basset'
    """
    if name not in REFERENCES:
        raise UserError(f"model: expected one of {', '.join(REFERENCES)}, received {name!r}")
    module, _, cls = REFERENCES[name][0].partition(":")
    return getattr(importlib.import_module(module), cls)


def from_pretrained(folder: str | Path, *, head: Head | None = None) -> ReferenceModel:
    """The model that `save_pretrained` wrote into `folder`, whichever it is, ready for inference.

    Args:
        folder: With `config.json` and `model.safetensors`.
        head: Where the model was made with a callable as head: that callable.

    Raises:
        UserError: A file is missing or damaged.
    """
    name, _ = storing.read_config(Path(folder))
    return reference(name).from_pretrained(folder, head=head)


def _reference(
    name: str, data: dict[str, int], head: Head | str | None, options: dict[str, Any]
) -> ReferenceModel:
    cls, fixed = reference(name), REFERENCES[name][1]
    known = inspect.signature(cls).parameters
    if "letters" not in known and data["letters"] != 4:
        raise UserError(f"model: {name} reads DNA (4 letters), received an alphabet of {data['letters']}")
    given = {option: value for option, value in data.items() if option in known}
    return cls.from_config(
        {**fixed, **given, **options, **({"head": head} if isinstance(head, str) else {})},
        head=head if isinstance(head, Callable) else None,
    )


def _offer() -> str:
    return f"{', '.join(MODELS)}, or one of them with a head as in cnn+{', cnn+'.join(sorted(heads()))}"
