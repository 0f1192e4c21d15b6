"""The model of a run, as it was trained."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biolayers import models
from biolayers.commands.training import ALPHABETS
from shared.app.runs import model_weights, read_checkpoint


def rebuilt(checkpoint: dict[str, Any]) -> nn.Module:
    """The model of a checkpoint that `read_checkpoint` read, in evaluation mode."""
    card = checkpoint["qbio"]
    letters = ALPHABETS[card["alphabet"]].channels
    model = models.build(card["model"], length=card["length"], classes=len(card["classes"]), letters=letters)
    model.load_state_dict(model_weights(checkpoint))
    return model.eval()


def model_of_run(path: Path, batch_size: int) -> tuple[nn.Module, tuple[Tensor]]:
    """The model of a run and random sequences for it; what the entry-point group `qbio.runs` names.

    Args:
        path: of the run's folder, or of a checkpoint.
        batch_size: how many sequences.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    checkpoint = read_checkpoint(path, option="model")
    card = checkpoint["qbio"]
    letters = ALPHABETS[card["alphabet"]].channels
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(letters, (batch_size, card["length"]), generator=draw)
    return rebuilt(checkpoint), (tokens.to(torch.uint8),)
