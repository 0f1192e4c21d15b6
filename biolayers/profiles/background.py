"""What residues look like outside of a profile, and what ambiguous letters score."""

import torch
from torch import Tensor

from biolayers.alphabet import Alphabet
from biolayers.ops.hmm_paths import FLOOR

# The composition of Swiss-Prot 50.8, which HMMER takes for proteins; bases are equally frequent.
_RESIDUES = {
    "A": 0.0787945,
    "C": 0.0151600,
    "D": 0.0535222,
    "E": 0.0668298,
    "F": 0.0397062,
    "G": 0.0695071,
    "H": 0.0229198,
    "I": 0.0590092,
    "K": 0.0594422,
    "L": 0.0963728,
    "M": 0.0237718,
    "N": 0.0414386,
    "P": 0.0482904,
    "Q": 0.0395639,
    "R": 0.0540978,
    "S": 0.0683364,
    "T": 0.0540687,
    "V": 0.0673417,
    "W": 0.0114135,
    "Y": 0.0304133,
}
_MEANT = {"U": "C", "O": "K"}  # selenocysteine and pyrrolysine score as what they replace, as in HMMER


def background(alphabet: Alphabet) -> Tensor:
    """The frequency of each plain letter, (K,) float64: of Swiss-Prot for proteins, else all the same."""
    if set(alphabet.letters) == set(_RESIDUES):
        found = torch.tensor([_RESIDUES[letter] for letter in alphabet.letters], dtype=torch.float64)
        return found / found.sum()
    return torch.full((alphabet.channels,), 1 / alphabet.channels, dtype=torch.float64)


def expectations(alphabet: Alphabet) -> Tensor:
    """What each token scores, as shares of the plain letters' scores: (symbols, K) float64.

    An ambiguous letter has the expected score of the letters that it stands for, weighted by the background,
    as in HMMER. A letter without a meaning (`*`) has a row of NaN; the gap, the last token, has none.
    """
    frequency = background(alphabet)
    symbols = alphabet.letters + alphabet.unknown + "".join(letter for letter, _ in alphabet.codes)
    rows = []
    for letter in symbols:
        meaning = alphabet.meanings[letter] or _MEANT.get(letter, "")
        share = torch.tensor([float(plain in meaning) for plain in alphabet.letters]).double() * frequency
        rows.append(share / share.sum())  # 0 / 0 for no meaning
    return torch.stack(rows)


def spread_scores(scores: Tensor, shares: Tensor) -> Tensor:
    """Scores (states, K) of plain letters as scores (states, symbols) of all, by `expectations`."""
    meant = ~shares.isnan().any(-1)
    found = scores.clamp(min=FLOOR) @ shares.nan_to_num().to(scores).mT
    return torch.where(meant, found, -torch.inf)
