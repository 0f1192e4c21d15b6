"""Which kernel runs, why, and what is said when none can."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from torch import Tensor

import shared
from shared import UserError, dispatch
from shared.dispatch import NoProviderError

ran: list[str] = []


@shared.op("dispatch::f")
def f(x: Tensor, y: Tensor, power: int = 2) -> Tensor:
    ran.append("reference")
    return x**power + y


def add(op, provider, **options):
    def kernel(x, y, power):
        ran.append(provider)
        return x**power + y

    op.kernel(provider, **options)(kernel)


add(f, "ordinary", device="cpu", dtypes=(torch.float32, torch.float64))
add(f, "single", device="cpu", dtypes=(torch.float32,), priority=2)
add(f, "shy", priority=1, when=lambda x, y, power: None if power == 3 else f"needs power 3, got {power}")
add(f, "elsewhere", device="cuda", priority=9)
add(f, "absent", needs=("no_such_package",), priority=9)
add(f, "broken", available=lambda: "libbroken.so not built", priority=9)

X = torch.ones(2, 3)
Y = torch.ones(3)


@pytest.fixture(autouse=True)
def _clean():
    ran.clear()


def who(*args, op=f):
    ran.clear()
    op(*args)
    (provider,) = ran
    return provider


def test_priority_decides_among_those_that_fit():
    assert who(X, Y) == "single"
    assert who(X.double(), Y.double()) == "ordinary"
    assert who(X.double(), Y.double(), 3) == "shy"
    assert who(X.bfloat16(), Y.bfloat16()) == "reference"
    assert who(X.bfloat16(), Y.bfloat16(), 3) == "shy"


def test_equal_priorities_keep_the_order_of_declaration():
    @shared.op("dispatch::tie")
    def tie(x: Tensor, y: Tensor, power: int = 2) -> Tensor:
        return x

    add(tie, "earlier")
    add(tie, "later")
    assert who(X, Y, op=tie) == "earlier"


def test_mixed_floating_dtypes_go_to_the_reference():
    assert who(X, Y.double()) == "reference"
    assert "takes float32, got float64" in str(f.explain(X, Y.double()))
    assert "needs one floating dtype, got float32, float64" in str(f.explain(X, Y.double()))


def test_integer_arguments_do_not_count_as_dtypes():
    assert who(X, torch.ones(3, dtype=torch.int64)) == "single"


def test_meta_tensors_run_nothing():
    assert f(X.to("meta"), Y.to("meta")).is_meta
    assert set(ran) <= {"reference"}


def test_explain_prints_every_provider_and_its_reason():
    assert str(f.explain(X.double(), Y.double())) == textwrap.dedent("""\
        dispatch::f(x: float64[2, 3] cpu, y: float64[3] cpu, power: 2)
          elsewhere  needs cuda tensors, got cpu
          absent     no_such_package is not installed
          broken     libbroken.so not built
          single     takes float32, got float64
          shy        needs power 3, got 2
          ordinary   chosen
          reference  outranked""")


def test_explain_as_data_and_under_a_preference():
    assert shared.explain(f, X, Y, 3).chosen == "single"
    with f.prefer("reference"):
        explanation = f.explain(X, Y)
    assert explanation.chosen == "reference"
    reasons = {v.provider: v.reason for v in explanation.verdicts}
    assert reasons["single"] == "not preferred here (preferred: reference)"
    assert reasons["reference"] is None


def test_explain_runs_nothing():
    f.explain(X, Y)
    assert ran == []


# preferences


def test_prefer_is_scoped_and_nests():
    with shared.prefer("reference"):
        assert who(X, Y) == "reference"
        with f.prefer("ordinary"):
            assert who(X, Y) == "ordinary"
            with shared.prefer("single"):
                assert who(X, Y) == "single"
            assert who(X, Y) == "ordinary"
        assert who(X, Y) == "reference"
    assert who(X, Y) == "single"


def test_prefer_ends_with_an_exception():
    with pytest.raises(KeyError), shared.prefer("reference"):
        raise KeyError
    assert who(X, Y) == "single"


def test_prefer_tries_in_the_order_given():
    with shared.prefer("ordinary", "single"):
        assert who(X, Y) == "ordinary"
    with shared.prefer("absent", "shy", "reference"):
        assert who(X, Y) == "reference"
        assert who(X, Y, 3) == "shy"


def test_prefer_for_one_op_leaves_others():
    @shared.op("dispatch::g")
    def g(x: Tensor, y: Tensor, power: int = 2) -> Tensor:
        ran.append("reference")
        return x + y

    add(g, "ordinary")
    with f.prefer("reference"):
        assert who(X, Y, op=g) == "ordinary"
        assert who(X, Y) == "reference"
    with shared.prefer("single"):  # g has no such provider: not affected
        assert who(X, Y, op=g) == "ordinary"


def test_prefer_holds_in_the_backward_pass():
    @shared.op("dispatch::h")
    def h(x: Tensor, y: Tensor, power: int = 2) -> Tensor:
        ran.append("reference")
        return x + y

    add(h, "ordinary")
    h.derivative(saves=lambda x, y, power: (x, y))(lambda saved, needs, grad: (h(grad, grad), None, None))
    with h.prefer("reference"):
        h(X.clone().requires_grad_(), Y).sum().backward()
    assert ran == ["reference", "reference"]


def test_prefer_belongs_to_its_thread():
    found = []
    with shared.prefer("reference"):
        thread = threading.Thread(target=lambda: found.append(f.explain(X, Y).chosen))
        thread.start()
        thread.join()
        assert f.explain(X, Y).chosen == "reference"
    assert found == ["single"]


def test_prefer_refuses_an_unknown_provider():
    with (
        pytest.raises(UserError, match=r"expected a provider among .*ordinary.*, received 'fastest'"),
        shared.prefer("fastest"),
    ):
        pass


def test_compiled_code_follows_the_preference_of_the_call():
    torch._dynamo.reset()
    call = torch.compile(lambda x, y: f(x, y), fullgraph=True, backend="aot_eager")
    call(X, Y)
    ran.clear()
    call(X, Y)
    assert ran == ["single"]
    with shared.prefer("ordinary"):
        ran.clear()
        call(X, Y)
    assert ran == ["ordinary"]


SCRIPT = """
import torch, shared
from torch import Tensor

