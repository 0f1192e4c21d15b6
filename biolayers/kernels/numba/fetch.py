"""Gather many intervals of a mapped FASTA file into one matrix of tokens.

Each row is gathered in two steps that stay in the first cache: its letters are copied line by line into a scratch
row, `BLOCK` bytes at a time (what is copied too far is overwritten by the next line), then encoded in one vector
loop. The arithmetic of the plain letters needs no table: bits 1 and 2 of A C G T are 0 1 3 2, and those of U are
T's. A row with any other letter takes the byte table. Indices are trusted: `biolayers.fasta` checks them.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 64
LINE = 64  # bytes of a cache line
ILLEGAL = 254
PAD = 255


@intrinsic
def _copy_block(typing: Any, target: Any, to: Any, source: Any, start: Any) -> Any:
    """`_copy_block(target, to, source, start)`: BLOCK bytes, as one vector load and store."""
    vector = ir.VectorType(ir.IntType(8), BLOCK)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_place(context, builder, signature.args[2], args[2], args[3], vector))
        loaded.align = 1
        builder.store(loaded, _place(context, builder, signature.args[0], args[0], args[1], vector)).align = 1
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), lower


@intrinsic
def _prefetch(typing: Any, source: Any, at: Any) -> Any:
    """`_prefetch(source, at)`: ask for a cache line that will be read soon."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8), ir.IntType(32)
        hint = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        function = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0")
        place = _place(context, builder, signature.args[0], args[0], args[1], byte)
        builder.call(function, [place, word(0), word(3), word(1)])  # to read, keep close, data
        return context.get_dummy_value()

    return types.void(source, types.intp), lower


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any, pointee: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), pointee.as_pointer())


@njit(nogil=True, cache=True)
def fetch(first, last, data, records, ids, starts, stops, minus, encode, complement, plain, fold, out, refused):
    """Fill rows `first` to `last` of `out`.

    Args:
        first, last: The rows of this share.
        data: (bytes,) uint8: the file.
        records: (3, contigs) int64: offset, letters and bytes of a full line.
        ids, starts, stops: (n,) int64: contig and 0-based half-open interval of each row.
        minus: (n,) bool: rows to reverse and complement.
        encode, complement: (256,) uint8: token of each byte; token of each token's partner.
        plain: Whether the byte table reads A C G T (with U for T) as 0 1 2 3, so that arithmetic may stand in;
            `fold` is then 0xDF where lower case reads as upper, else 0xFF.
        fold: See `plain`.
        out: (n, width) uint8; what lies beyond an interval becomes `PAD`.
        refused: (n,) int64: where the first refused letter of a row lies in its interval, or -1.
    """
    scratch = np.empty(out.shape[1] + BLOCK, np.uint8)
    for i in range(first, last):
        if i + 1 < last:
            _announce(data, records[:, ids[i + 1]], starts[i + 1], stops[i + 1])
        count = stops[i] - starts[i]
        _copy_lines(data, records[:, ids[i]], starts[i], count, scratch)
        letters = scratch[:count]
        row = out[i, :count]
        refused[i] = -1
        if plain and _all_plain(letters, fold):
            if minus[i]:
                _encode_plain_reversed(letters, row)
            else:
                _encode_plain(letters, row)
        else:
            refused[i] = _encode(letters, row, encode)
            if minus[i]:
                _reverse_complement(row, complement)
        out[i, count:] = PAD


@njit(nogil=True, cache=True)
def _announce(data, record, start, stop):
    """Ask for the cache lines of the next interval while this one is worked on."""
    at = record[0] + start // record[1] * record[2] + start % record[1]
    bytes_ahead = min((stop - start) // record[1] * record[2] + record[1], 2048)
    for k in range(at, min(at + bytes_ahead, data.shape[0]), LINE):
        _prefetch(data, k)


@njit(nogil=True, cache=True)
def _copy_lines(data, record, start, count, scratch):
    bases = record[1]
    gap = record[2] - bases
    column = start % bases
    at = record[0] + start // bases * record[2] + column
    done = 0
    while done < count:
        m = min(bases - column, count - done)
        if at + m + BLOCK <= data.shape[0]:
            for k in range(0, m, BLOCK):
                _copy_block(scratch, done + k, data, at + k)
        else:
            for k in range(m):
                scratch[done + k] = data[at + k]
        done += m
        at += m + gap
        column = 0


@njit(nogil=True, cache=True)
def _all_plain(letters, fold):
    strange = np.uint8(0)
    for k in range(letters.shape[0]):
        c = np.uint8(letters[k] & fold)
        known = (c == 65) | (c == 67) | (c == 71) | (c == 84)
        strange |= np.uint8(not known)
    return strange == 0


@njit(nogil=True, cache=True)
def _encode_plain(letters, row):
    for k in range(letters.shape[0]):
        c = np.uint8((letters[k] >> 1) & 3)
        row[k] = c ^ np.uint8(c >> 1)


@njit(nogil=True, cache=True)
def _encode_plain_reversed(letters, row):
    last = letters.shape[0] - 1
    for k in range(letters.shape[0]):
        c = np.uint8((letters[last - k] >> 1) & 3)
        row[k] = 3 ^ c ^ np.uint8(c >> 1)  # the partner of t is 3 - t


@njit(nogil=True, cache=True)
def _encode(letters, row, encode):
    """By the table; returns where the first refused letter is, or -1."""
    refused = np.uint8(0)
    for k in range(letters.shape[0]):
        token = encode[letters[k]]
        refused |= np.uint8(token == ILLEGAL)
        row[k] = token
    if refused:
        for k in range(row.shape[0]):
            if row[k] == ILLEGAL:
                return k
    return -1


@njit(nogil=True, cache=True)
def _reverse_complement(row, complement):
    left = 0
    right = row.shape[0] - 1
    while left < right:
        row[left], row[right] = complement[row[right]], complement[row[left]]
        left += 1
        right -= 1
    if left == right:
        row[left] = complement[row[left]]
