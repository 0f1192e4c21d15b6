"""The training that `accuracy.py` uses: AdamW with one cycle, averaged weights, one strand or both."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers import DNA


@dataclass(frozen=True)
class Settings:
    """How a model is trained."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.02
    smoothing: float = 0.0  # of the labels
    average: float = 0.995  # decay of the moving average of the weights
    both_strands: bool = False  # every sequence is seen on a random strand, and judged on both


def fit(
    model: nn.Module, tokens: Tensor, labels: Tensor, settings: Settings, *, seed: int
) -> Iterator[nn.Module]:
    """Train, and give the model with averaged weights after every epoch."""
    rng = torch.Generator().manual_seed(seed)
    averaged = copy.deepcopy(model).requires_grad_(False)
    steps = len(tokens) // settings.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.epochs * steps, pct_start=0.2
    )
    done = 0
    for _ in range(settings.epochs):
        model.train()
        order = torch.randperm(len(tokens), generator=rng)[: steps * settings.batch_size]
        for places in order.split(settings.batch_size):
            batch = tokens[places]
            if settings.both_strands:
                batch = turned(batch, rng)
            loss = F.cross_entropy(model(batch), labels[places], label_smoothing=settings.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            follow(averaged, model, min(settings.average, done / (done + 10)))
        yield averaged.eval()


def turned(tokens: Tensor, rng: torch.Generator) -> Tensor:
    """Every row on a random strand."""
    coins = torch.rand(len(tokens), 1, generator=rng) < 0.5
    return torch.where(coins, DNA.reverse_complement(tokens), tokens)


@torch.no_grad()
def follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards the model's."""
    for mean, new in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


@torch.inference_mode()
def log_chances(model: Callable[[Tensor], Tensor], tokens: Tensor, *, both_strands: bool) -> Tensor:
    """Logarithms of the chances of the classes, (n, classes); the mean over the strands if both count."""
    rows = [_log_chances(model, part, both_strands) for part in tokens.split(512)]
    return torch.cat(rows)


def _log_chances(model: Callable[[Tensor], Tensor], tokens: Tensor, both_strands: bool) -> Tensor:
    found = model(tokens).log_softmax(1)
    if not both_strands:
        return found
    return (found + model(DNA.reverse_complement(tokens)).log_softmax(1)) / 2
