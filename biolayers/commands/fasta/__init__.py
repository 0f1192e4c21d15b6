"""The commands `qbio fasta ...`; what is heavy loads when one of them runs."""

from typing import Literal

from biolayers.commands.wording import on_the_command_line
from shared.app.groups import Group

AlphabetName = Literal["DNA", "RNA", "PROTEIN"]


def index_file(fasta: str, *, force: bool = False) -> None:
    """Write the index of a FASTA or FASTQ file beside it, as samtools does.

    That is FILE.fai, and for a file compressed with bgzip FILE.gzi too; both are checked first where they are
    there.

    Args:
        fasta: The file.
        force: Make them anew even if they fit.
    """
    from biolayers.commands.fasta import indexing

    with on_the_command_line():
        print(indexing.index(fasta, force=force))


def show_stats(fasta: str, *, alphabet: AlphabetName = "DNA", json: bool = False) -> None:
    """Show how many records and letters a file has, how long they are, and of which letters.

    Args:
        fasta: A FASTA or FASTQ file, plain or compressed, or - for standard input.
        alphabet: The kind of sequence.
        json: Print JSON instead of lines.
    """
    from biolayers.commands.fasta import statistics

    with on_the_command_line():
        statistics.show(fasta, alphabet, as_json=json)


def fetch_regions(
    fasta: str,
    *regions: str,
    bed: str | None = None,
    names: str | None = None,
    reverse_complement: bool = False,
    alphabet: AlphabetName = "DNA",
    width: int = 60,
    out: str = "-",
    force: bool = False,
) -> None:
    """Write parts of a file as FASTA, in the order in which they are named.

    A region counts from 1 and includes its end, as in samtools: chr1:100-200 has 101 letters; chr1:100 goes
    on to the end, chr1 is the whole record. Intervals of a BED file count from 0 without their end; those on
    strand - are written as their reverse complement.

    Args:
        fasta: A FASTA or FASTQ file, plain or compressed, or - for standard input.
        regions: Names of records, or regions as above.
        bed: A BED file of intervals.
        names: A text file with a region on each line.
        reverse_complement: Write the other strand of everything.
        alphabet: The kind of sequence.
        width: Letters on a line; 0 writes each record on one line.
        out: The file to write; - is standard output, a name in .gz is compressed with bgzip.
        force: Replace the file if it is there.
    """
    from biolayers.commands.fasta import fetching

    with on_the_command_line():
        fetching.fetch(
            fasta, regions, bed, names, turn=reverse_complement, alphabet=alphabet, width=width,
            out=out, force=force,
        )  # fmt: skip


def split_file(
    fasta: str,
    *,
    out: str,
    fractions: list[float] | None = None,
    by: Literal["sequence", "similarity", "contig", "group"] = "sequence",
    groups: str | None = None,
    members: dict[str, str] | None = None,
    label_pattern: str | None = None,
    identity: float = 0.8,
    coverage: float = 0.5,
    forward_only: bool = False,
    alphabet: AlphabetName = "DNA",
    seed: int = 0,
    force: bool = False,
) -> None:
    """Divide a file into train.fa, val.fa and test.fa that share no sequence, and say what was reached.

    A table split.csv names the part and the group of each record; groups are never divided.

    Args:
        fasta: A FASTA or FASTQ file, plain or compressed, or - for standard input.
        out: The folder to write to; it is made if it is not there.
        fractions: The share of each part, such as 0.8 0.1 0.1 (the default) or 0.9 0.1 (train and test).
        by: What stays together: equal sequences, similar ones, those of a contig (the name up to its last
            colon), or those of a group.
        groups: Pattern whose first group is the group of a record, searched for in its name.
        members: The contigs or groups of a part instead of fractions, with commas between them, as
            --members.test chr8,chr9 --members.val chr10; all others are for training.
        label_pattern: Pattern whose first group is the class of a record, searched for in its header; each
            part then has each class.
        identity: The least identity of similar sequences.
        coverage: The least share of the shorter sequence that is similar.
        forward_only: Do not look at the other strand.
        alphabet: The kind of sequence.
        seed: Of what is random.
        force: Replace files that are there.
    """
    options = {name: value for name, value in locals().items() if name not in ("fasta", "out", "force")}
    from biolayers.commands.fasta import splitting

    with on_the_command_line():
        print(splitting.split(fasta, out, options, force=force))


