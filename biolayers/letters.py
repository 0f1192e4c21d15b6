"""Letters that stand for several others, and letters that come from Biopython."""

from typing import Any

# IUPAC-IUB codes for incompletely specified bases (Cornish-Bowden, Nucleic Acids Research 13, 1985), in the
# order of their tokens, with T; RNA writes U for T.
BASES = {
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
}
# B, Z, J: two residues that an experiment cannot tell apart; U: selenocysteine; O: pyrrolysine; *: stop.
RESIDUES = {"B": "DN", "Z": "EQ", "J": "IL", "U": "", "O": "", "*": ""}


def of_biopython(sequence: Any) -> Any:
    """The letters of a `Seq` or `SeqRecord` as a string; anything else as it is.

    Example:
        >>> of_biopython("ACGT")
        'ACGT'
    """
    sequence = getattr(sequence, "seq", sequence)
    return str(sequence) if type(sequence).__module__.startswith("Bio.") else sequence
