"""`optimize`: a model that computes the same, faster, with the same parameters under the same names."""

import copy
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import UserError
from shared.graph import arranging, placing, trial
from shared.graph.analysis import analyse
from shared.graph.exchanging import exchanged
from shared.graph.merging import Merged, Merging
from shared.graph.report import Change, Refusal, Report
from shared.graph.rules import Exchange, Rule, chosen
from shared.graph.tuning import Choice, run_as, tuned
from shared.graph.twins import subclass, twin


def optimize(
    model: nn.Module,
    example_inputs: Any,
    *,
    passes: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    training: bool = True,
    recompute: float = 0.0,
    tune: bool = False,
) -> nn.Module:
    """A copy of the model in which calls are merged into fewer, faster ones that compute the same.

    The copy has the model's parameters and buffers themselves, under their names: optimizers, checkpoints and
    state dicts stay valid, and what one of the two learns the other knows. It is an instance of the model's
    class, has `.report`, and `.deoptimize()` gives the model back. A rule that cannot prove that it changes
    nothing does not fire, and the report says why; at the end values and gradients of both are compared for
    the example inputs. Called with other arguments than the examples stand for (an optional mask, say), the
    copy runs the model's own forward; so it does, with a `ChangedSinceWarning`, where an attribute that the
    forward reads, or the mode of a part alone, is another later. Hooks that are put on merged modules later
    do not run.

    Args:
        model: any module; it is left as it is.
        example_inputs: a tensor, or a tuple of the arguments of a call.
        passes: names of the rules to use; by default all that are installed, and `"schedule"`, which reorders
            the calls of evaluation where that lowers the peak of memory.
        device: where the copy runs. Since both have the same parameters, the model is moved, too, as
            `model.to(device)` moves it; so are the example inputs. By default everything stays where it is.
        dtype: `"bfloat16"` or `"float16"` for products in that dtype, in an autocast region around the
            classical part: parameters, results, circuits and sequence ops keep theirs, tokens stay integers.
            By default, and for `"float32"`, there is no region.
        training: whether gradients are compared too, with dropout and the like switched on.
        recompute: how much longer a training step may take, as a share of its estimated time, to keep less
            for the backward pass: what is cheap (activations, norms, dropout) is computed again there. Values
            and gradients stay as they are.
        tune: whether candidates are timed on this machine: other providers of the ops, the region of `dtype`,
            Inductor. The fastest is taken, and remembered in the user's cache folder (`QBIO_CACHE`), so that
            the next call takes it at once; another machine, version, graph or shape is timed anew.

    Returns:
        A module with the mode (`training`) of the model.

    Raises:
        UserError: there is no rule of a name in `passes`, no such device or dtype, or the model does not run
            on the example inputs.

    Example:
        >>> import torch, shared
        >>> from torch import nn
        >>> better = shared.optimize(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2))
        >>> print(better.report)
        nothing to change
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    arrange, narrow = arranging.wanted(passes, recompute), placing.dtype_of(dtype)
    rules, where = _chosen(passes), placing.device_of(device)
    inputs = placing.moved(model, inputs, where)
    wanted = _wanted(model, inputs, training)
    root, changes, refusals = _rewritten(model, inputs, rules, wanted, arrange)
    tuning = tuned(root, inputs, wanted, dtype=narrow, training=training) if tune else None
    choice = tuning.chosen if tuning else Choice(dtype=placing.name_of(narrow) if narrow else None)
    plain = run_as(root, inputs, replace(choice, compiled=False))  # compiled code cannot be analysed
    if choice.dtype:
        changes.append(_narrowed(plain, inputs, wanted, choice.dtype))
    if replace(choice, dtype=None) != Choice():
        changes.append(Change("tune", "", "as it is", str(replace(choice, dtype=None))))
    before, after = (analyse(each, inputs) if changes else None for each in (model, plain))
    asked = tune or device is not None or dtype is not None
    placed = placing.placements(plain, inputs, dtype=choice.dtype) if asked else ()
    report = Report(tuple(changes), tuple(refusals), before, after, placed, tuning)
    return _presented(run_as(root, inputs, choice), model, report)


def _rewritten(
    model: nn.Module,
    inputs: tuple,
    rules: Sequence[Rule | Exchange],
    wanted: trial.Outcomes,
    arrange: arranging.Arranging,
) -> tuple[nn.Module, list[Change], list[Refusal]]:
    changes: list[Change] = []
    root = exchanged(model, [rule for rule in rules if isinstance(rule, Exchange)], "", changes, {})
    if changes and (wrong := trial.wrong(root, inputs, wanted)):
        raise UserError(
            f"optimize: expected equal results for the example inputs, but {wrong}. Exchanged were:\n"
            f"{Report(tuple(changes), ())}\nname the rules to use in passes=, without the one that is wrong"
        )
    merging = Merging([rule for rule in rules if isinstance(rule, Rule)], True in wanted, arrange)
    root = merging.merged(root, inputs, "")
    return root, [*changes, *merging.changes], merging.refusals


def _narrowed(root: nn.Module, inputs: tuple, wanted: trial.Outcomes, dtype: str) -> Change:
    """What a region changes, with the error that it makes in the outputs of evaluation."""
    found = trial.outcome(root, inputs, training=False)
    errors = [
        float((a - b).abs().max()) / max(float(b.abs().max()), 1e-6)
        for a, b in zip(found, wanted[False], strict=True)
        if b.numel()
    ]
    after = f"products in {dtype}, outputs within {max(errors, default=0.0):.1e} of the largest"
    return Change("dtype", "", "products in the parameters' dtype", after)


class Optimized(nn.Module):
    """What `optimize` makes of a model: the second base of its class is the model's own."""

    report: Report
    _original: "_Original"

    def deoptimize(self) -> nn.Module:
        """The model that was optimized; its parameters are those of this one.

        Raises:
            UserError: this one comes from a pickle, and the model could not be pickled.
        """
        if self._original.model is None:
            raise UserError(
                "deoptimize: expected the model from before, received a pickle without it, since that model "
                "cannot be pickled; build it anew and load this one's state_dict"
            )
        return self._original.model


class _Original:
    """Holds a model so that it is no submodule; a pickle goes without it where it cannot be pickled."""

    def __init__(self, model: nn.Module | None) -> None:
        self.model = model

    def __deepcopy__(self, memo: dict) -> "_Original":
        return _Original(copy.deepcopy(self.model, memo))

    def __reduce__(self) -> tuple:
        try:
            pickle.dumps(self.model)
        except Exception:  # pickle has no error of its own for all the ways in which it fails
            return _Original, (None,)
        return _Original, (self.model,)


def _chosen(passes: Sequence[str] | None) -> tuple[Rule | Exchange, ...]:
    """The rules of some names; those of arrangements are no rules."""
    if passes is None:
        return chosen(None)
    known = [*(rule.name for rule in chosen(None)), *arranging.NAMES]
    if unknown := [name for name in passes if name not in known]:
        raise UserError(f"passes: expected names among {', '.join(known)}, received {unknown[0]!r}")
    return chosen([name for name in passes if name not in arranging.NAMES])


def _wanted(model: nn.Module, inputs: tuple, training: bool) -> trial.Outcomes:
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
    shown.report, shown._original = report, _Original(model)  # type: ignore[assignment]
    for path, part in shown.named_modules():
        if isinstance(part, Merged):
            part.watch(model.get_submodule(path))
    return shown.train(model.training)
