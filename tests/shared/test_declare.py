"""Declaring an op: schema, errors, defaults, outputs, copies, cost, plug-ins."""

import copy
import importlib
import pickle
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import shared
from shared import Cost, UserError, catalogue


@shared.op("declare::scaled")
def scaled(x: Tensor, factor: float = 2.0, shift: int = 0) -> Tensor:
    """Scale and shift."""
    return x * factor + shift


X = torch.arange(6.0).reshape(2, 3)


# schemas


def test_schema_and_registration():
    assert scaled.schema == "(Tensor x, float factor=2.0, SymInt shift=0) -> Tensor"
    assert scaled.overload is torch.ops.declare.scaled.default
    assert torch.Tag.pt2_compliant_tag in scaled.overload.tags
    assert shared.registry()["declare::scaled"] is scaled
    assert repr(scaled).startswith("<op declare::scaled(Tensor x")
    assert (scaled.__name__, scaled.__doc__) == ("scaled", "Scale and shift.")


def test_jaxtyping_annotations_count_as_tensors():
    @shared.op("declare::typed")
    def typed(
        tokens: UInt8[Tensor, "b l"], weight: Float[Tensor, "o 4 k"], bias: Float[Tensor, " o"] | None = None
    ) -> tuple[Float[Tensor, "b o"], UInt8[Tensor, "b l"]]:
        return tokens.sum(-1, keepdim=True) * weight.sum((1, 2)) + (0 if bias is None else bias), tokens + 1

    assert typed.schema == "(Tensor tokens, Tensor weight, Tensor? bias=None) -> (Tensor, Tensor)"
    tokens = torch.ones(2, 3, dtype=torch.uint8)
    assert typed(tokens, torch.ones(5, 4, 2))[0].tolist() == [[24.0] * 5] * 2
    assert typed(tokens, torch.ones(5, 4, 2), torch.ones(5))[0].tolist() == [[25.0] * 5] * 2


def test_annotations_may_be_strings():
    namespace = {}
    code = (
        "from __future__ import annotations\ndef late(x: Tensor, n: int = 3) -> Tensor:\n    return x * n\n"
    )
    exec("from __future__ import annotations\nfrom torch import Tensor\n" + code.split("\n", 1)[1], namespace)
    assert shared.op("declare::late")(namespace["late"])(X).sum() == 45


@pytest.mark.parametrize("name", ["plain", "a:b", "::b", "a::", "a::b c", "a::b::c", "class::b", "a::def"])
def test_malformed_names(name):
    with pytest.raises(ValueError, match=r'expected a name like "namespace::name", received '):
        shared.op(name)


def test_parameters_must_be_plain():
    with pytest.raises(
        ValueError, match=r"declare::starred: expected plain parameters, .*drop \*, / and keyword-only"
    ):

        @shared.op("declare::starred")
        def starred(x: Tensor, *, factor: float = 1.0) -> Tensor:
            return x


def test_lists_of_tensors_are_refused():
    with pytest.raises(
        ValueError, match="declare::many: expected each tensor as a parameter or output of its own"
    ):

        @shared.op("declare::many")
        def many(xs: list[Tensor]) -> Tensor:
            return xs[0]


def test_missing_annotations_are_refused():
    with pytest.raises(ValueError, match="must have a type annotation"):

        @shared.op("declare::untyped")
        def untyped(x) -> Tensor:
            return x


def test_a_name_belongs_to_one_module():
    def reference(x: Tensor) -> Tensor:
        return x

    reference.__module__ = "another.module"
    with pytest.raises(
        ValueError, match=f"'declare::scaled' is already declared in {__name__}; choose another"
    ):
        shared.op("declare::scaled")(reference)
    assert scaled(X)[1, 2] == 10


def test_declaring_again_in_the_same_module_replaces():
    """As a notebook cell does, or `importlib.reload`."""

    def cell(factor):
        @shared.op("declare::cell")
        def cell(x: Tensor) -> Tensor:
            return x * factor

        cell.derivative(saves=lambda x: ())(lambda saved, needs, grad: grad * factor)
        cell.autocast(cpu=torch.float32)
        cell.cost(lambda x: Cost(flops=factor, bytes=0))
        return cell

    cell(2)
    again = cell(3)
    x = X.clone().requires_grad_()
    again(x).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 3.0))
    assert shared.registry()["declare::cell"] is again
    assert torch.equal(torch.func.vmap(again)(X), 3 * X)


# calls


def test_defaults_and_keywords():
    assert torch.equal(scaled(X), 2 * X)
    assert torch.equal(scaled(X, shift=1), 2 * X + 1)
    assert torch.equal(scaled(shift=1, x=X, factor=3.0), 3 * X + 1)
    x = X.clone().requires_grad_()
    scaled(x, factor=5.0).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 5.0))


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((X, 1.0, 2, 3), {}), ((X,), {"colour": 1}), ((X, 1.0), {"factor": 2.0})]
)
def test_wrong_calls_are_errors(args, kwargs):
    with pytest.raises((TypeError, RuntimeError)):
        scaled(*args, **kwargs)


def test_several_outputs_are_a_tuple_of_fresh_tensors():
    @shared.op("declare::parts")
    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        doubled = 2 * x
        return x, doubled, doubled.t()

    first, second, third = parts(X)
    assert torch.equal(first, X)
    assert torch.equal(third, 2 * X.t())
    pointers = {t.untyped_storage().data_ptr() for t in (X, first, second, third)}
    assert len(pointers) == 4
    assert all(t.is_contiguous() for t in (first, second, third))


