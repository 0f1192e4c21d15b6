"""Results as text that a journal keeps: JSON, read back bit for bit, never pickle.

An array is its dtype, shape and values; Python prints a float64 such that it is read back exactly, and
smaller floats are exact in float64. Counts are pairs, since JSON has no numbers as keys.
"""

import json
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript

from qlayers.hardware.errors import InvalidResult

KINDS = "biufc"


def encode(result: Any) -> str:
    """A circuit's result as JSON text.

    Args:
        result: an array or number of any library, a dict of counts, or tuples and lists of these.

    Raises:
        InvalidResult: it has a part that is none of these.

    Example:
        >>> encode((np.float64(0.1), {"00": 3}))
        '{"tuple":[{"dtype":"<f8","shape":[],"values":[0.1]},{"counts":[["00",3]]}]}'
    """
    return json.dumps(_tree(result), separators=(",", ":"))


def decode(text: str) -> Any:
    """The result that `encode` wrote: NumPy arrays, NumPy numbers for arrays without axes, dicts and tuples.

    >>> decode(encode([0.1, np.eye(2, dtype=np.complex64)[0]]))
    (np.float64(0.1), array([1.+0.j, 0.+0.j], dtype=complex64))
    """
    return _result(json.loads(text))


def bare(tape: QuantumScript, result: Any) -> Any:
    """A circuit's only measurement without the tuple of one that some devices put around it, and take off
    again in their own postprocessing.

    >>> tape = QuantumScript([], [qml.expval(qml.Z(0))])
    >>> bare(tape, (0.5,)), bare(tape, 0.5)
    (0.5, 0.5)
    """
    if tape.shots.has_partitioned_shots and isinstance(result, tuple | list):
        return tuple(_bare(tape, copy) for copy in result)
    return _bare(tape, result)


def _bare(tape: QuantumScript, result: Any) -> Any:
    wrapped = len(tape.measurements) == 1 and isinstance(result, tuple | list) and len(result) == 1
    return result[0] if wrapped else result


def _tree(result: Any) -> dict:
    if isinstance(result, tuple | list):
        return {"tuple": [_tree(one) for one in result]}
    if isinstance(result, dict):
        return {"counts": [[_plain(key), _plain(count)] for key, count in result.items()]}
    array = np.asarray(qml.math.to_numpy(result))
    if array.dtype.kind not in KINDS:
        raise InvalidResult(f"expected numbers or counts, received {type(result).__name__} {result!r:.80}")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind == "c":
        flat = flat.view(f"<f{array.dtype.itemsize // 2}")  # (re, im, re, im, ...)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "values": flat.tolist()}


def _plain(value: Any) -> str | int | float:
    """A key or a count of counts without NumPy's types."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float):
        return value
    raise InvalidResult(f"expected counts by bit strings or numbers, received {value!r:.80} among them")


def _result(tree: dict) -> Any:
    if "tuple" in tree:
        return tuple(_result(one) for one in tree["tuple"])
    if "counts" in tree:
        return dict(tree["counts"])
    dtype = np.dtype(tree["dtype"])
    if dtype.kind == "c":
        flat = np.array(tree["values"], dtype=f"<f{dtype.itemsize // 2}").view(dtype)
    else:
        flat = np.array(tree["values"], dtype=dtype)
    return flat.reshape(tree["shape"])[()]
