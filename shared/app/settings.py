"""How a model is trained; checked once, where the user's wishes come in."""

import math
from dataclasses import dataclass

from shared.errors import UserError

MOST = (1 << 31) - 1
MOST_TASKS = 1024  # threads, or processes
WHOLE = (  # whole numbers among the settings, each with the least and the most that it may be
    ("epochs", 1, MOST),
    ("batch_size", 1, MOST),
    ("patience", 1, MOST),
    ("seed", 0, MOST),
    ("workers", 0, MOST_TASKS),
    ("threads", 1, MOST_TASKS),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is trained; everything that a run needs besides its model and its data.

    Args:
        epochs: Passes over the training part at most; early stopping may end sooner.
        batch_size: Records in one step.
        lr: Highest learning rate of AdamW; warm-up and cosine decay lead to it and away from it.
        weight_decay: Decoupled weight decay of AdamW.
        averaging: Decay of the moving average of the weights that is validated and kept; 0 is none.
        patience: Epochs without a better validation loss after which training stops.
        seed: Of the initial weights, the split, the order of the records and dropout.
        workers: Processes that load data; 0 loads in the main one.
        threads: Threads of PyTorch and of our kernels; None leaves PyTorch's choice.
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 1e-2
    averaging: float = 0.99
    patience: int = 10
    seed: int = 0
    workers: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least, most in WHOLE:
            value = getattr(self, name)
            if value is not None:
                within("--" + name.replace("_", "-"), value, least, most)
        if not 0 < self.lr < math.inf:
            raise UserError(f"--lr: expected a number above 0, received {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"--weight-decay: expected a number from 0 on, received {self.weight_decay}")
        if not 0 <= self.averaging < 1:
            raise UserError(f"averaging: expected a number from 0 up to 1, received {self.averaging}")


def within(option: str, value: int, least: int, most: int = MOST) -> None:
    """Refuse a whole number below `least` or above `most`.

    Example:
        >>> within("--epochs", 0, 1)
        Traceback (most recent call last):
        shared.errors.UserError: --epochs: expected a whole number from 1 to 2147483647, received 0
    """
    if not least <= value <= most:
        raise UserError(f"{option}: expected a whole number from {least} to {most}, received {value}")
