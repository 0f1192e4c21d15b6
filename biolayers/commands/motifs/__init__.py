"""The commands `qbio motifs ...`; what is heavy loads when one of them runs."""

from typing import Literal

from biolayers.commands.wording import on_the_command_line
from shared.app.groups import Group


def scan_file(
    *,
    fasta: str,
    motifs: str,
    format: Literal["jaspar", "meme", "transfac"] | None = None,
    p_value: float | None = None,
    min_score: float | None = None,
    background: list[float] | None = None,
    forward_only: bool = False,
    unknown: Literal["skip", "zero", "expected"] = "skip",
    no_q_values: bool = False,
    alphabet: Literal["DNA", "RNA"] = "DNA",
    out: str = "-",
    force: bool = False,
) -> None:
    """Find every site of the motifs of a file, on both strands, with exact p-values.

    The table has one row per site: its motif, sequence, start (from 0) and end, strand, score in bits, p- and
    q-value.

    Args:
        fasta: A FASTA or FASTQ file, plain or compressed, or - for standard input.
        motifs: A file of motifs in the format of JASPAR, MEME or TRANSFAC.
        format: Of the file of motifs; by default what it begins like.
        p_value: The highest p-value of a site; 1e-4 without --min-score.
        min_score: The lowest score of a site in bits, instead of or as well as --p-value.
        background: The shares of A, C, G and T, such as 0.3 0.2 0.2 0.3; by default those in the file (MEME),
            or equal ones.
        forward_only: Do not look at the other strand.
        unknown: What N and other ambiguous letters do to a site: it is none, they add nothing to its score,
            or what is expected under the background.
        no_q_values: Leave out the q-values, for which all sites must be in memory at once.
        alphabet: The kind of sequence.
        out: The file to write: BED if its name ends in .bed, a table with tabs and titles if it ends in .tsv;
            - is such a table on standard output.
        force: Replace the file if it is there.
    """
    from biolayers.commands.motifs import scanning

    with on_the_command_line():
        scanning.scan(
            fasta, motifs, format=format, p_value=p_value, min_score=min_score, background=background,
            both_strands=not forward_only, unknown=unknown, q_values=not no_q_values, alphabet=alphabet,
            out=out, force=force,
        )  # fmt: skip


group = Group("Search FASTA files for motifs.", {"scan": scan_file})
