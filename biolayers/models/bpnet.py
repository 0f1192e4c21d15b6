"""BPNet: the profile of reads along a sequence, and their number."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from biolayers.layers import TokenConv1d
from biolayers.layers.dilated_tower import DilatedResidualTower
from biolayers.models.base import ReferenceModel
from biolayers.models.head import Head
from shared.errors import UserError


class BPNet(ReferenceModel):
    """A dilated residual tower that predicts a profile at base resolution and a count per task and strand.

    Follows Avsec et al., "Base-resolution models of transcription-factor binding reveal soft motif syntax",
    Nature Genetics 53 (2021), without the control track. `bpnet_loss` is the paper's loss. With `classes`,
    the mean of the tower's map over positions goes to a head instead, and the model is a classifier.

    Args:
        tasks: Experiments that are predicted together; the paper has 4.
        strands: Profiles of each task.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        filters: Channels of all convolutions.
        kernel_size: Taps of the first convolution, odd.
        layers: Dilated convolutions, with dilations 2, 4, 8, ...
        profile_kernel_size: Taps of the last, transposed convolution, odd.
        classes: None, or outputs of the classifier.
        head: See `ReferenceModel`; only with `classes`.

    Raises:
        UserError: An option is out of range.

    Example:
        >>> import torch
        >>> model = BPNet(tasks=1, filters=8, layers=3)
        >>> profile, counts = model(torch.zeros(2, 100, dtype=torch.uint8))
        >>> profile.shape, counts.shape
        (torch.Size([2, 2, 100]), torch.Size([2, 2]))
    """

    name: ClassVar[str] = "bpnet"

    def __init__(
        self,
        *,
        tasks: int = 4,
        strands: int = 2,
        letters: int = 4,
        filters: int = 64,
        kernel_size: int = 25,
        layers: int = 9,
        profile_kernel_size: int = 25,
        classes: int | None = None,
        head: Head | str | None = None,
    ) -> None:
        if head is not None and classes is None:
            raise UserError("bpnet: expected classes together with head; a head classifies")
        if profile_kernel_size % 2 == 0:
            raise UserError(f"bpnet: expected an odd profile_kernel_size, received {profile_kernel_size}")
        super().__init__(
            tasks=tasks,
            strands=strands,
            letters=letters,
            filters=filters,
            kernel_size=kernel_size,
            layers=layers,
            profile_kernel_size=profile_kernel_size,
            classes=classes,
            head=head,
        )
        self.conv = TokenConv1d(letters, filters, kernel_size, padding="same", activation="relu")
        self.tower = DilatedResidualTower(filters, layers=layers, first_dilation=2)
        if classes is None:
            outputs = tasks * strands
            self.profile = nn.ConvTranspose1d(
                filters, outputs, profile_kernel_size, padding=profile_kernel_size // 2
            )
            self.counts = nn.Linear(filters, outputs)
        else:
            self.head = self._head(filters, classes)

    def body(self, tokens: Tensor) -> Tensor:
        """The map under all outputs: (b, filters, l)."""
        return self.tower(self.conv(tokens))

    def features(self, tokens: Tensor) -> Tensor:
        return self.body(tokens).mean(2)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Logits of the profiles (b, tasks * strands, l) and log(1 + counts) (b, tasks * strands).

        With `classes`: logits (b, classes).
        """
        if self.config["classes"] is not None:
            return self.head(self.features(tokens))
        x = self.body(tokens)
        return self.profile(x), self.counts(x.mean(2))


def bpnet_loss(
    profile: Tensor, log_counts: Tensor, reads: Tensor, *, count_weight: float | None = None
) -> Tensor:
    """The multinomial negative log-likelihood of the profiles, plus the squared error of the log counts.

    Args:
        profile: (b, n, l) logits.
        log_counts: (b, n), of log(1 + counts).
        reads: (b, n, l) reads at each position, at least 0.
        count_weight: Of the squared error; by default half the mean count, the paper's balance.

    Returns:
        The mean over batch and tracks; the likelihood's constant, which no weight changes, is included.

    Raises:
        UserError: The shapes do not fit.

    Example:
        >>> import torch
        >>> bpnet_loss(torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.tensor([[[1.0, 0.0]]]), count_weight=0)
        tensor(0.6931)
    """
    if profile.shape != reads.shape or log_counts.shape != reads.shape[:2]:
        raise UserError(
            f"bpnet_loss: expected profile and reads (b, n, l) and log_counts (b, n), received "
            f"{tuple(profile.shape)}, {tuple(reads.shape)} and {tuple(log_counts.shape)}"
        )
    counts = reads.sum(2)  # (b, n)
    likelihood = (
        torch.lgamma(counts + 1) - torch.lgamma(reads + 1).sum(2) + (reads * profile.log_softmax(2)).sum(2)
    )
    weight = counts.mean() / 2 if count_weight is None else count_weight
    return (weight * (log_counts - torch.log1p(counts)).square() - likelihood).mean()
