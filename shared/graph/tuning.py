"""Ways to run a model, timed on this machine: the fastest is taken, and remembered."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from shared import declare, dispatch
from shared.graph import remembered, timing, trial
from shared.graph.analysis import analyse
from shared.graph.compilers import has_compiler
from shared.graph.placing import in_region
from shared.graph.twins import mixed
from shared.progress import bar

FORMAT = 1
GAIN = 0.95  # of the time of the best so far, that a candidate must not exceed
LARGEST = 1 << 30  # FLOPs of an op whose other providers are timed; references are slow


@dataclass(frozen=True)
class Choice:
    """A way to run a model.

    Args:
        providers: of ops, by their names, that are not those that dispatch would choose.
        dtype: of an autocast region, such as `"bfloat16"`; None for none.
        compiled: whether PyTorch's Inductor compiles it.
    """

    providers: tuple[tuple[str, str], ...] = ()
    dtype: str | None = None
    compiled: bool = False

    def __str__(self) -> str:
        parts = [f"{op} by {provider}" for op, provider in self.providers]
        parts += [f"autocast {self.dtype}"] if self.dtype else []
        parts += ["Inductor"] if self.compiled else []
        return " + ".join(parts) or "as it is"


@dataclass(frozen=True)
class Timing:
    """A candidate and the median of its times; `reason` says why it has none."""

    candidate: str
    milliseconds: float | None
    reason: str = ""


@dataclass(frozen=True)
class Tuning:
    """What was timed, what was chosen, and whether that was known from an earlier call.

    Args:
        timings: in the order in which candidates had their turn.
        chosen: the way in which the model runs now.
        remembered: whether all this comes from the file.
        file: in which it is kept.
    """

    timings: tuple[Timing, ...]
    chosen: Choice
    remembered: bool
    file: str

    def __str__(self) -> str:
        wide = max((len(each.candidate) for each in self.timings), default=0)
        lines = [
            f"  {each.candidate:{wide}}  "
            + (each.reason if each.milliseconds is None else f"{each.milliseconds:10.3f} ms")
            + ("  chosen" if each.candidate == str(self.chosen) else "")
            for each in self.timings
        ]
        source = "remembered in" if self.remembered else "kept in"
        return "\n".join([f"timed on this machine, {source} {self.file}", *lines])


# how a choice is carried out


class Preferring(nn.Module):
    """A model whose ops are run by chosen providers in the forward pass."""

    _providers: tuple[tuple[str, str], ...]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever; compilers, which keep ops as they are, leave the choice to dispatch."""
        if torch.compiler.is_compiling():
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        with preferring(self._providers):
            return super().forward(*args, **kwargs)  # type: ignore[misc]


