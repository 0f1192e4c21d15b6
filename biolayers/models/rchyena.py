"""A language model of DNA that reads both strands alike, with long convolutions."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.alphabet import DNA, PAD
from biolayers.layers import TokenConv1d
from biolayers.models.base import ReferenceModel
from biolayers.models.head import Head
from shared.errors import UserError

LETTERS = 4
OBJECTIVES = ("masked", "causal")


class RCHyena(ReferenceModel):
    """Gated long convolutions over both strands of DNA with tied weights: logits of letters, or of classes.

    The operator is that of Nguyen et al., "HyenaDNA: long-range genomic sequence modeling at single
    nucleotide resolution" (NeurIPS 2023): implicit filters as long as the sequence, applied by the fast
    Fourier transform, between gates. The symmetry is that of Schiff et al., "Caduceus: bi-directional
    equivariant long-range DNA sequence modeling" (ICML 2024): each strand passes through the same layers in
    its own direction, so the logits of the reverse complement are those of the sequence with positions and
    letters reversed. The sizes are ours: a model that trains on a CPU.

    A causal model predicts each letter from those before it. No such model can be equivariant, since the
    other strand comes from the future; it reads the given strand alone, and `pretraining_loss` trains it on
    both.

    Args:
        width: Channels, even.
        layers: Blocks.
        objective: "masked" (both directions, equivariant) or "causal".
        classes: None for logits of letters (b, l, 4), or outputs of a classifier, which sees the mean over
            positions and strands.
        dropout: Share of each block's addend that training drops.
        head: See `ReferenceModel`; only with `classes`.

    Raises:
        UserError: An option is out of range.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> model, tokens = RCHyena(width=8, layers=1), DNA.tokens(["ACGTTGCAAC"])
        >>> found, other = model(tokens), model(DNA.reverse_complement(tokens))  # (1, 10, 4) each
        >>> torch.allclose(other, found.flip(1, 2), atol=1e-5)
        True
    """

    name: ClassVar[str] = "rchyena"

    def __init__(
        self,
        *,
        width: int = 64,
        layers: int = 4,
        objective: str = "masked",
        classes: int | None = None,
        dropout: float = 0.0,
        head: Head | str | None = None,
    ) -> None:
        if objective not in OBJECTIVES:
            raise UserError(
                f"rchyena: expected objective {' or '.join(map(repr, OBJECTIVES))}, received {objective!r}"
            )
        if width < 2 or width % 2:
            raise UserError(f"rchyena: expected an even width, received {width}")
        if head is not None and classes is None:
            raise UserError("rchyena: expected classes together with head; a head classifies")
        super().__init__(
            width=width, layers=layers, objective=objective, classes=classes, dropout=dropout, head=head
        )
        self.embed = TokenConv1d(LETTERS, width, 1)  # N, masked letters and padding: the bias alone
        causal = objective == "causal"
        self.blocks = nn.Sequential(*(_Block(width, causal, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        if classes is None:
            self.letter = nn.Linear(width, LETTERS)
        else:
            self.head = self._head(width, classes)

    def body(self, tokens: Tensor) -> Tensor:
        """One strand's map, read in its own direction: (b, l, width)."""
        return self.norm(self.blocks(self.embed(tokens).transpose(1, 2)))

    def strands(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of the given and of the other strand, both in the order of the given one's positions."""
        given, other = self.body(torch.cat((tokens, reverse_complement(tokens)))).chunk(2)
        return given, other.flip(1)

    def features(self, tokens: Tensor) -> Tensor:
        real = tokens.any(1) if tokens.is_floating_point() else tokens < LETTERS
        weight = real.unsqueeze(2).to(self.norm.weight.dtype)  # (b, l, 1)
        mean = sum((x * weight).sum(1) for x in self.strands(tokens)) / 2
        return mean / weight.sum(1).clamp(min=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of letters (b, l, 4) (of the next letter in a causal model), or of classes (b, classes)."""
        if self.config["classes"] is not None:
            return self.head(self.features(tokens))
        if self.config["objective"] == "causal":
            return self.letter(self.body(tokens))
        given, other = self.strands(tokens)
        return (self.letter(given) + self.letter(other).flip(2)) / 2  # A and T, C and G change places


def reverse_complement(tokens: Tensor) -> Tensor:
    """The other strand of tokens (b, l) uint8 or of columns (b, 4, l)."""
    return tokens.flip(1, 2) if tokens.is_floating_point() else DNA.reverse_complement(tokens)


def pretraining_loss(
    model: RCHyena, tokens: Tensor, *, share: float = 0.15, generator: torch.Generator | None = None
) -> Tensor:
    """The mean cross-entropy in nats of hidden letters (masked) or of next letters on both strands (causal).

    Of a `share` of the letters, drawn at random, four fifths are hidden, a tenth are replaced by random
    letters and a tenth stay, as in BERT (Devlin et al., 2019). N and padding are never to be predicted; a
    batch in which nothing is to be predicted has the loss 0.

    Args:
        model: With logits of letters.
        tokens: (b, l) uint8.
        share: Of the letters that a masked model predicts, above 0, at most 1.
        generator: Of the random numbers.

    Raises:
        UserError: The model is a classifier, the tokens are not uint8, or `share` is out of range.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> loss = pretraining_loss(RCHyena(width=8, layers=1), DNA.tokens(["ACGTTGCAAC"]), share=1.0)
        >>> 0 < loss.item() < 5
        True
    """
    if model.config["classes"] is not None:
        raise UserError(
            "pretraining_loss: expected a model of letters, received a classifier; use classes=None"
        )
    if tokens.dtype != torch.uint8 or not 0 < share <= 1:
        raise UserError(
            f"pretraining_loss: expected tokens uint8 and a share in (0, 1], "
            f"received {tokens.dtype} and {share}"
        )
    if model.config["objective"] == "causal":
        both = torch.cat((tokens, reverse_complement(tokens)))
        return _cross_entropy(model(both)[:, :-1], both[:, 1:], both[:, 1:] < LETTERS)
    dice = torch.rand(tokens.shape, generator=generator, device=tokens.device)
    chosen = (dice < share) & (tokens < LETTERS)
    other = torch.randint(LETTERS, tokens.shape, generator=generator, device=tokens.device).to(torch.uint8)
    shown = torch.where(chosen & (dice < 0.9 * share), other, tokens)
    shown = torch.where(chosen & (dice < 0.8 * share), torch.full_like(tokens, PAD), shown)
    return _cross_entropy(model(shown), tokens, chosen)


def _cross_entropy(logits: Tensor, tokens: Tensor, counts: Tensor) -> Tensor:
    """The mean over the positions that count, 0 (with a gradient of 0) if there are none."""
    losses = F.cross_entropy(
        logits.flatten(0, 1), tokens.flatten().long().clamp(max=LETTERS - 1), reduction="none"
    )
    weight = counts.flatten().to(losses.dtype)
    return (losses * weight).sum() / weight.sum().clamp(min=1)


class _Block(nn.Module):
    """Mix positions, then channels; each normalised before and added to the input."""

    def __init__(self, width: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.mixer = nn.Sequential(nn.LayerNorm(width), _Hyena(width, causal), nn.Dropout(dropout))
        self.channels = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:  # (b, l, width)
        x = x + self.mixer(x)
        return x + self.channels(x)


class _Hyena(nn.Module):
    """q * longconv(k * v), with q, k and v from a linear map and a short convolution."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.project = nn.Linear(width, 3 * width)
        self.short = nn.Conv1d(3 * width, 3 * width, 3, groups=3 * width)
        self.filters = nn.ModuleList(_ImplicitFilter(width) for _ in range(1 if causal else 2))
        self.skip = nn.Parameter(torch.ones(width))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (b, l, width)
        x = F.pad(self.project(x).transpose(1, 2), (2, 0) if self.causal else (1, 1))
        q, k, v = self.short(x).chunk(3, 1)  # (b, width, l) each
        u = k * v
        return self.out((q * (self._long(u) + self.skip.unsqueeze(1) * u)).transpose(1, 2))

    def _long(self, u: Tensor) -> Tensor:
        """Each channel with its filter, over all earlier positions; and over all later ones unless causal."""
        if not u.numel():  # some FFT libraries refuse an empty batch
            return u
        length = u.shape[2]
        spectrum = torch.fft.rfft(u, 2 * length)
        y = torch.fft.irfft(spectrum * torch.fft.rfft(self.filters[0](length), 2 * length), 2 * length)
        if self.causal:
            return y[..., :length]
        back = torch.fft.rfft(self.filters[1](length), 2 * length).conj()  # a correlation
        return (y + torch.fft.irfft(spectrum * back, 2 * length))[..., :length]


class _ImplicitFilter(nn.Module):
    """A filter of any length from a small network of positions, times a decay that each channel chooses."""

    BANDS = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2 * self.BANDS + 1, 32), nn.SiLU(), nn.Linear(32, width))
        self.decay = nn.Parameter(torch.linspace(math.log(0.5), math.log(0.005), width))

    def forward(self, length: int) -> Tensor:  # -> (width, length)
        t = torch.arange(length, device=self.decay.device, dtype=self.decay.dtype).unsqueeze(1)
        bands = 2 ** torch.arange(self.BANDS, device=t.device, dtype=t.dtype)  # periods of 4 to 512 letters
        angles = t * (math.pi / 2) / bands
        seen = torch.cat((t / 1000, angles.sin(), angles.cos()), 1)
        return self.network(seen).transpose(0, 1) * torch.exp(-self.decay.exp().unsqueeze(1) * t.squeeze(1))
