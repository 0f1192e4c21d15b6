"""Rows about values: every kernel computes what the reference defines, whatever the memory looks like."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from shared import threads
from shared.check import row as when
from shared.check.case import Args, Case, gradients, outputs_of, same, same_dtypes, tensors_of
from shared.check.layouts import LAYOUTS, expansions, laid_out, poisoned_memory
from shared.check.report import Mismatch
from shared.check.row import Row


def kernels_are_reached(case: Case, args: Args) -> None:
    """Each kernel that this machine has loads, takes the reference's parameters, and runs for some sample."""
    for kernel in case.kernels:
        given = tuple(inspect.signature(kernel.run).parameters)
        if given != case.op.parameters:
            raise Mismatch(
                f"kernel {kernel.provider!r}: expected parameters {case.op.parameters}, received {given}"
            )
        variants = [case.cast(s, d) for s in case.samples for d in case.dtypes()]
        if not any(kernel.provider in dict(case.providers(variant)) for variant in variants):
            refusal = case.op.explain(*case.to(variants[0], kernel.device or "cpu"))
            raise Mismatch(
                f"expected a sample that reaches kernel {kernel.provider!r}, received none: {refusal}"
            )


def parity(dtype: torch.dtype) -> Callable[[Case, Args], None]:
    """Every provider equals the reference in `dtype`."""

    def run(case: Case, args: Args) -> None:
        _compare(case, case.cast(args, dtype), str(dtype).removeprefix("torch."), reference=True)

    return run


def half_precision(case: Case, args: Args) -> None:
    """Every kernel that names bfloat16 or float16 equals the reference."""
    for dtype in case.dtypes()[2:]:
        _compare(case, case.cast(args, dtype), str(dtype), reference=False)


def of_batch_size(size: int) -> Callable[[Case, Args], None]:
    """Values and gradients with a batch of this size."""

    def run(case: Case, args: Args) -> None:
        for dtype in (torch.float64, torch.float32):
            sized = case.cast(case.of_size(args, size), dtype)
            _compare(case, sized, f"batch of {size}, {dtype}", reference=True)
            _compare_gradients(case, sized, f"batch of {size}, {dtype}")

    return run


def in_layout(layout: str) -> Callable[[Case, Args], None]:
    """Values and gradients with every argument in an awkward layout."""

    def run(case: Case, args: Args) -> None:
        for dtype in (torch.float64, torch.float32):
            cast = case.cast(args, dtype)
            _compare_layouts(case, laid_out(case, cast, LAYOUTS[layout]), cast, f"{layout}, {dtype}")

    return run


def expanded(case: Case, args: Args) -> None:
    """Values and gradients with stride 0 along one axis of one argument."""
    for what, flat in expansions(case, args):
        _compare_layouts(case, flat, case.cast(flat, torch.float64), what)


def conjugated(case: Case, args: Args) -> None:
    """Complex arguments that carry a conj bit."""
    views = tuple(a.conj() if isinstance(a, Tensor) and a.is_complex() else a for a in args)
    _compare(case, views, "conj view", reference=True)


def poisoned(case: Case, args: Args) -> None:
    """Values and gradients when fresh memory is not zero: no element is left unwritten."""
    for dtype in (torch.float64, torch.float32):
        cast = case.cast(args, dtype)
        for provider, given in case.providers(cast):
            with case.op.prefer(provider), threads.finest_grain():
                clean = _evaluate(case, given)  # compiles, too: Numba must not see the poisoned numpy.empty
                with poisoned_memory():
                    received = _evaluate(case, given)
            same(received, clean, f"{provider}, {dtype}, poisoned against clean memory")
            same(
                received[: len(outputs_of(case.expected(cast)))], case.expected(cast), f"{provider}, poisoned"
            )


def fresh_outputs(case: Case, args: Args) -> None:
    """Outputs are contiguous, and share no memory with the arguments or each other."""
    for dtype in (torch.float64, torch.float32):
        for provider, given in case.providers(case.cast(args, dtype)):
            with case.op.prefer(provider), torch.no_grad():
                outputs = outputs_of(case.op(*given))
            for i, output in enumerate(outputs):
                what = f"{provider}, output {i}"
                if not output.is_contiguous() or output.is_conj() or output.is_neg():
                    raise Mismatch(
                        f"{what}: expected a contiguous tensor, received strides {output.stride()}"
                    )
                for j, other in enumerate((*tensors_of(given), *outputs[:i])):
                    if output.numel() and _pointer(output) == _pointer(other):
                        name = "an argument" if j < len(tensors_of(given)) else "another output"
                        raise Mismatch(f"{what}: expected fresh memory, received memory of {name}")


def unchanged_inputs(case: Case, args: Args) -> None:
    """No provider writes into its arguments, forward or backward."""
    for dtype in (torch.float64, torch.float32):
        for provider, _ in case.providers(case.cast(args, dtype)):
            before = case.cast(args, dtype)
            given = case.cast(args, dtype)
            with case.op.prefer(provider):
                _evaluate(case, given)
            same(tensors_of(given), tensors_of(before), f"{provider}: arguments after the call", exact=True)


