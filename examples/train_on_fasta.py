"""Train a model on a FASTA file with a training loop of your own.

    python examples/train_on_fasta.py

`qbio train` does all of this in one command, with a report. Here are the parts, for a loop that is yours:
the dataset, the split that keeps identical sequences together, and a model that reads tokens.
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch.nn import functional as F

import biolayers
from biolayers.models import SequenceCNN

SPLICE = Path(__file__).parent / "data" / "splice_junctions.fa"


def main(fasta: Path = SPLICE, label_pattern: str = r"class=(\w+)", epochs: int = 12, seed: int = 0) -> float:
    """Train a small convolutional network.

    Args:
        fasta: Sequences of one length.
        label_pattern: Regular expression whose group is the class, searched in each header.
        epochs: Passes over the training part.
        seed: Of the split, the weights and the order.

    Returns:
        The accuracy on the held-out part.
    """
    torch.manual_seed(seed)

    # 1. Sequences become tokens (A C G T = 0..3, as uint8); headers become classes.
    data = biolayers.FastaDataset(fasta, label_pattern=label_pattern)
    print(data)
    print(biolayers.duplicates(data))

    # 2. A split by class in which no sequence stands on two sides.
    training, held_out = biolayers.split(data, (0.9, 0.1), seed=seed)
    print(biolayers.duplicates([training, held_out]))

    # 3. The model takes the tokens as they are; no one-hot tensor is made.
    model = SequenceCNN(data.width, len(data.classes), letters=data.alphabet.channels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    # 4. An ordinary loop. Each epoch has an order of its own, given by the seed.
    batches = biolayers.loader(training, batch_size=64, shuffle=True, seed=seed)
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for tokens, labels in batches:  # (b, length) uint8, (b,) int64
            loss = F.cross_entropy(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        print(f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.4f}")

    # 5. Judge it once, on sequences that it never saw.
    model.eval()
    with torch.no_grad():
        tokens, labels = data.batch(held_out.indices)
        accuracy = (model(tokens).argmax(1) == labels).float().mean().item()
    print(f"accuracy on {len(labels)} held-out sequences: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    auto_cli(main)
