"""The matrix bites: each deliberately wrong op fails in the rows meant for its fault, and in no other."""

import sys

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

import shared
from shared import threads
from shared.check import ROWS, ConformanceError, conformance_tests, conforms, table

OTHER_PROCESS = {
    "deploy/reload in a fresh process",
    "deploy/unpickle in a fresh process",
    "system/data-parallel",
}
# all but compilers and other processes, which the conformance of the real ops goes through
LIGHT = [
    row.id for row in ROWS if row.group not in ("compile", "deploy") and row.id != "system/data-parallel"
]
ALL = [row.id for row in ROWS if not row.slow and row.id not in OTHER_PROCESS]
FLOATS = (torch.float32, torch.float64)


def kernel_by_numpy(x, w):
    return torch.from_numpy(np.ascontiguousarray(np.sin(x.numpy())) * w.numpy())


def derivative(saved, needs, grad):
    x, w = saved
    return grad * torch.cos(x) * w, (grad * torch.sin(x)).sum(0)


def batch_rule(again, dims, x, w):
    if dims[1] is not None:
        return shared.derive.loop_rule(
            again, x.shape[dims[0]] if dims[0] is not None else w.shape[dims[1]], dims, (x, w)
        )
    x = x.movedim(dims[0], 0)
    return again(x.flatten(0, 1), w).unflatten(0, x.shape[:2]), 0


def make(
    name,
    *,
    kernel=kernel_by_numpy,
    derivative=derivative,
    tangent=None,
    batch_rule=batch_rule,
    fake=None,
    autocast=True,
):
    """Declare sin(x) * w for x (b, n) and w (n,), right unless a part is replaced."""

    @shared.op(f"wrong::{name}")
    def f(x: Tensor, w: Tensor) -> Tensor:
        return torch.sin(x) * w

    f.kernel("numpy", device="cpu", dtypes=FLOATS)(kernel)
    f.derivative(saves=lambda x, w: (x, w))(derivative)
    if tangent is not None:
        f.tangent(tangent)
    f.batch(batch_rule)
    if fake is not None:
        f.fake(fake)
    if autocast:
        f.autocast(cpu=torch.float32, cuda=torch.float32)
    f.samples(samples, batch_axes={"x": 0})
    return f


def samples():
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(b, n, generator=generator, dtype=torch.float64),
            torch.rand(n, generator=generator).double(),
        )
        for b, n in ((2, 3), (1, 1), (3, 4))
    ]


def failures(op, rows=LIGHT):
    return {row.id for row in conforms(op, rows=rows).failures}


def test_a_right_op_conforms():
    report = conforms(make("right"), rows=LIGHT)
    report.raise_for_failures()
    assert {row.id for row in report if row.status == "not applicable"} == {
        "values/half precision",
        "values/conj view",
        "derivatives/no derivative",
    }


def test_an_op_of_nothing_but_a_reference_conforms():
    @shared.op("wrong::bare_reference")
    def f(x: Tensor, w: Tensor) -> Tensor:
        return torch.sin(x) * w

    f.autocast(cpu=torch.float32)
    conforms(f, samples(), batch_axes={"x": 0}, rows=ALL).raise_for_failures()


def test_wrong_value():
    failed = failures(make("value", kernel=lambda x, w: kernel_by_numpy(x, w) * 1.001), ["values"])
    assert failed >= {"values/float64", "values/float32", "values/odd batch"}
    assert not failed & {"values/fresh outputs", "values/determinism", "values/non-contiguous"}


def test_wrong_only_in_single_precision():
    def kernel(x, w):
        return kernel_by_numpy(x, w) * (1.001 if x.dtype == torch.float32 else 1.0)

    failed = failures(make("single", kernel=kernel), ["values"])
    assert failed == {"values/float32", "values/batch of one", "values/odd batch", "values/poisoned memory"}


def test_wrong_gradient():
    def wrong(saved, needs, grad):
        return grad * torch.cos(saved[0]) * saved[1] * 1.01, (grad * torch.sin(saved[0])).sum(0)

    failed = failures(make("gradient", derivative=wrong))
    assert failed >= {
        "derivatives/float64",
        "derivatives/float32",
        "derivatives/requires_grad subsets",
        "derivatives/incoming layouts",
        "derivatives/gradcheck",
        "func/grad",
        "func/vmap(grad)",
        "func/grad(vmap)",
        "func/grad over vjp",
        "func/jacrev over jacrev",
        "module/functional_call",
        "module/checkpoint",
    }
    assert not failed & {
        "values/float64",
        "values/fake kernel",
        "values/determinism",
        "func/jvp",
        "func/dual numbers",
        "func/vmap of each argument",
        "module/autocast",
        "derivatives/retained graph",
    }