def fake_agrees(case: Case, args: Args) -> None:
    """The fake kernel tells the shapes, dtypes and strides that every provider returns."""
    variants = [args, laid_out(case, args, LAYOUTS["transposed"]), laid_out(case, args, LAYOUTS["strided"])]
    if case.batch_axes:
        variants += [case.of_size(args, 0), case.of_size(args, 1), case.of_size(args, 5)]
    for variant in variants:
        for dtype in (torch.float64, torch.float32):
            given = tuple(
                a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in variant
            )
            with FakeTensorMode() as mode:
                stand_ins = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in given]
                fakes = outputs_of(case.op.overload(*stand_ins))
            for provider, moved in case.providers(given):
                with case.op.prefer(provider), torch.no_grad():
                    reals = outputs_of(case.op(*moved))
                for i, (fake, real) in enumerate(zip(fakes, reals, strict=True)):
                    promised, received = _facts(fake), _facts(real)
                    if promised != received:
                        raise Mismatch(
                            f"{provider}, output {i}: expected {promised} (fake), received {received}"
                        )


def deterministic(case: Case, args: Args) -> None:
    """Two calls give the same bits, forward and backward."""
    for dtype in (torch.float64, torch.float32):
        for provider, given in case.providers(case.cast(args, dtype)):
            with case.op.prefer(provider):
                first = _evaluate(case, given)
                for _ in range(3):
                    same(_evaluate(case, given), first, f"{provider}: the same call again", exact=True)


def thread_count(case: Case, args: Args) -> None:
    """One, two and three threads give the same bits, with the work cut as finely as it can be."""
    before = torch.get_num_threads()
    sizes = (None,) if not case.batch_axes else (None, 7)
    try:
        for size in sizes:
            sized = args if size is None else case.of_size(args, size)
            for provider, given in case.providers(sized):
                with case.op.prefer(provider), threads.finest_grain():
                    torch.set_num_threads(1)
                    alone = _evaluate(case, given)
                    for count in (2, 3):
                        torch.set_num_threads(count)
                        same(_evaluate(case, given), alone, f"{provider}: {count} threads", exact=True)
    finally:
        torch.set_num_threads(before)


def inference_mode(case: Case, args: Args) -> None:
    """The op runs on and among inference tensors."""
    with torch.inference_mode():
        given = case.cast(args, torch.float64)
        same(case.op(*given), case.op.reference(*given), "inference mode")


def _compare(case: Case, args: Args, what: str, *, reference: bool) -> None:
    expected, dtypes = case.expected(args), case.expected_dtypes(args)
    for provider, given in case.providers(args, reference=reference):
        with case.op.prefer(provider), torch.no_grad():
            received = case.op(*given)
        same(received, expected, f"{provider}, {what}")
        same_dtypes(received, dtypes, f"{provider}, {what}")


def _compare_layouts(case: Case, awkward: Args, plain: Args, what: str) -> None:
    """Each provider on awkward arguments against itself on plain ones: other rows judge its values."""
    for provider, given in case.providers(awkward):
        with case.op.prefer(provider):
            received = _evaluate(case, given)
            device = next((a.device.type for a in tensors_of(given)), "cpu")
            same(received, _evaluate(case, case.to(plain, device)), f"{provider}, {what}")


def _compare_gradients(case: Case, args: Args, what: str) -> None:
    if when.differentiable(case) is not None:
        return
    positions = case.floating(args)
    expected = gradients(case.op.reference, case.cast(args, torch.float64), positions)
    for provider, given in case.providers(args):
        with case.op.prefer(provider):
            same(gradients(case.op, given, positions), expected, f"{provider}, {what}, gradient")


def _evaluate(case: Case, args: Args) -> list[Tensor]:
    """The outputs, and the gradients where there are any."""
    with torch.no_grad():
        found = list(outputs_of(case.op(*args)))
    if when.differentiable(case) is None:
        found += gradients(case.op, args, case.floating(args))
    return found


def _pointer(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _facts(x: Tensor) -> tuple[Any, ...]:
    """Shape, dtype, and the strides that matter: those of axes longer than one, in a tensor with elements."""
    strides = [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1 and x.numel()]
    return tuple(x.shape), x.dtype, strides


def _named_half(case: Case) -> str | None:
    return None if case.dtypes()[2:] else "no kernel takes bfloat16 or float16"


ROWS = (
    Row("values", "kernels", kernels_are_reached),
    Row("values", "float64", parity(torch.float64), every_sample=True),
    Row("values", "float32", parity(torch.float32), every_sample=True),
    Row("values", "half precision", half_precision, (_named_half,), every_sample=True),
    Row("values", "empty batch", of_batch_size(0), (when.batch,), every_sample=True),
    Row("values", "batch of one", of_batch_size(1), (when.batch,), every_sample=True),
    Row("values", "odd batch", of_batch_size(9), (when.batch,), every_sample=True),
    Row("values", "non-contiguous", in_layout("strided"), (when.tensors,), every_sample=True),
    Row("values", "transposed", in_layout("transposed"), (when.tensors,), every_sample=True),
    Row("values", "storage offset", in_layout("offset"), (when.tensors,), every_sample=True),
    Row("values", "expanded", expanded, (when.tensors,)),
    Row("values", "conj view", conjugated, (when.complex_tensors,), every_sample=True),
    Row("values", "poisoned memory", poisoned, every_sample=True),
    Row("values", "fresh outputs", fresh_outputs, every_sample=True),
    Row("values", "inputs unchanged", unchanged_inputs, (when.tensors,), every_sample=True),
    Row("values", "fake kernel", fake_agrees, (when.tensors,), every_sample=True),
    Row("values", "determinism", deterministic, every_sample=True),
    Row("values", "thread count", thread_count, every_sample=True),
    Row("values", "inference mode", inference_mode),
)
