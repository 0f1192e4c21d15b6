"""Find the sites of motifs in a FASTA file, write them as BED, and draw the logos.

    python examples/find_motifs.py [FASTA] [--motifs FILE] [--p-value P] [--out FOLDER]

Without arguments it searches the splice junctions of the examples for the consensus of their two kinds.
"""

import argparse
from pathlib import Path

import matplotlib

from biolayers import Fasta
from biolayers.motifs.bank import MotifBank
from biolayers.motifs.motif import Motif
from biolayers.motifs.search import find_motifs

SPLICE = [Motif("MAGGTRAGT", name="donor"), Motif("YYYYYYNCAGG", name="acceptor")]
EXAMPLE = Path(__file__).parent / "data" / "splice_junctions.fa"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("fasta", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("--motifs", type=Path, help="a JASPAR, MEME or TRANSFAC file")
    parser.add_argument("--p-value", type=float, default=1e-4)
    parser.add_argument("--out", type=Path, default=Path("runs/motifs"))
    options = parser.parse_args()
    bank = MotifBank.read(options.motifs) if options.motifs else MotifBank(SPLICE)
    hits = find_motifs(Fasta(options.fasta, store_index=False), bank, p_value=options.p_value, progress=True)
    options.out.mkdir(parents=True, exist_ok=True)
    hits.write(options.out / "sites.bed")
    print(hits)
    for name, count, tests in zip(bank.names, hits.counts().sum(0), hits.tests, strict=True):
        expected = tests * options.p_value
        print(f"{name}: {count:,} sites of {tests:,} windows; by chance at most {expected:,.0f}")
    for name in hits.silent:
        print(f"{name}: even its best word is more probable than {options.p_value:g}; raise --p-value")
    draw(bank, options.out / "logos.png")
    print(f"Sites and logos are in {options.out}")


def draw(bank: MotifBank, path: Path) -> None:
    """The logos of the first motifs, one below the other."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    some = bank[:8]
    figure, axes = pyplot.subplots(len(some), 1, figsize=(5, 1.8 * len(some)), squeeze=False)
    for motif, ax in zip(some, axes[:, 0], strict=True):
        motif.logo(ax)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
