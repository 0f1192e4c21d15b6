"""The model as the kernels read it: odds instead of logarithms, in stripes.

A vector of Z lanes holds nodes that are Q apart: lane z of vector q is node z Q + q, Q = ceil(m / Z) (Farrar,
Bioinformatics 23:156, 2007; Eddy, PLoS Comput Biol 7:e1002195, 2011). The neighbour of a node is then in the
same lane of the next vector, and only the first vector takes its neighbours from another lane. A run of
delete states goes along the vectors of each lane; what a lane hands to the next is found by a scan across the
lanes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.hmm_paths import FLOOR
from shared.simd import BYTES, lanes_of

# rows of `weights`: into a node, within it, out of it
ENTRY, INTO_MM, INTO_IM, INTO_DM, INTO_MD, INTO_DD, RUN = range(7)  # RUN: from its lane's first node
MI, II, EXIT = range(7, 10)
MM, IM, DM, MD, DD, REST = range(10, 16)  # REST: to the first node of the next lane
_WEIGHTS = 16


class Limits(NamedTuple):
    """How far odds may be apart, so that no sum of products leaves the range of its dtype unseen.

    Each weight other than 0 lies between `smallest` and 1 / `smallest`, and those of entry above
    `smallest_entry`; the largest sum of each column of the recursion is kept between two powers of two; and
    no sum other than 0 may fall below `lowest`: the product of that and of two weights is still a normal
    number. Sequences that break a limit are computed otherwise.
    """

    smallest: float
    smallest_entry: float
    lowest: float
    least_power: int
    most_power: int


LIMITS = {
    torch.float32: Limits(1e-8, 1e-8, 1e-20, 30, 70),
    torch.float64: Limits(1e-30, 1e-150, 1e-120, 600, 700),
}
_FLANK = 57.0  # nats: N, E, J and C stay or move on with odds of at least 1e-25, in float64 always


class Tables(NamedTuple):
    """All arrays are flat, stripe after stripe; W = Q Z numbers are a row.

    weights: rows ENTRY ... REST.
    scan: the sum of EXIT RUN of each lane, then the weights of the scan of delete runs, forward and back.
    best: the weights of that scan for best paths.
    matches, inserts: a row for each symbol, and one of zeros.
    is_fit: whether the odds are not too far apart for sums of products in this dtype.
    """

    weights: np.ndarray
    scan: np.ndarray
    best: np.ndarray
    matches: np.ndarray
    inserts: np.ndarray
    lanes: int
    width: int
    limits: Limits
    is_fit: bool


def tables(dtype: torch.dtype, *parameters: Tensor, best: bool = False) -> Tables:
    """The tables of a model, as odds, or for best paths as logarithms.

    Args:
        dtype: of the kernel's arithmetic.
        parameters: match, insert, transitions, entry and exit of the op.
        best: whether they are for best paths.
    """
    match, insert, transitions, entry, exit = (p.detach().double() for p in parameters)
    nodes = len(match)
    lanes = lanes_of(dtype.itemsize)
    depth = -(-nodes // lanes)
    nothing = -torch.inf

    def stripe(values: Tensor, *, shift: int = 0) -> Tensor:
        """(..., n) by node to (..., Q, Z); values of steps move to the node that they lead to by `shift`."""
        padded = F.pad(values, (shift, lanes * depth - shift - values.shape[-1]), value=nothing)
        return padded.unflatten(-1, (lanes, depth)).mT

    mm, mi, md, im, ii, dm, dd = transitions.mT  # each (m - 1,)
    into = [stripe(entry), *(stripe(step, shift=1) for step in (mm, im, dm, md, dd))]
    out = [stripe(step) for step in (mm, im, dm, md, dd)]
    within = [stripe(mi), stripe(ii), stripe(exit)]
    run = torch.cat([torch.zeros(1, lanes).double(), into[INTO_DD][1:]]).cumsum(0)
    rest = out[-1].flip(0).cumsum(0).flip(0)
    ahead = _shift(run[-1], 1) + into[INTO_DD][0]
    back = _shift(rest[0], -1)
    ways = torch.stack([*into, run, *within, *out, rest])
    sums = torch.cat([_log_sum(within[2] + run), *_powers(ahead, 1), *_powers(back, -1)])
    residues = [stripe(F.pad(t.mT, (0, 0, 0, 1), value=nothing)) for t in (match, insert)]

    def flat(values: Tensor) -> np.ndarray:
        return _aligned((values if best else odds(values)).to(dtype).flatten().numpy())

    scan_best = torch.cat(_powers(ahead, 1))
    possible = match > FLOOR / 2  # a symbol such as a gap may be nowhere; then there are no deletes either
    everywhere = (possible.all(0) == possible.any(0)).all()
    opened = bool(everywhere & (entry > FLOOR / 2).all() & (md > FLOOR / 2).all())
    return Tables(
        flat(ways),
        flat(sums),
        flat(scan_best),
        *map(flat, residues),
        lanes=lanes,
        width=lanes * depth,
        limits=LIMITS[dtype],
        is_fit=not best and _are_within(LIMITS[dtype], ways, sums, residues, is_opened=opened),
    )


def _are_within(
    limits: Limits, ways: Tensor, sums: Tensor, residues: list[Tensor], *, is_opened: bool
) -> bool:
    """Whether these logarithms keep within the limits.

    Long runs of deletes may be as faint as they like where each delete state is opened next door as well
    (`is_opened`): what is lost of them is then nothing beside that.
    """
    runs = torch.cat([ways[[RUN, REST]].flatten(), sums.flatten()])
    plain = ways[[row for row in range(_WEIGHTS) if row not in (ENTRY, RUN, REST)]]
    reach = -math.log(limits.smallest)
    return (
        all(_are_between(t, -reach, reach) for t in (plain, *residues))
        and _are_between(ways[ENTRY], math.log(limits.smallest_entry), reach)
        and _are_between(runs, -math.inf if is_opened else -reach, reach)
    )


def _are_between(values: Tensor, low: float, high: float) -> bool:
    return bool(((values <= FLOOR / 2) | ((values >= low) & (values <= high))).all())


def odds(logarithms: Tensor) -> Tensor:
    """What logarithms, float64, stand for.

    By NumPy: PyTorch's exponential may start threads, which hangs in a process forked after it had some.
    """
    with np.errstate(over="ignore"):  # what is too large breaks a limit
        return torch.from_numpy(np.exp(logarithms.numpy()))


def _log_sum(logarithms: Tensor) -> Tensor:
    """The logarithm of the sum of each column of (n, Z): (1, Z)."""
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.logaddexp.reduce(logarithms.numpy(), axis=0, keepdims=True))


def _aligned(values: np.ndarray) -> np.ndarray:
    """A copy that begins with a cache line: vectors do not cross one then."""
    memory = np.empty(values.size + BYTES // values.itemsize, values.dtype)
    ahead = -memory.ctypes.data // values.itemsize % (BYTES // values.itemsize)
    memory[ahead : ahead + values.size] = values
    return memory[ahead : ahead + values.size]


def in_order(rows: np.ndarray, lanes: int, nodes: int) -> np.ndarray:
    """Rows in stripes, (..., W), by node: (..., nodes)."""
    stripes = rows.reshape(*rows.shape[:-1], -1, lanes)
    return stripes.swapaxes(-1, -2).reshape(rows.shape)[..., :nodes]


def flanks_within_limits(special: Tensor) -> Tensor:
    """Which sequences' odds outside of the nodes, (b, 4, 2) logarithms, keep within the limits: (b,)."""
    special = special.detach()
    return ((special <= FLOOR / 2) | (special.abs() <= _FLANK)).all(-1).all(-1)


def _shift(values: Tensor, by: int) -> Tensor:
    """Each lane from the one before it (`by` 1, 2, ...) or after it; log 0 where there is none."""
    lanes = values.shape[-1]
    padded = F.pad(values, (max(by, 0), max(-by, 0)), value=-torch.inf)
    return padded[..., :lanes] if by > 0 else padded[..., -lanes:]


def _powers(weights: Tensor, direction: int) -> list[Tensor]:
    """What 1, 2, 4, ... steps of a scan across the lanes weigh together: each (1, Z)."""
    found, step = [], 1
    while step < weights.shape[-1]:
        found.append(weights.unsqueeze(0))
        weights = weights + _shift(weights, direction * step)
        step *= 2
    return found
