"""TensorCircuit-NG on JAX, `jit` over `vmap`; options: torch=True for its torch interface.

Without it the step is one jitted JAX function of JAX arrays that returns values and gradients: what the
engine itself takes, without a conversion from and to PyTorch.
"""

from collections.abc import Callable
from typing import Any

import jax
import tensorcircuit as tc
from jax import numpy as jnp
from protocol import Step, Worker, angles_of, serve

K = tc.set_backend("jax")
tc.set_dtype("complex64")


def function_of(case: dict[str, Any]) -> Callable:
    """One sample: outputs of inputs (features,) and weights (K,)."""
    gates, repeat = case["gates"], case["repeat"]

    def function(inputs: Any, weights: Any) -> Any:
        circuit = tc.Circuit(case["wires"])
        if repeat is None:
            add(circuit, gates, inputs, weights)
        else:  # equal layers are compiled once, as its documentation advises for deep circuits
            start, size, layers = repeat
            add(circuit, gates[:start], inputs, weights)

            def layer(state: Any, weights: Any) -> tuple[Any, None]:
                circuit = tc.Circuit(case["wires"], inputs=state)
                add(circuit, gates[start : start + size], inputs, weights)
                return circuit.state(), None

            state, _ = jax.lax.scan(jax.checkpoint(layer), circuit.state(), weights.reshape(layers, -1))
            circuit = tc.Circuit(case["wires"], inputs=state)
        return jnp.stack([observable(circuit, terms) for terms in case["observables"]])

    return function


def add(circuit: tc.Circuit, gates: list, inputs: Any, weights: Any) -> None:
    for name, wires, angles in gates:
        values = angles_of(angles, inputs, weights)
        if name == "ROT":
            for turn, value in zip(("rz", "ry", "rz"), values, strict=True):
                getattr(circuit, turn)(*wires, theta=value)
        else:
            getattr(circuit, name.lower())(*wires, **({"theta": values[0]} if values else {}))


def observable(circuit: tc.Circuit, terms: list) -> Any:
    total = 0.0
    for factor, word in terms:
        letters = {name: [wire for letter, wire in word if letter.lower() == name] for name in "xz"}
        total = total + factor * K.real(circuit.expectation_ps(**letters))
    return total


def build(case: dict[str, Any]) -> Step:
    if case.get("torch"):
        return _torch_step(case)
    over_batch = jax.vmap(function_of(case), in_axes=(0, None))

    @jax.jit
    def step(inputs: Any, weights: Any, cotangent: Any) -> dict[str, Any]:
        if cotangent is None:
            return {"outputs": over_batch(inputs, weights)}
        outputs, pull = jax.vjp(over_batch, inputs, weights)
        inputs, weights = pull(cotangent)
        return {"outputs": outputs, "weights": weights} | ({"inputs": inputs} if case["features"] else {})

    cotangent = None if case["cotangent"] is None else jnp.array(case["cotangent"])
    arguments = jnp.array(case["inputs"], jnp.float32), jnp.array(case["weights"]), cotangent
    return lambda: jax.block_until_ready(step(*arguments))


def _torch_step(case: dict[str, Any]) -> Step:
    from torch_layer import step_of

    return step_of(tc.torchnn.QuantumNet(function_of(case), weights_shape=(len(case["weights"]),)), case)


serve(Worker(build))
