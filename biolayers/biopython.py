"""To and from Biopython's sequences."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from biolayers.alphabet import DNA, Alphabet

if TYPE_CHECKING:
    from Bio.SeqRecord import SeqRecord


def to_seqrecord(
    tokens: Tensor, name: str, *, description: str = "", alphabet: Alphabet = DNA, **fields: Any
) -> "SeqRecord":
    """A sequence of tokens as a Biopython record; `Alphabet.tokens` leads back.

    Args:
        tokens: (l,) uint8; padding at the end is dropped.
        name: The record's id and name.
        description: What else its header says.
        alphabet: Of the tokens.
        fields: Anything else that `Bio.SeqRecord.SeqRecord` takes, such as `annotations`.

    Raises:
        UserError: A token has no letter.

    Example:
        >>> record = to_seqrecord(DNA.tokens("ACGTN"), "probe")
        >>> record.id, str(record.seq)
        ('probe', 'ACGTN')
        >>> DNA.tokens(record)
        tensor([0, 1, 2, 3, 4], dtype=torch.uint8)
    """
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord

    text = alphabet.text(tokens.reshape(-1))
    kind = {"DNA": "DNA", "RNA": "RNA", "PROTEIN": "protein"}.get(alphabet.name)
    annotations = {**({"molecule_type": kind} if kind else {}), **fields.pop("annotations", {})}
    return SeqRecord(
        Seq(text), id=name, name=name, description=description, annotations=annotations, **fields
    )
