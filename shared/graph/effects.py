"""What each call of a graph does to memory, to random numbers and to its arguments, seen on real inputs."""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import flop_registry

from shared.graph import trial
from shared.graph.lifetimes import Lifetimes
from shared.graph.recording import memory_of, size_of, tensors_in
from shared.graph.rules import is_leaf
from shared.graph.scene import hooked

_PLAIN = (getattr,)  # functions of no package that do nothing else
CALLS = ("call_function", "call_method", "call_module")
_NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")  # write, and do not say so
FLOPS_PER_BYTE = 8  # arithmetic that a processor does while memory gives it a byte


@dataclass(frozen=True)
class Effect:
    """What one call did.

    Args:
        holds: pieces of memory in which its result lies; those of parameters and inputs apart.
        peak: bytes that it took while it ran, its result included.
        saves: pieces of memory that autograd keeps of it.
        work: what it costs, in bytes that memory moves in that time.
        product: whether it multiplies matrices, convolves, or calls one of our ops.
        fixed: why it must stay in its place, or None.
        random: whether it draws random numbers.
    """

    holds: frozenset[int]
    peak: int
    saves: frozenset[int]
    work: int
    product: bool
    fixed: str | None
    random: bool


@dataclass(frozen=True)
class Effects:
    """Of every call in a graph, and how large the pieces of memory are."""

    of: dict[fx.Node, Effect]
    sizes: list[int]

    def size(self, pieces: Iterable[int]) -> int:
        """Bytes of some pieces."""
        return sum(self.sizes[each] for each in pieces)


def observe(module: nn.Module, graph: fx.Graph, inputs: tuple, *, training: bool) -> Effects:
    """Run the graph once, with gradients if in training; the module is left as it is.

    Args:
        module: whose forward the graph is.
        graph: left as it is.
        inputs: of the call.
        training: the mode.
    """
    observer = _Observer(module, graph, inputs)
    with trial.untouched(module), torch.set_grad_enabled(training):
        module.train(training)
        observer.run(*inputs)
    return Effects(observer.seen, observer.sizes)


class _Observer(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph, inputs: tuple) -> None:
        super().__init__(module, graph=graph)
        self.seen: dict[fx.Node, Effect] = {}
        self.sizes: list[int] = []
        known = [inputs, list(module.parameters()), list(module.buffers())]
        self._given = {memory_of(each) for each in tensors_in(known)}
        self._pieces: dict[StorageWeakRef, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """One call, as ever; what it did is kept."""
        if n.op not in CALLS:
            return super().run_node(n)
        saved: list[Tensor] = []
        random = torch.get_rng_state()
        given = self.fetch_args_kwargs_from_env(n)
        with saved_tensors_hooks(_keeper(saved), lambda tensor: tensor), _Watch(given, self._given) as watch:
            result = super().run_node(n)
        self.seen[n] = Effect(
            holds=self._numbered(tensors_in(result)),
            peak=watch.peak,
            saves=self._numbered(saved),
            work=watch.bytes + watch.flops // FLOPS_PER_BYTE,
            product=watch.product,
            fixed=self._fixed(n, watch),
            random=watch.random or not torch.equal(random, torch.get_rng_state()),
        )
        return result

    def _numbered(self, tensors: list[Tensor]) -> frozenset[int]:
        return frozenset(self._number(each) for each in tensors if memory_of(each) not in self._given)

    def _number(self, tensor: Tensor) -> int:
        ref = memory_of(tensor)
        if ref not in self._pieces:
            self._pieces[ref] = len(self.sizes)
            self.sizes.append(tensor.untyped_storage().nbytes())
        return self._pieces[ref]

    def _fixed(self, node: fx.Node, watch: "_Watch") -> str | None:
        if watch.changes:
            return "changes what it is given"
        if node.op == "call_module" and hooked(self.module.get_submodule(str(node.target))):
            return "has hooks"
        return None if self._familiar(node) else "may do more than it returns"

    def _familiar(self, node: fx.Node) -> bool:
        """Whether a call is of PyTorch or of a package with rules; others may write files, or count."""
        if node.op == "call_method":
            return True
        if node.op == "call_module":
            module = self.module.get_submodule(str(node.target))
            return type(module).__module__.startswith("torch.nn.modules.") or is_leaf(module)
        home = getattr(node.target, "__module__", None) or ""
        return node.target in _PLAIN or home.partition(".")[0] in _packages()


class _Watch(Lifetimes):
    """The operations of one call."""

    def __init__(self, arguments: Any, known: set[StorageWeakRef]) -> None:
        super().__init__(arguments, known)
        self.changes = self.random = self.product = False
        self.bytes = self.flops = 0

    def __enter__(self) -> "_Watch":
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.changes |= any(self._known(memory_of(each)) for each in _written(func, args, kwargs))
        self.random |= torch.Tag.nondeterministic_seeded in func.tags
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if not func.is_view:
            self.bytes += sum(map(size_of, tensors_in((args, kwargs, result))))
            self.flops += self._flops(func, args, kwargs, result)
        return result

    def _flops(self, func: Any, args: tuple, kwargs: dict, result: Any) -> int:
        count: Callable | None = flop_registry.get(func._overloadpacket)
        ours = func.namespace not in ("aten", "prims", "prim")
        self.product |= ours or count is not None
        if count is None:
            return sum(math.prod(each.shape) for each in tensors_in(result))
        return int(count(*args, **kwargs, out_val=result))


@functools.cache
def _packages() -> frozenset[str]:
    entries = entry_points(group="qbio.passes")
    return frozenset({"torch", "_operator", "math", *(entry.module.partition(".")[0] for entry in entries)})


def _written(func: Any, args: tuple, kwargs: dict) -> list[Tensor]:
    """The arguments that an operation writes to."""
    schema = func._schema.arguments
    named = {**dict(zip((each.name for each in schema), args, strict=False)), **kwargs}
    written = [each.name for each in schema if each.alias_info is not None and each.alias_info.is_write]
    if func._overloadpacket.__name__ in _NORMS and named["training"]:
        written += ["running_mean", "running_var"]
    return tensors_in([named.get(name) for name in written])


def _keeper(kept: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def keep(tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:
            kept.append(tensor.detach())
        return tensor

    return keep