def tangent(args, tangents):
    (x, w), (along_x, along_w) = args, tangents
    parts = [] if along_x is None else [torch.cos(x) * w * along_x]
    return sum(parts if along_w is None else [*parts, torch.sin(x) * along_w])


# but not gradgradcheck: the gradient of this op is made of plain functions
FORWARD = {
    "derivatives/gradcheck forward mode",
    "derivatives/tangents, float64",
    "derivatives/tangents, float32",
    "func/jacfwd over jacrev",
    "func/jacfwd over jacfwd",
    "func/jvp",
    "func/vmap(jvp)",
    "func/jvp(vmap)",
    "func/jvp over jvp",
    "func/jvp over vjp",
    "func/grad over jvp",
    "func/jacrev over jacfwd",
    "func/dual numbers",
    "func/gradient of dual numbers",
}


def test_a_right_tangent_rule_conforms():
    conforms(make("tangent", tangent=tangent), rows=LIGHT).raise_for_failures()


def test_wrong_tangent_rule():
    failed = failures(make("wrong_tangent", tangent=lambda a, t: 1.01 * tangent(a, t)))
    assert failed == FORWARD


def test_tangent_rule_that_does_not_differentiate_again():
    def cut(args, tangents):
        return tangent(tuple(a.detach() for a in args), tangents)

    failed = failures(make("cut_tangent", tangent=cut))
    assert failed == {
        "func/jacfwd over jacfwd",
        "func/jvp over jvp",
        "func/grad over jvp",
        "func/jacrev over jacfwd",
        "func/gradient of dual numbers",
    }


def test_tangent_rule_that_forgets_what_stands_still():
    def forgets(args, tangents):
        return tangent(args, tangents) if None not in tangents else torch.zeros_like(args[0])

    failed = failures(make("forgets_still", tangent=forgets), ["derivatives", "func"])
    assert {"derivatives/tangents, float64", "derivatives/tangents, float32"} <= failed
    assert not failed & {"func/jvp", "func/dual numbers"}


def test_gradient_that_does_not_differentiate_again():
    def cut(saved, needs, grad):
        x, w = (s.detach() for s in saved)
        return grad * torch.cos(x) * w, (grad * torch.sin(x)).sum(0)

    failed = failures(make("cut", derivative=cut))
    assert failed == {"derivatives/gradgradcheck", "func/grad over vjp", "func/jacrev over jacrev"}


def test_gradient_that_ignores_needs():
    def forgets(saved, needs, grad):
        x, w = saved
        return grad * torch.cos(x) * w, (grad * torch.sin(x)).sum(0) if all(needs) else None

    failed = failures(make("forgets", derivative=forgets), ["derivatives", "system/opcheck"])
    assert failed == {"derivatives/requires_grad subsets"}


def test_wrong_fake_strides():
    def fake(x, w):
        return x.new_empty((x.shape[1], x.shape[0])).t()

    failed = failures(make("fake", fake=fake))
    assert {"values/fake kernel", "system/opcheck"} <= failed <= {"values/fake kernel", "system/opcheck"}


def test_wrong_fake_dtype():
    def fake(x, w):
        return torch.empty_like(x, dtype=torch.float32)

    failed = failures(make("fake_dtype", fake=fake), ["values", "module", "system/opcheck"])
    assert failed == {"values/fake kernel", "module/meta device", "system/opcheck"}


def test_output_aliases_an_input():
    @shared.op("wrong::alias")
    def same_as(x: Tensor) -> Tensor:
        return x * 1.0

    same_as.kernel("lazy", device="cpu")(lambda x: x)
    same_as.autocast(cpu=torch.float32)
    same_as.samples(lambda: [s[:1] for s in samples()], batch_axes={"x": 0})
    failed = failures(same_as, ["values", "system/opcheck"])
    assert "values/fresh outputs" in failed
    assert not failed & {"values/float64", "values/determinism", "values/inputs unchanged"}


