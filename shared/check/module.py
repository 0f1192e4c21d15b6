"""Rows about modules: what trainers do to a layer that is built on the op."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
from torch import Tensor, func
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from shared.check import row as when
from shared.check.case import Args, Case, gradients, loss, outputs_of, same, same_dtypes
from shared.check.compiling import compiled
from shared.check.holder import Holder
from shared.check.report import Mismatch
from shared.check.row import Row


def autocast(case: Case, args: Args) -> None:
    """Inside an autocast region every route computes in the declared dtype, whatever floats come in."""
    declared = case.op.autocast_dtypes.get("cpu")
    if declared is None:
        raise Mismatch(
            "expected an autocast rule, received none, so the dtype would depend on the provider: "
            f"declare {case.op.name} with .autocast(cpu=torch.float32, cuda=torch.float32)"
        )
    for arriving in (torch.float32, torch.bfloat16):
        given = case.cast(args, arriving)
        cast = tuple(a.to(declared) if _is_real(a) else a for a in given)
        expected = case.op.reference(*cast)
        dtypes = case.expected_dtypes(cast)
        for route, call in _routes(case, given).items():
            with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
                received = call(*given)
            same_dtypes(received, dtypes, f"autocast, {arriving} arriving, {route}")
            if route != "fake":
                same(received, expected, f"autocast, {arriving} arriving, {route}")


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _routes(case: Case, args: Args) -> dict[str, Any]:
    def fake(*given: Any) -> Any:
        with FakeTensorMode() as mode:
            return case.op(*(mode.from_tensor(a) if isinstance(a, Tensor) else a for a in given))

    def mapped(*given: Any) -> Any:
        dims = tuple(0 if isinstance(a, Tensor) else None for a in given)
        lanes = tuple(a.unsqueeze(0) if isinstance(a, Tensor) else a for a in given)
        outputs = func.vmap(case.op, dims)(*lanes)
        return tuple(o[0] for o in outputs) if isinstance(outputs, tuple) else outputs[0]

    def preferring(provider: str) -> Any:
        def call(*given: Any) -> Any:
            with case.op.prefer(provider):
                return case.op(*given)

        return call

    def compiling(*given: Any) -> Any:
        return compiled(lambda *a: case.op(*a))(*given)

    providers = {name: preferring(name) for name in dict(case.providers(case.cast(args, torch.float32)))}
    return {**providers, "vmap": mapped, "fake": fake, "compiled": compiling}


def copies(case: Case, args: Args) -> None:
    """`copy.deepcopy` of a module works and computes the same."""
    holder = Holder(case.op, args)
    same(copy.deepcopy(holder)(), case.expected(args), "deepcopy")


def pickles(case: Case, args: Args) -> None:
    """Pickling a module works and computes the same."""
    again = pickle.loads(pickle.dumps(Holder(case.op, args)))
    same(again(), case.expected(args), "pickle")


def moves_dtype(case: Case, args: Args) -> None:
    """A state dict loads into a module of another dtype, and `.to(dtype)` moves it."""
    holder = Holder(case.op, args)
    single = Holder(case.op, case.cast(args, torch.float32))
    single.load_state_dict(holder.state_dict())
    expected = case.expected(case.cast(args, torch.float32))
    dtypes = case.expected_dtypes(case.cast(args, torch.float32))
    for what, module in (("load_state_dict into float32", single), ("to(float32)", _narrowed(holder))):
        received = module()
        same(received, expected, what)
        same_dtypes(received, dtypes, what)


def _narrowed(holder: Holder) -> Any:
    # nn.Module.to(dtype) turns complex parameters real; a module with some moves only the others
    return holder._apply(_single)


def _single(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex64)
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def on_meta(case: Case, args: Args) -> None:
    """On the meta device a module tells shapes and dtypes, and allocates nothing."""
    received = outputs_of(Holder(case.op, args).to("meta")())
    expected = outputs_of(case.expected(args))
    for got, want in zip(received, expected, strict=True):
        if not got.is_meta or (got.shape, got.dtype) != (want.shape, want.dtype):
            raise Mismatch(
                f"expected a meta tensor {tuple(want.shape)} {want.dtype}, "
                f"received {tuple(got.shape)} {got.dtype} on {got.device}"
            )


def called_functionally(case: Case, args: Args) -> None:
    """`torch.func.functional_call` and its gradient, as in ensembles and meta-learning."""
    holder = Holder(case.op, args)
    parameters = {name: p.detach() for name, p in holder.named_parameters()}

    def objective(parameters: dict[str, Tensor]) -> Tensor:
        return loss(func.functional_call(holder, parameters, ()))

    received = list(func.grad(objective)(parameters).values())
    same(received, gradients(case.op.reference, args, case.floating(args)), "gradient of functional_call")


def checkpointed(case: Case, args: Args) -> None:
    """Gradients through activation checkpointing are the same."""
    floating = case.floating(args)
    received = gradients(lambda *a: checkpoint(case.op, *a, use_reentrant=False), args, floating)
    same(received, gradients(case.op.reference, args, floating), "gradient through a checkpoint")


ROWS = (
    Row("module", "autocast", autocast, (when.floating,)),
    Row("module", "deepcopy", copies),
    Row("module", "pickle", pickles),
    Row("module", "dtype move", moves_dtype, (when.floating,)),
    Row("module", "meta device", on_meta, (when.tensors,), every_sample=True),
    Row("module", "functional_call", called_functionally, (when.differentiable,)),
    Row("module", "checkpoint", checkpointed, (when.differentiable,)),
)
