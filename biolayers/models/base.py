"""What the reference models share: a configuration of plain values, a head of choice, files without code."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from biolayers.models import storing
from biolayers.models.head import Head, head_of
from shared.errors import UserError

Model = TypeVar("Model", bound="ReferenceModel")
CUSTOM = "custom"  # in a configuration: the head was a callable of the user's


class ReferenceModel(nn.Module):
    """A published architecture with its configuration: build it again, save it, load it.

    A subclass names its options as keyword-only arguments with plain values and hands them on; the last
    linear layer is what `head` makes.

    Args:
        head: None for `nn.Linear`, the name of an entry point in `qbio.heads` such as "quantum", or a
            callable `(features, classes) -> module`.
        config: The other options of the subclass.

    Example:
        >>> from biolayers.models import DeepBind
        >>> model = DeepBind(classes=2)
        >>> DeepBind.from_config(model.config).config == model.config
        True
    """

    name: ClassVar[str]

    def __init__(self, *, head: Head | str | None = None, **config: Any) -> None:
        super().__init__()
        for option in ("length", "classes", "letters"):
            if config.get(option) is not None and config[option] < 1:
                raise UserError(f"{self.name}: expected {option} of at least 1, received {config[option]}")
        self._make_head = head_of(head)
        plain = head if head is None or isinstance(head, str) else CUSTOM
        self.config: dict[str, Any] = {**config, "head": plain}

    def _head(self, features: int, classes: int) -> nn.Module:
        return self._make_head(features, classes)

    def features(self, tokens: Tensor) -> Tensor:
        """What the head sees: tokens (b, length) uint8, or columns (b, letters, length), to (b, features)."""
        raise TypeError(f"{type(self).__name__} has no features before a head")

    def forward(self, tokens: Tensor) -> Any:
        """Map tokens (b, length) uint8, or columns (b, letters, length), to logits (b, classes)."""
        return self.head(self.features(tokens))

    @classmethod
    def from_config(cls: type[Model], config: Mapping[str, Any], *, head: Head | None = None) -> Model:
        """A new model with random weights.

        Args:
            config: Options by name, as `config` of a model holds them.
            head: Where the configuration's head is a callable of the user's: that callable.

        Raises:
            UserError: An option is unknown, or the head is missing.
        """
        known = [name for name in inspect.signature(cls).parameters if name != "self"]
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise UserError(
                f"{cls.name}: expected options among {', '.join(known)}, received {', '.join(unknown)}"
            )
        if config.get("head") == CUSTOM and head is None:
            raise UserError(
                f"{cls.name}: the model was made with a head of the user's own; give that callable as head="
            )
        return cls(**(dict(config) | ({} if head is None else {"head": head})))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, which is made if need be.

        Raises:
            UserError: `folder` is a file.
        """
        storing.save(Path(folder), self.name, self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls: type[Model], folder: str | Path, *, head: Head | None = None) -> Model:
        """The model that `save_pretrained` wrote, ready for inference (`eval`).

        Args:
            folder: With `config.json` and `model.safetensors`.
            head: Where the model was made with a callable as head: that callable.

        Raises:
            UserError: A file is missing or damaged, or holds another model.
        """
        name, config = storing.read_config(Path(folder))
        if name != cls.name:
            raise UserError(f"{folder}: expected a {cls.name}, received a {name}; load it as such")
        model = cls.from_config(config, head=head)
        storing.load_weights(Path(folder), model)
        return model.eval()


def at_least_one(model: str, positions: int, length: int, shortest: int) -> int:
    """`positions`, which must be at least one, or an error that says which length leaves one.

    Raises:
        UserError: No position is left.
    """
    if positions < 1:
        raise UserError(
            f"{model}: expected sequences of at least {shortest} letters, received length={length}; "
            "its convolutions and pooling leave no position"
        )
    return positions


def pooled(length: int, stages: list[tuple[int, int]]) -> int:
    """Positions left after valid convolutions and pooling, from pairs of (taps, pool size).

    Example:
        >>> pooled(600, [(19, 3), (11, 4), (7, 4)])
        10
    """
    for taps, pool in stages:
        length = max(0, length - taps + 1) // pool
    return length


def shortest(stages: list[tuple[int, int]]) -> int:
    """The least length of which `pooled` leaves a position.

    Example:
        >>> shortest([(19, 3), (11, 4), (7, 4)])
        168
    """
    length = 1
    for taps, pool in reversed(stages):
        length = length * pool + taps - 1
    return length
