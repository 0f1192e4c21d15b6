"""Where and in which dtype the calls of a model run, and why."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from shared import declare, dispatch
from shared.errors import UserError
from shared.graph import trial
from shared.graph.recording import Recorder, recording, tensors_in
from shared.graph.rules import is_leaf
from shared.graph.twins import mixed, with_children

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """Where one call runs, and why.

    Args:
        place: the path of the module, or of the one whose forward makes the call.
        call: the class of the module, the function, or our op.
        device: of what it returns.
        dtype: of what it returns.
        provider: whose kernel runs: `"torch"`, or the provider of our op.
        reason: in a sentence.
    """

    place: str
    call: str
    device: str
    dtype: str
    provider: str
    reason: str


# what a user may ask for


def device_of(device: str | torch.device | None) -> torch.device | None:
    """The device, if this machine has it.

    Raises:
        UserError: it has not, or there is no such device.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # as PyTorch says it, build by build
        raise UserError(
            f"device: expected one that this machine and this PyTorch have, received {device!r} "
            f"({str(error).splitlines()[0]}); `qbio doctor` shows them"
        ) from error
    if found.type == "meta":
        raise UserError("device: expected one with memory, received 'meta'; leave device out")
    return found


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The dtype of the autocast region, or None where there is to be none.

    Raises:
        UserError: it is none that autocast knows.
    """
    name = (
        dtype if isinstance(dtype, str) else name_of(dtype) if isinstance(dtype, torch.dtype) else repr(dtype)
    )
    if dtype is not None and name not in DTYPES:
        raise UserError(f"dtype: expected {', '.join(map(repr, DTYPES))} or None, received {name!r}")
    return None if dtype is None else DTYPES[name]


def moved(model: nn.Module, inputs: tuple, device: torch.device | None) -> tuple:
    """The inputs on the device, and the model, too, as `model.to(device)` moves it: its parameters stay."""
    if device is None:
        return inputs
    model.to(device)
    return pytree.tree_map(lambda each: each.to(device) if isinstance(each, Tensor) else each, inputs)


def name_of(dtype: torch.dtype) -> str:
    """A dtype as users write it.

    >>> name_of(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


# autocast regions


class Region(nn.Module):
    """A model whose products run in a narrow dtype; its outputs have the dtypes that they had."""

    _device: str
    _dtype: torch.dtype
    _result: torch.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever, inside an autocast region."""
        with torch.autocast(self._device, dtype=self._dtype):
            outputs = super().forward(*args, **kwargs)  # type: ignore[misc]
        return _cast(outputs, self._dtype, self._result)


class Outside(nn.Module):
    """A layer that is left out of the region around it: it computes in float32."""

    _device: str

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever, outside of autocast."""
        args, kwargs = _cast((args, kwargs), torch.bfloat16, torch.float32)
        args, kwargs = _cast((args, kwargs), torch.float16, torch.float32)
        with torch.autocast(self._device, enabled=False):
            return super().forward(*args, **kwargs)  # type: ignore[misc]


def in_region(model: nn.Module, inputs: tuple, dtype: torch.dtype) -> nn.Module:
    """A twin of the model whose classical part runs under autocast.

    Layers that packages declare as one call and that multiply no real matrices themselves (circuits, above
    all) stay outside: angles and states are in float32. Tokens are integers, which autocast leaves alone.

    Args:
        model: left as it is; a region of the same dtype is returned itself.
        inputs: of a call.
        dtype: of the region.
    """
    if isinstance(model, Region) and model._dtype == dtype:
        return model
    device = _device(model, inputs)
    outside, result = _examined(model, inputs)
    known: dict[nn.Module, nn.Module] = {}

    def change(_: str, module: nn.Module) -> nn.Module:
        if module not in known:
            known[module] = mixed(Outside, module, _device=device) if module in outside else inner(module)
        return known[module]

    inner = functools.partial(with_children, change=change)
    return mixed(Region, inner(model), _device=device, _dtype=dtype, _result=result)


def _examined(model: nn.Module, inputs: tuple) -> tuple[set[nn.Module], torch.dtype]:
    """The layers that stay outside of a region, and the dtype of the model's results."""
    modules = dict(model.named_modules())
    with trial.untouched(model), torch.no_grad(), recording(model) as recorder:
        outputs = tensors_in(model.eval()(*inputs))
    products = {
        frame.place
        for step in recorder.steps
        for frame in step.frames
        if step.product and not step.shape.startswith("complex")
    }
    leaves = {
        frame.place
        for step in recorder.steps
        for frame in step.frames
        if not frame.function and is_leaf(modules[frame.place])
    }
    floating = [each.dtype for each in outputs if each.is_floating_point()]
    return {modules[each] for each in leaves - products}, (floating or [torch.float32])[0]


def _device(model: nn.Module, inputs: tuple) -> str:
    tensors = [*model.parameters(), *tensors_in(inputs)]
    return tensors[0].device.type if tensors else "cpu"


def _cast(values: Any, narrow: torch.dtype, wide: torch.dtype) -> Any:
    return pytree.tree_map(
        lambda each: each.to(wide) if isinstance(each, Tensor) and each.dtype == narrow else each, values
    )


# why


def placements(model: nn.Module, inputs: tuple, *, dtype: str | None = None) -> tuple[Placement, ...]:
    """Where each call of the model runs, one row for each module and function.

    Args:
        model: left as it is.
        inputs: of a call.
        dtype: of the autocast region that the model was put into.
    """
    found: dict[Placement, None] = {}
    with (
        trial.untouched(model),
        torch.no_grad(),
        recording(model) as recorder,
        _Explaining(recorder, model, dtype, found),
    ):
        model(*inputs)
    return tuple(found)


class _Explaining(TorchDispatchMode):
    """Asks of every operation why it runs where it does."""

    def __init__(
        self, recorder: Recorder, model: nn.Module, dtype: str | None, found: dict[Placement, None]
    ) -> None:
        super().__init__()
        self._recorder, self._dtype, self._found = recorder, dtype, found
        self._ops = declare.registry()
        self._outside = {path for path, module in model.named_modules() if isinstance(module, Outside)}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        op = self._ops.get(f"{func.namespace}::{func._overloadpacket.__name__}")
        tensors = [each for each in tensors_in(result) if each.ndim]  # others are checks, and counts
        if tensors and not func.is_view:
            self._found[self._of_op(op, args, tensors[0]) if op else self._of(func, tensors[0])] = None
        return result

    def _of_op(self, op: Any, args: tuple, result: Tensor) -> Placement:
        said = dispatch.explain(op, *args)
        others = "; ".join(f"{each.provider}: {each.reason}" for each in said.verdicts if not each.chosen)
        taken = ", ".join(dict.fromkeys(name_of(each.dtype) for each in tensors_in(args)))
        reason = f"takes {taken}; {f'first of those that can run ({others})' if others else 'has no other'}"
        place = self._recorder.open[-1].place if self._recorder.open else ""
        return _row(place, op.name, result, said.chosen or "none", reason)

    def _of(self, func: Any, result: Tensor) -> Placement:
        frame = next((each for each in self._recorder.open if each.closed), None)
        place, name = (frame.place, frame.kind) if frame else ("", func._overloadpacket.__name__)
        if any(each.place in self._outside for each in self._recorder.open):
            return _row(place, name, result, "torch", "outside of the region: a layer that keeps its dtype")
        return _row(place, name, result, "torch", _reason(result, self._dtype))


def _row(place: str, call: str, result: Tensor, provider: str, reason: str) -> Placement:
    return Placement(place, call, str(result.device), name_of(result.dtype), provider, reason)


def _reason(result: Tensor, dtype: str | None) -> str:
    if not result.is_floating_point():
        return "no real numbers: stays as it is"
    if dtype is None:
        return "where the parameters and inputs are, in their dtype"
    if name_of(result.dtype) == dtype:
        return f"inside the autocast region{_caveat(result.device.type, dtype)}"
    return "left in this dtype by autocast"


def _caveat(device: str, dtype: str) -> str:
    if dtype == "float16":
        return "; scale the loss in training (torch.amp.GradScaler)"
    supported: Callable[[], bool] | None = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if device == "cpu" and supported is not None and not supported():
        return (
            "; this processor has no bfloat16 instructions, so that it may be slower: tune=True measures it"
        )
    return ""
