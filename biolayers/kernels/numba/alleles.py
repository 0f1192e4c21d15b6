"""Which letters of two alleles differ: a pass over pools of letters, thousands of variants in a call."""

from numba import njit


@njit(nogil=True, cache=True)
def trim(first, last, ref, ref_offsets, alt, alt_offsets, shared):
    """Count the letters that alleles `first` to `last` share.

    Args:
        first: Where this share of the variants begins.
        last: And ends.
        ref: (m,) uint8: the letters of all reference alleles.
        ref_offsets: (n + 1,) int64: where each begins.
        alt: (k,) uint8: the letters of all alternative alleles.
        alt_offsets: (n + 1,) int64.
        shared: (2, n) int64: becomes how many letters are shared at the start and at the end. Those at the
            end are taken first, so that an indel in a repeat stands as far left as its alleles allow.
    """
    for i in range(first, last):
        a, a_stop = ref_offsets[i], ref_offsets[i + 1]
        b, b_stop = alt_offsets[i], alt_offsets[i + 1]
        while a < a_stop and b < b_stop and ref[a_stop - 1] == alt[b_stop - 1]:
            a_stop -= 1
            b_stop -= 1
        shared[1, i] = ref_offsets[i + 1] - a_stop
        while a < a_stop and b < b_stop and ref[a] == alt[b]:
            a += 1
            b += 1
        shared[0, i] = a - ref_offsets[i]