for name in ("env::f", "env::g"):
    @shared.op(name)
    def op(x: Tensor) -> Tensor:
        return x + 1
    op.kernel("ordinary")(lambda x: x + 1)
    op.kernel("special", priority=1)(lambda x: x + 1)

x = torch.ones(2)
for name in ("env::f", "env::g"):
    shared.registry()[name](x)
    print(shared.registry()[name].explain(x).chosen)
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ["special", "special"]),
        ("reference", ["reference", "reference"]),
        ("ordinary, reference", ["ordinary", "ordinary"]),
        ("env::g=ordinary", ["special", "ordinary"]),
        ("reference; env::g = ordinary", ["reference", "ordinary"]),
        ("env::f=fastest", "QBIO_PREFER (env::f): expected a provider among"),
        ("fastest", "QBIO_PREFER: expected a provider among"),
    ],
)
def test_the_environment_variable(value, expected):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "QBIO_PREFER": value}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=120
    )
    if isinstance(expected, str):
        assert expected in done.stderr
        assert done.returncode == 1
    else:
        assert done.stdout.split() == expected, done.stderr


# refusals


def test_an_error_lists_every_provider_and_the_arguments():
    with shared.prefer("shy", "elsewhere"), pytest.raises(NoProviderError) as caught:
        f(X, Y.double())
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert message.startswith("no provider can run this call\ndispatch::f(")
    for line in (
        "x: float32[2, 3] cpu, y: float64[3] cpu, power: 2",
        "shy        needs power 3, got 2",
        "elsewhere  needs cuda tensors, got cpu",
        "ordinary   not preferred here (preferred: shy, elsewhere)",
        "reference  not preferred here",
    ):
        assert line in message


def test_tensors_on_two_devices_are_told():
    assert "needs cpu tensors, got cpu and meta" in str(f.explain(X, Y.to("meta")))


# lazy kernels


@pytest.fixture
def kernel_module(tmp_path, monkeypatch):
    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return write


def declare(name):
    @shared.op(f"dispatch::{name}")
    def op(x: Tensor, y: Tensor, power: int = 2) -> Tensor:
        return x**power + y

    return op


def test_a_target_is_imported_when_first_wanted(kernel_module):
    module = kernel_module("kernels_lazy", "def run(x, y, power):\n    return x * 0 + 42\n")
    op = declare("lazy")
    op.kernel("later", target=f"{module}:run", dtypes=(torch.float32,))
    op.explain(X, Y)
    op(X.double(), Y.double())
    assert module not in sys.modules
    assert op(X, Y).unique().tolist() == [42.0]
    assert module in sys.modules


def test_a_kernel_whose_parameters_differ_is_refused(kernel_module):
    op = declare("refusing")
    with pytest.raises(
        TypeError, match=r"kernel 'swapped' must take \(x, y, power\), it takes \(y, x, power\)"
    ):
        op.kernel("swapped")(lambda y, x, power: x)
    assert op.kernels == []
    module = kernel_module("kernels_wrong", "def run(x, y):\n    return x\n")
    op.kernel("late", target=f"{module}:run")
    with pytest.raises(TypeError, match=r"kernel 'late' must take \(x, y, power\), it takes \(x, y\)"):
        op(X, Y)


def test_a_kernel_added_later_is_seen():
    op = declare("growing")
    assert op.explain(X, Y).chosen == "reference"
    op(X, Y)
    add(op, "new")
    assert who(X, Y, op=op) == "new"


def test_availability_is_asked_once():
    asked = []
    op = declare("asked")
    add(op, "tool", available=lambda: asked.append(1))
    for dtype in (torch.float32, torch.float64):
        op(X.to(dtype), Y.to(dtype))
    assert asked == [1]


def test_when_is_asked_at_every_call():
    op = declare("moody")
    mood = [None]
    add(op, "moody", when=lambda x, y, power: mood[0])
    op(X, Y)
    mood[0] = "not today"
    op(X, Y)
    assert ran == ["moody"]
    assert dispatch.explain(op, X, Y).verdicts[0].reason == "not today"


def test_when_sees_default_arguments():
    op = declare("defaulted")
    add(op, "powers", when=lambda x, y, power: None if power == 2 else "no")
    op(X, Y)
    assert ran == ["powers"]


def test_the_choice_is_quick():
    """A cached choice is a dictionary look-up: well under the few microseconds that an op costs anyway."""
    import timeit

    args = (X, Y, 2)
    dispatch.choose(f, args)
    best = min(timeit.repeat(lambda: dispatch.choose(f, args), number=1000, repeat=5)) / 1000
    assert best < 50e-6
