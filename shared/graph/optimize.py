"""`optimize`: a model that computes the same, faster, with the same parameters under the same names."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from shared.errors import UserError
from shared.graph import trial
from shared.graph.analysis import analyse
from shared.graph.exchanging import exchanged
from shared.graph.merging import Merging
from shared.graph.report import Change, Report
from shared.graph.rules import Exchange, Rule, chosen
from shared.graph.twins import subclass, twin


def optimize(
    model: nn.Module, example_inputs: Any, *, passes: Sequence[str] | None = None, training: bool = True
) -> nn.Module:
    """A copy of the model in which calls are merged into fewer, faster ones that compute the same.

    The copy has the model's parameters and buffers themselves, under their names: optimizers, checkpoints and
    state dicts stay valid, and what one of the two learns the other knows. It is an instance of the model's
    class, has `.report`, and `.deoptimize()` gives the model back. A rule that cannot prove that it changes
    nothing does not fire, and the report says why; at the end values and gradients of both are compared for
    the example inputs. Called with other arguments than the examples stand for (an optional mask, say), the
    copy runs the model's own forward. Hooks that are put on merged modules later do not run.

    Args:
        model: any module; it is left as it is.
        example_inputs: a tensor, or a tuple of the arguments of a call.
        passes: names of the rules to use; by default all that are installed.
        training: whether gradients are compared too, with dropout and the like switched on.

    Returns:
        A module with the mode (`training`) of the model.

    Raises:
        UserError: there is no rule of a name in `passes`, or the model does not run on the example inputs.

    Example:
        >>> import torch, shared
        >>> from torch import nn
        >>> better = shared.optimize(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2))
        >>> print(better.report)
        nothing to change
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    rules, wanted = chosen(passes), _wanted(model, inputs, training)
    changes: list[Change] = []
    root = exchanged(model, [rule for rule in rules if isinstance(rule, Exchange)], "", changes, {})
    if changes and (wrong := trial.wrong(root, inputs, wanted)):
        raise UserError(
            f"optimize: expected equal results for the example inputs, but {wrong}. Exchanged were:\n"
            f"{Report(tuple(changes), ())}\nname the rules to use in passes=, without the one that is wrong"
        )
    merging = Merging([rule for rule in rules if isinstance(rule, Rule)], training)
    root = merging.merged(root, inputs, "")
    changes += merging.changes
    counted = [analyse(each, inputs) if changes else None for each in (model, root)]
    return _presented(root, model, Report(tuple(changes), tuple(merging.refusals), *counted))


class Optimized(nn.Module):
    """What `optimize` makes of a model: the second base of its class is the model's own."""

    report: Report
    _original: tuple[nn.Module]  # in a tuple, so that it is no submodule

    def deoptimize(self) -> nn.Module:
        """The model that was optimized; its parameters are those of this one."""
        return self._original[0]


def _wanted(model: nn.Module, inputs: tuple, training: bool) -> dict[bool, list[Tensor]]:
    try:
        return trial.outcomes(model, inputs, training)
    except Exception as error:
        raise UserError(
            f"optimize: expected example inputs that the model runs on, received {_described(inputs)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _described(inputs: tuple) -> str:
    return ", ".join(
        f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}"
        if isinstance(each, Tensor)
        else repr(each)
        for each in inputs
    )


def _presented(root: nn.Module, model: nn.Module, report: Report) -> nn.Module:
    shown = twin(root, root._modules)
    if not isinstance(root, Optimized):
        shown.__class__ = subclass(Optimized, type(root))
    shown.report, shown._original = report, (model,)  # type: ignore[assignment]
    return shown.train(model.training)
