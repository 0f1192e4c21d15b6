"""Score variants with a model: which changes of a letter break a splice junction, and which make one?

    python examples/variant_effect.py
    python examples/variant_effect.py --table effects.csv

A small network learns junctions from two thirds of the sequences. Then variants are made up for the others,
and the network, which never saw a variant, says how probable the junction is with either allele.
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch.nn import functional as F
from torch.utils.data import DataLoader

import biolayers
from biolayers.models import SequenceCNN

SPLICE = Path(__file__).parent / "data" / "splice_junctions.fa"
LENGTH = 60
GT, AG = 30, 28  # where the first two letters of an intron stand in a donor, its last two in an acceptor

# name, class of the records, position, reference, alternative: what nearly every junction needs, destroyed;
# letters that matter little, for comparison; and what junctions need, put where there is none
KINDS = (
    ("donor, GT to AT", "donor", GT, "G", "A"),
    ("donor, GT to GC", "donor", GT + 1, "T", "C"),
    ("donor, GT deleted", "donor", GT, "GT", ""),
    ("acceptor, AG to GG", "acceptor", AG, "A", "G"),
    ("acceptor, AG to AA", "acceptor", AG + 1, "G", "A"),
    ("acceptor, T inserted in AG", "acceptor", AG + 1, "", "T"),
    *((f"{kind}, letter {k}", kind, k, None, None) for kind in ("donor", "acceptor") for k in (8, 52)),
    ("neither, GT made of GC", "neither", GT, "GC", "GT"),
    ("neither, AG made of AA", "neither", AG, "AA", "AG"),
)
JUNCTION = {"neither, GT made of GC": "donor", "neither, AG made of AA": "acceptor"}  # what might be made
TRANSITIONS = {"A": "G", "G": "A", "C": "T", "T": "C"}


def variants_of(
    fasta: biolayers.Fasta, names: list[str], position: int, ref: str | None, alt: str | None
) -> list:
    """The same variant in every record that has the reference letters there."""
    made = []
    for name in names:
        text = fasta[name][:]
        old = text[position] if ref is None else ref
        new = TRANSITIONS.get(old, "A") if alt is None else alt
        if text[position : position + len(old)] == old and old != new:
            before = text[position - 1]  # alleles have at least one letter, so one that both share
            made.append((name, position - 1, before + old, before + new))
    return made


def fit(model: torch.nn.Module, training: torch.utils.data.Dataset, epochs: int) -> None:
    """Adam with a decaying rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        model.train()
        for tokens, labels in DataLoader(training, batch_size=64, shuffle=True):
            loss = F.cross_entropy(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


def probability_above(some: torch.Tensor, others: torch.Tensor) -> float:
    """How probably a value of `some` is above one of `others` (the area under the ROC curve)."""
    difference = some[:, None] - others
    return ((difference > 0).double() + 0.5 * (difference == 0)).mean().item()


def main(epochs: int = 10, seed: int = 0, table: Path | None = None) -> float:
    """Train a model, make variants up, and score them.

    Args:
        epochs: Passes over the training part.
        seed: Of the split, the weights and the order.
        table: Where to write the effects of all variants as CSV.

    Returns:
        How probably a variant that breaks a junction scores worse than one beside it.
    """
    torch.manual_seed(seed)
    data = biolayers.FastaDataset(SPLICE, label_pattern=r"class=(\w+)")
    training, held_out = biolayers.split(data, (2 / 3, 1 / 3), seed=seed)
    model = SequenceCNN(LENGTH, len(data.classes))
    fit(model, training, epochs)

    # 1. Variants of the held-out records, all kinds in one table.
    names = {
        kind: [data.names[i] for i in held_out.indices if data.labels[i] == n]
        for n, kind in enumerate(data.classes)
    }
    fasta = biolayers.Fasta(SPLICE)
    groups = {title: variants_of(fasta, names[kind], *change) for title, kind, *change in KINDS}
    rows = [variant for group in groups.values() for variant in group]

    # 2. Pairs of windows: here the whole record, where the network expects the junction in the middle.
    pairs = biolayers.VariantDataset(fasta, rows, length=LENGTH, starts=[0] * len(rows))
    print(pairs)

    # 3. Predictions for both alleles, and the logarithm of their ratio.
    effects = biolayers.variant_effect(
        model, pairs, statistic="log_ratio", transform=lambda logits: logits.softmax(1), outputs=data.classes
    )
    if table is not None:
        effects.to_csv(table)

    # 4. By kind: how often does the junction's probability fall by half, how often does it double?
    print(f"{'variant':<28} {'n':>4} {'median log2 ratio':>18} {'halved':>7} {'doubled':>8}")
    scores = {}
    parts = effects.effect.split([len(group) for group in groups.values()])
    for (title, kind, *_), part in zip(KINDS, parts, strict=True):
        scores[title] = part[:, data.classes.index(JUNCTION.get(title, kind))]
        halved, doubled = ((sign * scores[title] >= 1).double().mean() for sign in (-1, 1))
        print(f"{title:<28} {len(part):>4} {scores[title].median():>18.2f} {halved:>7.0%} {doubled:>8.0%}")

    # 5. Do the scores tell the two apart?
    beside = [title for title in groups if "letter" in title]
    breaking = [title for title in groups if title not in beside and title not in JUNCTION]
    area = probability_above(*(torch.cat([scores[title] for title in part]) for part in (beside, breaking)))
    print(f"a breaking variant scores below one beside the junction with probability {area:.3f}")
    print("(made-up variants and the model's own view of them: no measured effect is in these data)")
    return area


if __name__ == "__main__":
    auto_cli(main)
