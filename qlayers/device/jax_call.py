"""A torch function of real vectors as a primitive of JAX: jit, vmap, forward and reverse mode, any order.

The derivative of a call along a direction is a call of the `pushforward`, which is linear in its second half
and there has the `pullback` as its transpose; both are functions like the first.

JAX is imported when the first call is made.
"""

import functools

import numpy as np

from qlayers.device.vectors import Function, pullback, pushforward, split, values_of


def call(function: Function, size: int, *vectors):
    """The function of JAX vectors, whose result has so many elements."""
    import jax.numpy as jnp

    return primitive().bind(*map(jnp.asarray, vectors), function=function, size=size, pushes=None)


@functools.cache
def primitive():
    """The primitive with all its rules.

    Its parameters are the torch function, the size of the result, and `pushes`: if the function is the
    pushforward of another one, that one. It is then linear in the second half of its vectors.
    """
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    made = Primitive("qlayers_call")
    made.def_impl(_on_host)
    made.def_abstract_eval(_abstract)
    mlir.register_lowering(made, mlir.lower_fun(_on_host, multiple_results=False))
    ad.primitive_jvps[made] = _jvp
    ad.primitive_transposes[made] = _transpose
    batching.primitive_batchers[made] = _batched
    return made


def _dtype():
    """float64 if JAX is allowed to have it."""
    import jax.numpy as jnp

    return jnp.result_type(float)


def _on_host(*vectors, function: Function, size: int, pushes: Function | None):
    import jax

    del pushes
    dtype = _dtype()

    def host(*given) -> np.ndarray:
        return values_of(function, *given).astype(dtype)

    return jax.pure_callback(host, jax.ShapeDtypeStruct((size,), dtype), *vectors)


def _abstract(*vectors, function: Function, size: int, pushes: Function | None):
    from jax.core import ShapedArray

    del vectors, function, pushes
    return ShapedArray((size,), _dtype())


def _jvp(vectors, tangents, *, function: Function, size: int, pushes: Function | None):
    from jax.interpreters import ad

    bind, half = primitive().bind, len(vectors) // 2
    result = bind(*vectors, function=function, size=size, pushes=pushes)
    if pushes is not None and all(type(tangent) is ad.Zero for tangent in tangents[:half]):
        along = [*vectors[:half], *map(ad.instantiate_zeros, tangents[half:])]  # linear in these
        return result, bind(*along, function=function, size=size, pushes=pushes)
    along = [*vectors, *map(ad.instantiate_zeros, tangents)]
    return result, bind(*along, function=pushforward(function), size=size, pushes=function)


def _transpose(cotangent, *vectors, function: Function, size: int, pushes: Function):
    from jax.interpreters import ad

    del function, size
    half = len(vectors) // 2
    points, wanted = vectors[:half], vectors[half:]
    if type(cotangent) is ad.Zero:
        return [None] * len(vectors)
    sizes = [point.shape[0] for point in points]
    slopes = split(call(pullback(pushes), sum(sizes), cotangent, *points), sizes)
    pairs = zip(slopes, wanted, strict=True)
    return [None] * half + [slope if ad.is_undefined_primal(v) else None for slope, v in pairs]


def _batched(vectors, axes, **parameters):
    """One call after the other; vectors without an axis are the same for all."""
    import jax
    import jax.numpy as jnp

    rows = next(v.shape[axis] for v, axis in zip(vectors, axes, strict=True) if axis is not None)
    vectors = [
        jnp.broadcast_to(v, (rows, *v.shape)) if axis is None else jnp.moveaxis(v, axis, 0)
        for v, axis in zip(vectors, axes, strict=True)
    ]
    return jax.lax.map(lambda row: primitive().bind(*row, **parameters), tuple(vectors)), 0