def find_leakage(
    train: str,
    test: str,
    *,
    out: str | None = None,
    identity: float = 0.8,
    coverage: float = 0.5,
    equal_only: bool = False,
    forward_only: bool = False,
    alphabet: AlphabetName = "DNA",
    fail: bool = False,
    force: bool = False,
) -> int:
    """Find the sequences of a test file that are in the training file: equal, reversed or similar.

    Args:
        train: FASTA or FASTQ file of the sequences to train on.
        test: The same of those to test with; one of the two may be - for standard input.
        out: A CSV file to write, with a row for each leaked sequence; - is standard output.
        identity: The least identity of similar sequences.
        coverage: The least share of the shorter sequence that is similar.
        equal_only: Look for equal sequences and reverse complements alone.
        forward_only: Do not look at the other strand.
        alphabet: The kind of sequence.
        fail: End with exit code 1 if there is leakage.
        force: Replace the file if it is there.
    """
    from biolayers.commands.fasta import leaking

    with on_the_command_line():
        found = leaking.leakage(
            train, test, out, identity=identity, coverage=coverage, equal_only=equal_only,
            forward_only=forward_only, alphabet=alphabet, force=force,
        )  # fmt: skip
    return int(fail and found)


def shuffle_records(
    fasta: str,
    *,
    k: int = 2,
    count: int = 1,
    seed: int = 0,
    unknown: Literal["stay", "letter"] = "stay",
    alphabet: AlphabetName = "DNA",
    width: int = 60,
    out: str = "-",
    force: bool = False,
) -> None:
    """Write shuffled sequences with the same k-lets, all such sequences equally probable.

    Args:
        fasta: A FASTA or FASTQ file, plain or compressed, or - for standard input.
        k: The length of the words whose counts are kept; 1 permutes the letters.
        count: Shuffled copies of each record.
        seed: The same seed gives the same copies.
        unknown: Letters such as N stay where they are, or each counts as a letter of its own.
        alphabet: The kind of sequence.
        width: Letters on a line; 0 writes each record on one line.
        out: The file to write; - is standard output, a name in .gz is compressed with bgzip.
        force: Replace the file if it is there.
    """
    from biolayers.commands.fasta import shuffling

    with on_the_command_line():
        shuffling.shuffle(
            fasta, k=k, count=count, seed=seed, unknown=unknown, alphabet=alphabet, width=width, out=out,
            force=force,
        )  # fmt: skip


def convert_file(
    fasta: str,
    *,
    out: str,
    width: int | None = None,
    upper: bool = False,
    force: bool = False,
) -> None:
    """Write a file anew: compressed with bgzip or plain, FASTQ as FASTA, other lines, capital letters.

    Without --width and --upper the text of a FASTA file stays as it is, and only the compression changes.

    Args:
        fasta: A FASTA or FASTQ file, plain or compressed, or - for standard input.
        out: The file to write; - is standard output, a name in .gz is compressed with bgzip. FASTQ stays
            FASTQ if the name says .fq or .fastq, and becomes FASTA else.
        width: Letters on a line; 0 writes each record on one line.
        upper: Write lower-case letters as capitals.
        force: Replace the file if it is there.
    """
    from biolayers.commands.fasta import converting

    with on_the_command_line():
        converting.convert(fasta, out, width=width, upper=upper, force=force)


# The functions have other names than `biolayers` has: jsonargparse would load those to tell them apart.
group = Group(
    "Index, look at, fetch from, split, compare, shuffle and convert FASTA files.",
    {
        "index": index_file,
        "stats": show_stats,
        "fetch": fetch_regions,
        "split": split_file,
        "leakage": find_leakage,
        "shuffle": shuffle_records,
        "convert": convert_file,
    },
)
