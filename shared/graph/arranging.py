"""What is done to a graph after all rules: the order of its calls, and what is computed again in training."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from shared.errors import UserError
from shared.graph import recompute, schedule
from shared.graph.report import Change, Refusal

NAMES = (schedule.NAME, recompute.NAME)  # as `passes=` takes them, beside the names of rules
DEFAULT = 0.1  # the share of recomputation where the pass is named and no share is


@dataclass(frozen=True)
class Arranging:
    """What is wanted of a graph's calls; does it, too.

    Args:
        schedule: whether they may be reordered for a lower peak of memory in evaluation.
        recompute: the share of a training step's work that may be added to keep less; 0 for none.
    """

    schedule: bool = False
    recompute: float = 0.0

    def __call__(
        self, module: nn.Module, graph: fx.Graph, inputs: tuple, *, training: bool, path: str
    ) -> tuple[list[Change], list[Refusal]]:
        """Change the graph of one mode; says what was done and what was not."""
        changes = []
        if self.schedule:
            changes += schedule.schedule(module, graph, inputs, training=training, path=path)
        found, refusals = recompute.recompute(
            module, graph, inputs, training=training, share=self.recompute, path=path
        )
        return [*changes, *found], refusals


def wanted(passes: Sequence[str] | None, share: float) -> Arranging:
    """What `optimize` was asked for.

    Args:
        passes: as in `optimize`.
        share: as `recompute` there.

    Raises:
        UserError: the share is no number from 0 on, or is given without the pass that it is for.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < float("inf"):
        raise UserError(f"recompute: expected a share of a step's time, from 0 on, received {share!r}")
    if passes is None:
        return Arranging(schedule=True, recompute=share)
    if share and recompute.NAME not in passes:
        raise UserError(
            f"recompute: expected {recompute.NAME!r} among the passes, received "
            f"{', '.join(passes) or 'none'}; add it, or leave passes out"
        )
    return Arranging(schedule.NAME in passes, share or DEFAULT * (recompute.NAME in passes))
