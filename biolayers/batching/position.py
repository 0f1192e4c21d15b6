"""Where a loop over a dataset stands: which epoch, and how many of its batches the loop has received."""

from dataclasses import dataclass, field
from typing import Any

from shared.errors import UserError


@dataclass
class Position:
    """The epoch that is read, the batch that its reading begins with, and the batches received so far.

    Example:
        >>> position = Position({"samples": 100})
        >>> position.seen = 3
        >>> state = position.state_dict(batches=10)
        >>> state["epoch"], state["batches"]
        (0, 3)
        >>> later = Position({"samples": 100})
        >>> later.load_state_dict(state)
        >>> later.begin(batches=10)
        (0, 3)
    """

    settings: dict[str, Any] = field(default_factory=dict)  # what must not change between saving and resuming
    epoch: int = 0
    start: int = 0  # the first batch that this process reads in this epoch
    seen: int = 0  # batches of this epoch received, those before `start` among them

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; one that is begun is continued."""
        if epoch < 0:
            raise UserError(f"set_epoch: expected an epoch from 0 on, received {epoch}")
        if epoch != self.epoch:
            self.epoch, self.start, self.seen = epoch, 0, 0

    def begin(self, batches: int | None) -> tuple[int, int]:
        """Epoch and first batch of a pass; one that was broken off begins again where it had begun."""
        if batches is not None and self.seen >= batches:
            self.set_epoch(self.epoch + 1)
        self.seen = self.start
        return self.epoch, self.start

    def state_dict(self, batches: int | None) -> dict[str, Any]:
        """Plain numbers that say where the loop stands, of `batches` in this epoch."""
        done = batches is not None and self.seen >= batches
        epoch, seen = (self.epoch + 1, 0) if done else (self.epoch, self.seen)
        return {"epoch": epoch, "batches": seen, "settings": dict(self.settings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where another loop over the same data stood.

        Raises:
            UserError: The state is of other data or of other settings, so that its batches were different.
        """
        if not {"epoch", "batches", "settings"} <= state.keys():
            raise UserError(f"load_state_dict: expected the state of a loader, received keys {sorted(state)}")
        then, now = state["settings"], self.settings
        changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        if changed:
            shown = ", ".join(f"{key}={then.get(key)!r}" for key in changed)
            raise UserError(
                f"load_state_dict: expected a loader with {shown} as when the state was saved, received "
                + ", ".join(f"{key}={now.get(key)!r}" for key in changed)
                + "; make the loader as it was, or begin an epoch with set_epoch"
            )
        self.epoch, self.start = int(state["epoch"]), int(state["batches"])
        self.seen = self.start
