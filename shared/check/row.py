"""A row of the matrix, and the conditions under which it applies."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from shared.check.case import Args, Case
from shared.check.report import Result

Condition = Callable[[Case], str | None]


@dataclass(frozen=True)
class Row:
    """One row: `run(case, args)` raises when the op fails it; each of `needs` may say why it does not apply.

    `run` gets fresh arguments: the typical sample, or each sample in turn. A slow row runs only on demand.
    """

    group: str
    name: str
    run: Callable[[Case, Args], None]
    needs: tuple[Condition, ...] = ()
    every_sample: bool = False
    slow: bool = False

    @property
    def id(self) -> str:
        """How the row is chosen: `group/name`."""
        return f"{self.group}/{self.name}"

    def unless(self, case: Case) -> str | None:
        """Why the row does not apply to this op, or None."""
        return next((reason for need in self.needs if (reason := need(case)) is not None), None)

    def result(self, case: Case) -> Result:
        """Run the row."""
        reason = self.unless(case)
        if reason is not None:
            return Result(self.group, self.name, "not applicable", reason)
        start = time.perf_counter()
        failure = self._failure(case)
        seconds = time.perf_counter() - start
        return Result(
            self.group, self.name, "passed" if failure is None else "failed", failure or "", seconds
        )

    def _failure(self, case: Case) -> str | None:
        samples = case.samples if self.every_sample else (case.typical,)
        for args in samples:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.run(case, case.cast(args, torch.float64))
            except Exception as error:
                where = f" (sample {_shapes(args)})" if self.every_sample else ""
                return f"{_first_lines(error)}{where}"
        return None


def _shapes(args: Args) -> str:
    return ", ".join(str(list(a.shape)) if isinstance(a, torch.Tensor) else repr(a) for a in args)


def _first_lines(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= 600 else f"{text[:600]} ..."
    return text if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text}"


# conditions


def tensors(case: Case) -> str | None:
    """The op takes tensors."""
    return None if case.tensors(case.typical) else "the op takes no tensor"


def floating(case: Case) -> str | None:
    """The op takes a floating tensor."""
    return None if case.floating(case.typical) else "the op takes no floating-point tensor"


def differentiable(case: Case) -> str | None:
    """The op has a derivative."""
    if not case.op.differentiable:
        return "the op is declared without a derivative"
    if not case.output_is_floating():
        return "the op returns no floating-point tensor"
    return floating(case)


def without_derivative(case: Case) -> str | None:
    """The op is declared without a derivative."""
    if case.op.differentiable:
        return "the op has a derivative"
    return floating(case) or (
        None if case.output_is_floating() else "the op returns no floating-point tensor"
    )


def batch(case: Case) -> str | None:
    """The op has a batch axis, or did not say (which the row then reports)."""
    return "the op is declared without a batch axis" if case.batch_axes == {} else None


def complex_tensors(case: Case) -> str | None:
    """The op takes a complex tensor."""
    complex_found = any(case.typical[i].is_complex() for i in case.tensors(case.typical))
    return None if complex_found else "the op takes no complex tensor"


def real(case: Case) -> str | None:
    """The op takes no complex tensor."""
    return "PyTorch's jacrev and jacfwd take no complex tensor" if complex_tensors(case) is None else None


def importable(case: Case) -> str | None:
    """Another process can import the op."""
    if case.op.reference.__module__ == "__main__":
        return "the op is declared in __main__, which another process cannot import"
    return None


def fork(case: Case) -> str | None:
    """The system has fork."""
    import os

    return None if hasattr(os, "fork") else "this system has no fork"


def gloo(case: Case) -> str | None:
    """This PyTorch has gloo."""
    distributed: Any = torch.distributed
    if distributed.is_available() and distributed.is_gloo_available():
        return None
    return "this PyTorch is built without gloo"


def compiler(case: Case) -> str | None:
    """Inductor finds a C++ compiler."""
    import os

    found = shutil.which(os.environ.get("CXX", "")) or any(map(shutil.which, ("g++", "clang++", "cl")))
    return None if found else "no C++ compiler on this machine"
