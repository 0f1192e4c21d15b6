"""What an allele is by its letters."""

import re
from typing import Any

from biolayers.variants.errors import VariantError

_KINDS = (  # the first pattern that fits says what an alternative allele is (VCF 4.3, sections 1.4 and 5)
    ("letters", re.compile(r"[A-Za-z]+")),
    ("no alternative", re.compile(r"\.?")),
    ("symbolic", re.compile(r"<.*>|\*")),
    ("breakend", re.compile(r".*[][].*|\.[A-Za-z]+|[A-Za-z]+\.")),
)


def kind_of(allele: str) -> str:
    """What an alternative allele is: "letters", "no alternative", "symbolic", "breakend" or "unknown".

    Example:
        >>> [kind_of(allele) for allele in ("ACg", ".", "<DEL>", "*", "A[2:45[", ".A", "A-")]
        ['letters', 'no alternative', 'symbolic', 'symbolic', 'breakend', 'breakend', 'unknown']
    """
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(allele)), "unknown")


def check_letters(where: str, ref: Any, alt: Any) -> None:
    """Refuse a pair of alleles that are no letters, or that are the same."""
    for allele in (ref, alt):
        if not isinstance(allele, str) or kind_of(allele) != "letters":
            raise VariantError(
                f"{where}: expected alleles of letters such as 'A' or 'ACC', received {allele!r}; "
                "write a deletion with the letter before it ('AT' to 'A')"
            )
    if ref.upper() == alt.upper():
        raise VariantError(
            f"{where}: expected two alleles that differ, received {ref!r} and {alt!r}; remove it"
        )