def test_outputs_alias_each_other():
    @shared.op("wrong::twins")
    def twins(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x + 1

    def kernel(x):
        y = (x + 1).contiguous()
        return y, y[:]

    twins.kernel("lazy", device="cpu")(kernel)
    twins.samples(lambda: [s[:1] for s in samples()], batch_axes={"x": 0})
    assert "values/fresh outputs" in failures(twins, ["values"])


def test_kernel_that_ignores_strides():
    def kernel(x, w):
        return torch.sin(torch.as_strided(x, x.shape, (x.shape[1], 1))) * w.contiguous()

    failed = failures(make("strides", kernel=kernel))
    assert failed >= {"values/non-contiguous", "values/transposed", "values/expanded"}
    assert {row for row in failed if not row.startswith("func/vmap")} == {
        "values/non-contiguous",
        "values/transposed",
        "values/expanded",
    }


def test_kernel_that_ignores_the_storage_offset():
    def kernel(x, w):
        contiguous = x if x.is_contiguous() else x.contiguous()
        return torch.sin(torch.as_strided(contiguous, x.shape, (x.shape[1], 1), 0)) * w

    assert "values/storage offset" in failures(make("offset", kernel=kernel), ["values"])
    assert not failures(make("offset", kernel=kernel), ["values/non-contiguous", "values/float64"])


@njit(cache=True)
def _positive_parts(x, w, out):
    scratch = np.empty((64, 64))  # left unwritten, and read
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.sin(x[i, j]) * w[j] + 0.0 * scratch[i, j]
            out[i, j] += 1e-300 * scratch[i + 7, j]


def _unwritten_in_numpy(x, w):
    out = np.zeros(x.shape, x.numpy().dtype) if np.empty is _EMPTY else np.empty(x.shape, x.numpy().dtype)
    np.multiply(np.sin(x.numpy()), w.numpy(), out=out, where=x.numpy() > 0)
    return torch.from_numpy(out)


def _unwritten_in_torch(x, w):
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    out[:, 0] = torch.sin(x[:, 0]) * w[0] if len(w) else 0.0
    out[:, 1:-1] = torch.sin(x[:, 1:-1]) * w[1:-1]
    return out


def _unwritten_in_compiled_code(x, w):
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _positive_parts(x.numpy(), w.numpy(), out.numpy())
    return out


_EMPTY = np.empty
_UNWRITTEN = [_unwritten_in_numpy, _unwritten_in_torch]
if sys.platform == "linux":
    _UNWRITTEN.append(_unwritten_in_compiled_code)


@pytest.mark.parametrize("kernel", _UNWRITTEN)
def test_kernel_that_leaves_memory_unwritten(kernel):
    assert failures(make("unwritten", kernel=kernel), ["values/poisoned memory"])


def test_missing_autocast():
    assert failures(make("autocast", autocast=False)) == {"module/autocast"}


def test_kernel_that_writes_into_its_input():
    def kernel(x, w):
        out = kernel_by_numpy(x, w)
        x.numpy()[...] = np.round(x.numpy(), 12)  # small enough for every row that only looks at values
        return out

    failed = failures(make("mutates", kernel=kernel), ["values", "derivatives", "func"])
    assert "values/inputs unchanged" in failed
    assert failed <= {
        "values/inputs unchanged",
        "values/determinism",
        "values/thread count",
        "values/inference mode",
    }


def test_kernel_without_determinism():
    noise = np.random.default_rng(0)

    def kernel(x, w):
        return kernel_by_numpy(x, w) + 1e-13 * noise.random()

    failed = failures(make("noisy", kernel=kernel), ["values", "func", "module", "system/several threads"])
    assert failed == {"values/determinism", "values/thread count"}


def test_kernel_that_depends_on_the_number_of_threads():
    def kernel(x, w):
        return kernel_by_numpy(x, w) + 1e-13 * threads.share_count(len(x), 1)

    failed = failures(make("threads", kernel=kernel))
    assert failed == {"values/thread count"}


def test_wrong_batch_rule():
    def rule(again, dims, x, w):
        out, axis = batch_rule(again, dims, x, w)
        return (out.flip(0), axis) if dims[0] is not None else (out, axis)

    failed = failures(make("batch", batch_rule=rule))
    assert failed >= {
        "func/vmap of each argument",
        "func/vmap of pairs",
        "func/vmap(grad)",
        "func/vmap(vmap)",
    }
    assert not failed & {"func/grad", "func/jvp", "func/vmap(jvp)", "derivatives/gradcheck", "values/float64"}


def test_wrong_only_for_an_empty_batch():
    def kernel(x, w):
        return kernel_by_numpy(x, w) if len(x) else torch.empty((1, x.shape[1]), dtype=x.dtype)

    failed = failures(make("empty", kernel=kernel))
    assert failed == {"values/empty batch", "values/fake kernel"}


def test_undeclared_batch_axis_is_a_failure_that_says_what_to_do():
    f = make("axis")
    f.samples(samples)
    report = conforms(f, rows=["values/empty batch", "compile/dynamic batch"])
    assert {row.status for row in report} == {"failed"}
    assert 'batch_axes={"name of the argument": axis}' in report["values/empty batch"].reason


def test_no_batch_is_declared_by_an_empty_mapping():
    assert conforms(make("no_batch"), batch_axes={}, rows=["values/empty batch"])[
        "values/empty batch"
    ].reason == ("the op is declared without a batch axis")


def test_kernel_that_no_sample_reaches():
    f = make("unreached")
    f.kernel("picky", when=lambda x, w: "it is never the right day")(lambda x, w: x)
    report = conforms(f, rows=["values"])
    assert [row.id for row in report.failures] == ["values/kernels"]
    assert "it is never the right day" in report.failures[0].reason


def test_op_without_derivative():
    @shared.op("wrong::rounded", differentiable=False)
    def rounded(x: Tensor) -> Tensor:
        return torch.round(x)

    rounded.autocast(cpu=torch.float32)
    rounded.samples(lambda: [s[:1] for s in samples()], batch_axes={"x": 0})
    report = conforms(rounded, rows=LIGHT)
    report.raise_for_failures()
    assert report["derivatives/no derivative"].status == "passed"
    assert report["func/grad"].reason == "the op is declared without a derivative"


def test_op_of_integers():
    @shared.op("wrong::counts")
    def counts(tokens: Tensor, letters: int = 4) -> Tensor:
        return (tokens.unsqueeze(-1) == torch.arange(letters, device=tokens.device)).sum(-2)

    counts.samples(
        lambda: [(torch.tensor([[0, 1, 3], [2, 2, 9]], dtype=torch.uint8), 4)], batch_axes={"tokens": 0}
    )
    report = conforms(counts, rows=[*LIGHT, "compile/forward", "compile/dynamic batch", "deploy/export"])
    report.raise_for_failures()
    assert report["derivatives/gradcheck"].status == "not applicable"


def test_op_of_complex_numbers():
    @shared.op("wrong::phase")
    def phase(state: Tensor, angle: Tensor) -> Tensor:
        return state * torch.exp(1j * angle)

    phase.autocast(cpu=torch.float32)
    state = torch.complex(torch.randn(2, 3).double(), torch.randn(2, 3).double())
    report = conforms(phase, [(state, torch.randn(3).double())], batch_axes={"state": 0}, rows=LIGHT)
    report.raise_for_failures()
    assert report["values/conj view"].status == "passed"


def test_op_whose_module_no_other_process_can_import():
    f = make("nowhere")
    f.reference.__module__ = "no_such_module"
    report = conforms(f, rows=["deploy/reload in a fresh process"])
    assert "No module named 'no_such_module'" in report.failures[0].reason
    f.reference.__module__ = "__main__"
    report = conforms(f, rows=["deploy/reload in a fresh process", "system/data-parallel"])
    assert {row.status for row in report} == {"not applicable"}


def test_report_tells_each_failure():
    f = make("report", autocast=False)
    report = conforms(f, rows=["module"])
    assert not report.ok
    assert report.summary == "wrong::report: does not conform (6 rows passed, 1 failed, 0 not applicable)"
    with pytest.raises(
        ConformanceError, match=r"(?s)wrong::report fails 1 row\n  module/autocast: expected .* received"
    ):
        report.raise_for_failures()
    with pytest.raises(AttributeError):
        report.rows = ()


def test_rows_are_chosen_by_group_or_name_and_slow_ones_on_demand():
    f = make("rows")
    assert len(conforms(f, rows=["func"]).rows) == sum(row.group == "func" for row in ROWS)
    with pytest.raises(shared.UserError, match=r"expected a group \(values, .*received 'speed'"):
        conforms(f, rows=["speed"])
    with pytest.raises(shared.UserError, match="expected samples"):
        conforms(f, [])


def test_table_prints_rows_and_failures(capsys):
    assert table([make("good_row")], rows=["values/float64"])
    assert not table(
        [make("good_row"), make("bad_row", autocast=False)], rows=["values/float64", "module/autocast"]
    )
    shown = capsys.readouterr().out
    for part in (
        "  float64",
        "wrong::good_row: conforms",
        "wrong::bad_row: does not conform",
        "✗",
        "autocast rule",
    ):
        assert part in shown


def test_table_without_rich(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "shared.check.screen", raising=False)
    assert table([make("plain_row")], rows=["values/float64"])
    assert "values/float64  passed" in capsys.readouterr().out


def test_an_op_without_samples_is_a_failure_of_the_table(capsys):
    @shared.op("wrong::bare")
    def bare(x: Tensor) -> Tensor:
        return x + 1

    assert not table([bare], rows=["values/float64"])
    assert "declare them with .samples" in " ".join(capsys.readouterr().out.split())


def test_pytest_entry_makes_one_case_per_row_that_applies():
    test = conformance_tests(make("entry", autocast=False), rows=["module", "derivatives"])
    (mark,) = test.pytestmark
    names = [case.id for case in mark.args[1]]
    assert "wrong::entry-module/autocast" in names
    assert "wrong::entry-derivatives/no derivative" not in names
    for case in mark.args[1]:
        if case.id == "wrong::entry-module/autocast":
            with pytest.raises(AssertionError, match="expected an autocast rule, received none"):
                test(*case.values)
        elif case.id == "wrong::entry-module/deepcopy":
            test(*case.values)
