"""The ground rules of every test: checked types and shapes, fixed seeds, two threads, bounded hypothesis."""

import ast
import contextlib
import functools
import inspect
import os
import random
import sys
from pathlib import Path

import beartype
import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

PACKAGES = ["shared", "qlayers", "biolayers"]


def _drop_stale_kernels():
    """Remove compiled kernels older than a file they are made of: Numba looks at their own alone."""
    root = Path(__file__).resolve().parent.parent
    for compiled in [path for package in PACKAGES for path in (root / package).rglob("*.nb[ic]")]:
        source = compiled.parent.parent / f"{compiled.name.split('.')[0]}.py"
        with contextlib.suppress(FileNotFoundError):  # another session was faster
            if not source.exists() or compiled.stat().st_mtime < _newest(source, root):
                compiled.unlink()


@functools.cache
def _newest(source: Path, root: Path) -> float:
    """When a file or any of the project's that it imports, directly or not, was last written."""
    seen, todo = set(), [source]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += _imported(path, root)
    return max(path.stat().st_mtime for path in seen)


@functools.cache
def _imported(source: Path, root: Path) -> list[Path]:
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [root / f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in PACKAGES]
    return [path for path in found if path.exists()]


_drop_stale_kernels()

# Warnings of other packages that we can neither fix nor avoid, each with its reason; all others are errors.
FOREIGN_WARNINGS = {
    r"`torch\.jit\.script(_method)?` is deprecated:DeprecationWarning": "PyTorch's own, in Inductor's import",
}

# Types and shapes, checked in tests only

_jaxtyped = jaxtyping.jaxtyped
_beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int is a float, too


def _jaxtyped_in_eager_mode(function=None, *, typechecker=None):
    """`jaxtyping.jaxtyped`, as the import hook calls it, but out of the way of the compilers.

    Dynamo folds `is_compiling()` to True and so traces the function itself, as it does outside the tests; a
    fake tensor's sizes may be symbols, whose comparison would add guards. Functions inside functions (made at
    every call) and those without annotations (Numba compiles them: it takes no wrapper) stay as they are.
    """
    if function is None:
        return functools.partial(_jaxtyped_in_eager_mode, typechecker=typechecker)
    if torch.compiler.is_compiling() or not _worth_checking(function):
        return function
    checked = _jaxtyped(function, typechecker=_beartype)
    if not inspect.isfunction(function):
        return checked

    @functools.wraps(function)
    def eager(*args, **kwargs):
        if torch.compiler.is_compiling() or any(isinstance(value, FakeTensor) for value in args):
            return function(*args, **kwargs)
        return checked(*args, **kwargs)

    return eager


def _worth_checking(function) -> bool:
    if not inspect.isfunction(function):
        return inspect.isclass(function)  # jaxtyping checks how a dataclass is made
    return bool(function.__annotations__) and "<locals>" not in function.__qualname__


if not os.environ.get("QBIO_UNCHECKED"):  # for tests of which a million are wanted
    jaxtyping.jaxtyped = _jaxtyped_in_eager_mode
    jaxtyping.install_import_hook(PACKAGES, typechecker="beartype.beartype")

# Property tests: the same examples in every run, no clock; `HYPOTHESIS_PROFILE=thorough` searches on

_UNTIMED = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=_UNTIMED, print_blob=True
)
hypothesis.settings.register_profile(
    "thorough", deadline=None, max_examples=1000, suppress_health_check=_UNTIMED, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure() -> None:
    torch.set_num_threads(2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for warning in FOREIGN_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{warning}"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same randomness and without compiled code, whichever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch):
    """Fresh memory is NaN (integers: the largest), so that a kernel that leaves a place unwritten is seen.

    Covers PyTorch's `empty`, `empty_like`, `new_empty` and `resize_`, and NumPy's `empty` and `empty_like`;
    not what compiled code allocates for itself.
    """

    def poisoned(allocate):
        @functools.wraps(allocate)
        def fresh(*args, **kwargs):
            array = allocate(*args, **kwargs)
            if array.dtype.kind in "fc":
                array.fill(np.nan)
            elif array.dtype.kind in "iu":
                array.fill(np.iinfo(array.dtype).max)
            return array

        return fresh

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, poisoned(getattr(np, name)))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
