"""Numba kernels that take arrays and numbers, run as `shared.relay` does: without Python or the GIL.

The function that Numba has compiled of `kernel(start, stop, *args)` takes the parts of its arguments, of an
array its address, sizes and strides. They are laid out here, and `shared.passing` calls the function with
them from whatever thread: nothing is compiled for any kernel.
"""

import platform
import sys
from time import perf_counter_ns
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import NumbaError

from shared import passing, relay
from shared.pace import Pace

_FLAGS = 0x0503  # of NumPy: in order of C, of Fortran, aligned, writeable: Numba tells these apart
_LONG = 50_000_000  # ns
_MOST_PACES = 256  # per kernel and kinds of arguments


_INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32)
_NUMBERS = frozenset({bool, float, type(None), np.bool_, np.float32, np.float64, *_INTEGERS})


class Plain:
    """A kernel compiled for some kinds of arguments.

    Args:
        address: of the function.
        reals: where floats are among the parts of its arguments, and whether they are of single precision.
        width: how many integers the call that is used for it passes on.
    """

    __slots__ = ("address", "call", "paces", "reals", "width")

    def __init__(self, address: int, reals: tuple[tuple[int, bool], ...], width: int) -> None:
        self.address, self.reals, self.width = address, reals, width
        self.call = passing.CALLS[width].address
        self.paces: dict[tuple[Any, ...], Pace | None] = {}  # by sizes; None: it takes long

    def pace(self, sizes: tuple[Any, ...]) -> Pace | None:
        """What the clock says of work of these sizes; None the first time, and if it takes long."""
        if sizes in self.paces:
            return self.paces[sizes]
        if len(self.paces) >= _MOST_PACES:
            self.paces.clear()
        self.paces[sizes] = Pace()
        return None


_known: "WeakKeyDictionary[Any, dict[Any, Plain | None]]" = WeakKeyDictionary()


def share(kernel: Any, rows: int, args: tuple[Any, ...], *, pieces: int, threads: int) -> bool:
    """Run a kernel of Numba over `range(rows)` on so many threads; False if that is not for OpenMP to do.

    OpenMP threads are waited for: where they sleep, or others want their processor, for many milliseconds. So
    they are asked for short work that comes again, as long as the clock says that it pays. What comes once,
    or takes long, is for threads that need not be waited for.
    """
    plain = _plain_of(kernel, args)
    if plain is None:
        return False
    sizes = (rows, *[value.shape for value in args if isinstance(value, np.ndarray)])
    pace = plain.pace(sizes)
    if pace is None:
        return False
    begun = perf_counter_ns()
    if pace.helped():
        _share(plain, kernel, rows, args, pieces, threads)
    else:
        kernel(0, rows, *args)
    took = perf_counter_ns() - begun
    pace.hear(took)
    if took > _LONG:
        plain.paces[sizes] = None
    return True


def _share(plain: Plain, kernel: Any, rows: int, args: tuple[Any, ...], pieces: int, threads: int) -> None:
    """If a piece fails, the caller does it once more by itself, and so gets the exception."""
    integers, reals = _places(plain, args)
    report = np.zeros(3, np.int64)
    numbers = (plain.address, integers.ctypes.data, reals.ctypes.data, report.ctypes.data)
    relay.share(plain.call, rows, numbers, pieces=pieces, threads=threads, room=0, ends=False)
    if report[passing.FAILED]:
        kernel(int(report[passing.START]), int(report[passing.STOP]), *args)
        raise RuntimeError(f"{kernel.__name__}: a piece of work failed, and did not when it was done again")


def _plain_of(kernel: Any, args: tuple[Any, ...]) -> Plain | None:
    known = _known.get(kernel)
    if known is None:
        known = _known[kernel] = {}
    kinds = tuple(map(_kind, args))
    if kinds not in known:
        known[kinds] = None if None in kinds else _plain(kernel, args)
    return known[kinds]


def _kind(value: Any) -> Any:
    """What Numba compiles a kernel for; None for what is not passed on here."""
    kind = type(value)
    if kind is np.ndarray:
        return value.dtype, value.ndim, value.flags.num & _FLAGS
    if kind is tuple:
        kinds = tuple(map(_kind, value))
        return None if None in kinds else kinds
    if kind is int:
        return kind if -(2**63) <= value < 2**63 else None
    return kind if kind in _NUMBERS else None


def _plain(kernel: Any, args: tuple[Any, ...]) -> Plain | None:
    """The function for these arguments, compiled if it is not yet."""
    if not sys.platform.startswith("linux") or platform.machine() not in passing.MACHINES:
        return None
    kinds = tuple(kernel.typeof_pyval(value) for value in (0, 0, *args))
    try:
        kernel.compile(kinds)
    except (NumbaError, RuntimeError):  # it wants other kinds; a usual call converts, or says what is wrong
        return None
    compiled = kernel.overloads[kinds]
    taken = kernel.targetctx.call_conv.get_function_type(types.none, kinds).args[4:]  # after start and stop
    reals = tuple((i, isinstance(part, ir.FloatType)) for i, part in enumerate(taken) if _is_real(part))
    integers = sum(map(_is_integer, taken))
    if (
        compiled.signature.return_type != types.none
        or [_is_real(part) for part in taken] != [isinstance(part, float) for part in _parts(args)]
        or len(taken) != integers + len(reals)
        or len(reals) > passing.REALS
        or integers > passing.MANY
    ):
        return None
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return Plain(address, reals, passing.FEW if integers <= passing.FEW else passing.MANY)


def _is_real(part: Any) -> bool:
    return isinstance(part, ir.FloatType | ir.DoubleType)


def _is_integer(part: Any) -> bool:
    return isinstance(part, ir.PointerType) or (isinstance(part, ir.IntType) and part.width <= 64)


def _parts(args: tuple[Any, ...]) -> list[int | float]:
    """What the function takes, in its order; no array is owned: the caller holds them."""
    parts: list[int | float] = []
    for value in args:
        if isinstance(value, np.ndarray):
            parts += (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
        elif isinstance(value, tuple):
            parts += _parts(value)
        elif isinstance(value, float | np.floating):
            parts.append(float(value))
        else:
            parts.append(int(value or 0))  # None is passed as a null pointer
    return parts


def _places(plain: Plain, args: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The parts by their registers: integers, and floats by their bits."""
    parts, reals = _parts(args), np.zeros(passing.REALS)
    for i, (at, single) in enumerate(plain.reals):
        if single:
            reals.view(np.float32)[2 * i] = parts[at]
        else:
            reals[i] = parts[at]
    for at, _ in reversed(plain.reals):
        del parts[at]
    integers = np.zeros(plain.width, np.int64)
    integers[: len(parts)] = parts
    return integers, reals
