"""The device under JAX, against default.qubit; collected where JAX is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest

# of PennyLane's own calls of JAX
pytestmark = pytest.mark.filterwarnings("ignore:jax.core:DeprecationWarning")

TRANSFORMS = {
    "value": lambda cost: cost,
    "jit": jax.jit,
    "grad": lambda cost: jax.grad(cost, (0, 1)),
    "jit of grad": lambda cost: jax.jit(jax.grad(cost, (0, 1))),
    "jvp": lambda cost: lambda x, y: jax.jvp(cost, (x, y), (jnp.ones_like(x), jnp.ones_like(y))),
    "hessian": jax.hessian,
    "forward over forward": lambda cost: jax.jacfwd(jax.jacfwd(cost)),
    "reverse over reverse": lambda cost: jax.jacrev(jax.jacrev(cost)),
    "jit of hessian": lambda cost: jax.jit(jax.hessian(cost)),
    "vmap": lambda cost: lambda x, y: jax.vmap(cost, (0, None))(jnp.stack([x, 2 * x]), y),
    "vmap of grad": lambda cost: lambda x, y: jax.vmap(jax.grad(cost), (None, 0))(x, jnp.stack([y, y / 2])),
}


@pytest.fixture(autouse=True)
def _double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def circuit(x, y):
    qml.RX(x, 0)
    qml.CNOT([0, 1])
    qml.CRY(x * y, [1, 2])
    qml.Rot(y, 0.4, x, 0)
    return qml.expval(qml.Z(0) @ qml.X(2)), qml.probs([1, 2]), qml.state()


def cost_on(device, **options):
    qnode = qml.QNode(circuit, device, **options)

    def cost(x, y):
        value, probabilities, state = qnode(x, y)
        product = (state[..., 1] * jnp.conj(state[..., 2]) * (1 + 2j)).sum()
        return jnp.sin(value).sum() + (probabilities**2).sum() + jnp.real(product)

    return cost


@pytest.mark.parametrize(
    ("transform", "method", "x"),
    [(name, "best", 0.3) for name in TRANSFORMS]
    + [(name, "adjoint", 0.3) for name in ("jit", "grad", "hessian", "vmap of grad")]
    + [(name, "best", [0.3, 0.7]) for name in ("value", "jit of grad", "jvp", "vmap")],
)
def test_against_default_qubit(transform, method, x):
    x, y = jnp.array(x), jnp.array(0.9)
    ours = TRANSFORMS[transform](cost_on(qml.device("qbio.simulator", wires=3), diff_method=method))(x, y)
    theirs = TRANSFORMS[transform](cost_on(qml.device("default.qubit", wires=3)))(x, y)
    for a, b in zip(jax.tree_util.tree_leaves(ours), jax.tree_util.tree_leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_third_derivative():
    def third(device):
        cost = cost_on(device)
        along = jax.grad(lambda x, y: jax.jvp(jax.grad(cost), (x, y), (1.0, 0.5))[1])
        return along(jnp.array(0.3), jnp.array(0.9))

    ours, theirs = (third(qml.device(name, wires=3)) for name in ("qbio.simulator", "default.qubit"))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-10)


def test_single_precision_where_double_is_not_enabled():
    jax.config.update("jax_enable_x64", False)
    cost = cost_on(qml.device("qbio.simulator", wires=3))
    value, slope = jax.value_and_grad(cost)(jnp.array(0.3), jnp.array(0.9))
    assert value.dtype == slope.dtype == jnp.float32


def test_shots():
    @qml.set_shots(10_000)
    @qml.qnode(qml.device("qbio.simulator", wires=1, seed=2), diff_method="parameter-shift")
    def one(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    assert float(jax.grad(one)(jnp.array(0.8))) == pytest.approx(-np.sin(0.8), abs=0.05)