class Compiled(nn.Module):
    """A model that Inductor compiles at its first call."""

    _run: Any  # not copied: each copy compiles itself

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As ever, from compiled code."""
        if torch.compiler.is_compiling():
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        if self.__dict__.get("_run") is None:
            self.__dict__["_run"] = torch.compile(super().forward)  # type: ignore[misc]
        return self._run(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}


@contextlib.contextmanager
def preferring(providers: tuple[tuple[str, str], ...]) -> Iterator[None]:
    """A scope in which these providers run these ops."""
    with contextlib.ExitStack() as scopes:
        for op, provider in providers:
            scopes.enter_context(dispatch.prefer(provider, op=op))
        yield


def run_as(model: nn.Module, inputs: tuple, choice: Choice) -> nn.Module:
    """The model, or a twin of it that runs as chosen."""
    if choice.dtype:
        model = in_region(model, inputs, getattr(torch, choice.dtype))
    if choice.providers:
        model = mixed(Preferring, model, _providers=choice.providers)
    return mixed(Compiled, model, _run=None) if choice.compiled else model


# what is timed


def tuned(
    model: nn.Module,
    inputs: tuple,
    wanted: trial.Outcomes,
    *,
    dtype: torch.dtype | None,
    training: bool,
    show: bool = True,
) -> Tuning:
    """The fastest way to run a model that was found, and what was timed.

    Candidates are providers of the ops that it calls, an autocast region, if `dtype` allows one, and
    Inductor, where there is a C++ compiler; each is timed against the best so far, in turns, on the example
    inputs. What computes something else is not taken. The number of threads belongs to the process and is
    left alone.

    Args:
        model: left as it is.
        inputs: of a call.
        wanted: outcomes that a candidate without autocast must have, see `trial.outcomes`.
        dtype: of the autocast region that is allowed.
        training: whether a training step is timed, or a forward pass without gradients.
        show: whether a bar on stderr shows how far it is.
    """
    steps = analyse(model, inputs).steps
    key = remembered.key_of(
        {
            "format": FORMAT,
            "machine": remembered.machine(),
            "steps": [[each.name, each.place, each.shape, each.flops, each.sources] for each in steps],
            "dtype": str(dtype),
            "training": training,
        }
    )
    file = str(remembered.folder() / f"{key}.json")
    known = _read(remembered.recall(key))
    if known is not None:
        return Tuning(*known, remembered=True, file=file)
    race = _Race(model, inputs, wanted, training)
    found = _candidates(model, inputs, dtype, race)
    with bar(len(found), "tuning", show=show) as advance:
        for change in found:
            race.run(replace(race.best, **change(race.best)))
            advance(1)
    content = {"machine": remembered.machine(), "choice": asdict(race.best)}
    remembered.keep(key, {**content, "timings": [asdict(each) for each in race.timings]})
    return Tuning(tuple(race.timings), race.best, remembered=False, file=file)


@dataclass
class _Race:
    """The best so far, and all that had their turn."""

    model: nn.Module
    inputs: tuple
    wanted: trial.Outcomes
    training: bool
    best: Choice = field(default_factory=Choice)
    timings: list[Timing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.module = self.model
        self.timings.append(Timing(str(self.best), self._medians(self.model)[0]))

    def _medians(self, *modules: nn.Module) -> list[float]:
        return timing.medians(modules, self.inputs, training=self.training)

    def run(self, choice: Choice) -> None:
        """Give a candidate its turn."""
        try:
            module = run_as(self.model, self.inputs, choice)
            wrong = None if choice.dtype else trial.wrong(module, self.inputs, self.wanted)
            ours, best = self._medians(module, self.module) if wrong is None else (None, None)
        except Exception as error:  # compilers fail in many ways; then the best so far stays
            self.timings.append(Timing(str(choice), None, f"does not run: {type(error).__name__}"))
            return
        self.timings.append(Timing(str(choice), ours, f"computes something else: {wrong}" if wrong else ""))
        if ours is not None and best is not None and ours <= GAIN * best:
            self.best, self.module = choice, module


def _candidates(model: nn.Module, inputs: tuple, dtype: torch.dtype | None, race: _Race) -> list:
    """Changes of the best choice, each a function of it."""
    found = []
    with trial.untouched(model), torch.no_grad(), _Providers() as seen:
        model(*inputs)
    for op, others in seen.others.items():
        if op in seen.large:
            race.timings += [
                Timing(f"{op} by {each}", None, "not timed: the op is too large") for each in others
            ]
        else:
            found += [functools.partial(_with_provider, op, each) for each in others]
    if dtype is not None:
        found.append(lambda _: {"dtype": str(dtype).removeprefix("torch.")})
    if has_compiler():
        found.append(lambda _: {"compiled": True})
    return found


def _with_provider(op: str, provider: str, best: Choice) -> dict[str, Any]:
    others = tuple(each for each in best.providers if each[0] != op)
    return {"providers": (*others, (op, provider))}


class _Providers(TorchDispatchMode):
    """Which other providers could run the ops that are called, and which ops are too large to try them."""

    def __init__(self) -> None:
        super().__init__()
        self.others: dict[str, list[str]] = {}
        self.large: set[str] = set()
        self._ops = declare.registry()

    def __enter__(self) -> "_Providers":
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        op = self._ops.get(f"{func.namespace}::{func._overloadpacket.__name__}")
        if op is not None:
            said = dispatch.explain(op, *args)
            able = [v.provider for v in said.verdicts if not v.chosen and v.reason == "outranked"]
            self.others.setdefault(op.name, able)
            if _flops(op, args) > LARGEST:
                self.large.add(op.name)
        return func(*args, **(kwargs or {}))


def _flops(op: declare.Op, args: tuple) -> int:
    try:
        return op.estimate(*args).flops
    except ValueError:  # it declares no cost model
        return 0


def _read(content: dict[str, Any] | None) -> tuple[tuple[Timing, ...], Choice] | None:
    """What a file says, if it says it as `tuned` writes it and all that it names is there."""
    if content is None:
        return None
    try:
        choice = content["choice"]
        providers = tuple((op, provider) for op, provider in choice["providers"])
        timings = tuple(Timing(**each) for each in content["timings"])
        found = Choice(providers, choice["dtype"], choice["compiled"] is True)
    except (KeyError, TypeError, ValueError):
        return None
    plain = all(isinstance(each.milliseconds, float | None) for each in timings)
    known = all(_provides(*each) for each in providers) and found.dtype in (None, "bfloat16", "float16")
    return (timings, found) if plain and known else None


def _provides(op: str, provider: str) -> bool:
    found = declare.registry().get(op)
    return found is not None and provider in {
        dispatch.REFERENCE,
        *(kernel.provider for kernel in found.kernels),
    }