def test_a_reference_may_return_its_argument():
    @shared.op("declare::same")
    def same(x: Tensor) -> Tensor:
        return x

    out = same(X)
    assert out.data_ptr() != X.data_ptr()
    assert same(X.t()).is_contiguous()
    assert not same(torch.complex(X, X).conj()).is_conj()


# rules


@pytest.mark.parametrize("rule", ["fake", "cost"])
def test_rules_must_take_the_reference_parameters(rule):
    with pytest.raises(TypeError, match=rf"{rule} must take \(x, factor, shift\), it takes \(x\)"):
        getattr(scaled, rule)(lambda x: None)


def test_batch_axes_must_name_tensors():
    with pytest.raises(ValueError, match="batch_axes takes x, received 'factor'"):
        scaled.samples(batch_axes={"factor": 0})


def test_samples_come_complete_and_fresh():
    @shared.op("declare::sampled")
    def sampled(x: Tensor, n: int = 4) -> Tensor:
        return x * n

    assert sampled.sample_arguments() == []

    @sampled.samples(batch_axes={"x": 1})
    def _():
        yield (X.double(),)
        yield X.double(), 5

    assert [sample[1] for sample in sampled.sample_arguments()] == [4, 5]
    assert sampled.batch_axes == {"x": 1}
    sampled.samples(lambda: [(X.double(), 1)])
    assert len(sampled.sample_arguments()) == 1
    assert sampled.batch_axes is None


def test_autocast_by_device():
    @shared.op("declare::cast")
    def cast(x: Tensor, index: Tensor) -> Tensor:
        return x @ x.t() + index.sum()

    cast.autocast(cpu=torch.float32)
    index = torch.ones(2, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        assert cast(X, index).dtype == torch.float32
        assert cast(X.bfloat16(), index).dtype == torch.float32
        assert cast(X.double(), index).dtype == torch.float64
        assert torch.func.vmap(cast, (0, None))(X.bfloat16()[None], index).dtype == torch.float32
        primal, _ = torch.func.jvp(lambda x: cast(x, index), (X.bfloat16(),), (X.bfloat16(),))
        assert primal.dtype == torch.float32
    assert cast(X.bfloat16(), index).dtype == torch.bfloat16


def test_cost_reaches_the_flop_counter():
    @shared.op("declare::costly")
    def costly(x: Tensor, n: int = 7) -> Tensor:
        return x * n

    with pytest.raises(ValueError, match=r"declare::costly declares no cost model; add one"):
        costly.estimate(X)

    @costly.cost
    def _(x, n):
        return Cost(flops=n * x.numel(), bytes=8 * x.numel())

    assert costly.estimate(X) == Cost(flops=42, bytes=48)
    assert costly.estimate(X, 2).flops == 12
    with FlopCounterMode(display=False) as counter:
        costly(X)
        costly(X, 2)
        costly(X, n=1)
    assert counter.get_total_flops() == 42 + 12 + 6


# copies


def test_ops_are_copied_and_pickled_by_name():
    assert copy.deepcopy(scaled) is scaled
    assert copy.copy(scaled) is scaled
    assert pickle.loads(pickle.dumps(scaled)) is scaled


def test_unpickling_imports_the_module(tmp_path, monkeypatch):
    (tmp_path / "declared_elsewhere.py").write_text(
        "import shared\nfrom torch import Tensor\n\n@shared.op('declare::elsewhere')\n"
        "def elsewhere(x: Tensor) -> Tensor:\n    return x + 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("declared_elsewhere")
    (tmp_path / "op.pickle").write_bytes(pickle.dumps(module.elsewhere))
    code = "import pickle, sys, torch; print(pickle.load(open(sys.argv[1], 'rb'))(torch.ones(1)).item())"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "op.pickle"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=120,
    )
    assert done.stdout.strip() == "2.0", done.stderr


# plug-ins


@pytest.fixture
def plugins(monkeypatch, tmp_path):
    def install(*entries):
        catalogue.load_plugins.cache_clear()
        monkeypatch.setattr(catalogue, "entry_points", lambda group: [e for e in entries if e.group == group])

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    catalogue.load_plugins.cache_clear()


def test_plugins_are_loaded_for_the_registry(plugins, tmp_path):
    (tmp_path / "plugin_ops.py").write_text(
        textwrap.dedent("""
        import shared
        from torch import Tensor

        @shared.op("declare::plugged")
        def plugged(x: Tensor) -> Tensor:
            return -x
        """)
    )
    plugins(
        EntryPoint("plugin", "plugin_ops", "qbio.ops"), EntryPoint("other", "no_such_module", "qbio.heads")
    )
    assert "plugin_ops" not in sys.modules
    assert torch.equal(shared.registry()["declare::plugged"](X), -X)


def test_a_plugin_that_fails_is_named(plugins):
    plugins(EntryPoint("shaky", "no_such_module.ops", "qbio.ops"))
    with pytest.raises(
        UserError, match=r"plug-in 'shaky' of .*: expected no_such_module.ops to import, received Module"
    ):
        shared.registry()


def test_the_registry_is_a_copy():
    shared.registry().clear()
    assert "declare::scaled" in shared.registry()
