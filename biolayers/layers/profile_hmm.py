"""A profile hidden Markov model as a trainable layer."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from biolayers.alphabet import PAD, Alphabet
from biolayers.ops.hmm import hmm_forward
from biolayers.ops.hmm_paths import FLOOR, best, log_sum, or_minus_infinity, total_score
from biolayers.ops.hmm_posterior import hmm_posterior
from biolayers.ops.hmm_viterbi import hmm_viterbi
from biolayers.profiles.background import background, expectations, spread_scores
from biolayers.profiles.path import Hit, hits
from biolayers.profiles.profile import ProfileHMM as Profile
from biolayers.profiles.search import (
    entries,
    exits,
    length_model,
    null_score,
    occupancies,
    whole_entries,
)
from shared.errors import UserError

_SCORES = {"forward": (hmm_forward, log_sum), "viterbi": (lambda *args: hmm_viterbi(*args)[0], best)}
_GROUPS = (3, 2, 2)  # the steps from a match, an insert and a delete state


class ProfileHMM(nn.Module):
    """Score sequences under a profile HMM in bits, as HMMER does; every parameter can be trained.

    The score is the log-odds of the sequence against the background, with HMMER's length model and first null
    model, without its correction for composition (null2). Emissions, steps, and entry are kept as logits, so
    that they stay probabilities whatever an optimiser does: `-layer(tokens).mean()` is a loss, and the scores
    of several layers are features for a head. Insert states emit the background at first, as in HMMER.

    Args:
        profile: `biolayers.profiles.profile.ProfileHMM` to start from, or the nodes of a random one.
        alphabet: of a random one.
        mode: "local" lets a pass begin and end at any node, "glocal" leads it from the first to the last.
        multihit: whether a sequence may pass through the model several times.
        score: "forward" sums over all paths, "viterbi" takes the best one.
        device: of the parameters.
        dtype: of the parameters, float32 or float64.

    Raises:
        UserError: an option has another value, or a random profile has no alphabet or no node.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.layers import ProfileHMM
        >>> from biolayers.profiles.profile import ProfileHMM as Profile
        >>> site = Profile.from_alignment(["TATAAT"] * 8 + ["TACAAT"] * 2, DNA)
        >>> layer = ProfileHMM(site)
        >>> tokens = DNA.tokens(["GGCTATAATGCC", "GGCGCGCGCGCC"])
        >>> layer(tokens) > 0
        tensor([ True, False])
        >>> print(layer.hits(tokens)[0][0])
        residues 4-9 in nodes 1-6: MMMMMM
    """

    def __init__(
        self,
        profile: Profile | int,
        alphabet: Alphabet | None = None,
        *,
        mode: str = "local",
        multihit: bool = True,
        score: str = "forward",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if mode not in ("local", "glocal") or score not in _SCORES:
            raise UserError(
                'ProfileHMM: expected mode "local" or "glocal" and score "forward" or "viterbi", '
                f"received {mode!r} and {score!r}"
            )
        if isinstance(profile, int):
            profile = _random(profile, alphabet)
        elif alphabet is not None and alphabet.letters != profile.alphabet.letters:
            raise UserError(
                f"ProfileHMM: expected the profile's alphabet {profile.alphabet}, received {alphabet}"
            )
        self.profile, self.alphabet = profile, profile.alphabet
        self.mode, self.multihit, self.score = mode, multihit, score
        options = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.match = nn.Parameter(profile.match.to(**options))
        self.insert = nn.Parameter(background(self.alphabet).log().repeat(len(profile) - 1, 1).to(**options))
        self.transitions = nn.Parameter(profile.transitions[1:-1].to(**options))
        steps = profile.transitions[0]
        begin = torch.stack([torch.log1p(-steps[2].exp()), steps[2]])
        entry = begin if mode == "glocal" else occupancies(profile.transitions)
        self.entry = nn.Parameter(entry.clamp(min=-100.0).to(**options))
        self.register_buffer("background", background(self.alphabet).log().to(**options), persistent=False)
        self.register_buffer("shares", expectations(self.alphabet).to(**options), persistent=False)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Float[Tensor, " b"]:
        """The bit score of each sequence, (b,); -inf for an empty one.

        Args:
            tokens: (b, l) uint8; ambiguous letters score their expectation, gaps lie outside of the model.
                Or columns (b, letters, l) floating, such as one-hot ones: what they lack of one is spread
                over all letters, as for the unknown letter.
            lengths: (b,) int64; by default what comes before the padding, or l for columns.
        """
        evaluate, join = _SCORES[self.score]
        lengths = self._lengths(tokens, lengths)
        match, insert, *rest = self.parameters_for(lengths)
        if tokens.is_floating_point():
            score = self._score_columns(tokens, lengths, rest, join)
        else:
            score = evaluate(tokens, lengths, match, insert, *rest)
        return (score - null_score(lengths, like=score)) / math.log(2)

    def parameters_for(self, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The parameters of `biolayers.ops.hmm_forward` for sequences of these lengths, (b,) int64."""
        match, insert = (spread_scores(t, self.shares) for t in self._log_odds())
        steps = torch.cat([part.log_softmax(-1) for part in self.transitions.split(_GROUPS, -1)], -1)
        local = self.mode == "local"
        entry = entries(self.entry) if local else whole_entries(self.entry.log_softmax(-1), steps)
        outside = length_model(lengths, multihit=self.multihit, like=match)
        return match, insert, steps, entry, exits(len(match), local=local, like=match), outside

    def posterior(
        self, tokens: UInt8[Tensor, "b l"], lengths: Tensor | None = None
    ) -> Float[Tensor, "b l s"]:
        """The probability of each state at each residue: see `biolayers.ops.hmm_posterior`."""
        lengths = self._lengths(tokens, lengths)
        return hmm_posterior(tokens, lengths, *self.parameters_for(lengths))

    def hits(self, tokens: UInt8[Tensor, "b l"], lengths: Tensor | None = None) -> list[list[Hit]]:
        """The passes of the best path of each sequence through the model."""
        lengths = self._lengths(tokens, lengths)
        with torch.no_grad():
            _, states, passes = hmm_viterbi(tokens, lengths, *self.parameters_for(lengths))
        return [hits(s, p, len(self.match)) for s, p in zip(states.tolist(), passes.tolist(), strict=True)]

    def to_profile(self) -> Profile:
        """The profile with the emissions and steps as they are now.

        Insert emissions are those of the profile that the layer began with, since HMMER does not score them,
        and so is what the file says of scores' statistics.
        """
        given = self.profile
        match = self.match.detach().double().log_softmax(-1)
        steps = [part.log_softmax(-1) for part in self.transitions.detach().double().split(_GROUPS, -1)]
        inner = torch.cat(steps, -1)
        kept = {"accession": given.accession, "description": given.description, "header": given.header}
        return Profile(
            given.name,
            self.alphabet,
            match,
            given.insert,
            torch.cat([given.transitions[:1], inner, given.transitions[-1:]]),
            composition=match.exp().mean(0).log(),
            annotation={k: v for k, v in given.annotation.items() if k != "consensus"},
            **kept,
        )

    def _log_odds(self) -> tuple[Tensor, Tensor]:
        """(m, K) and (m - 1, K) of the plain letters."""
        match, insert = (t.log_softmax(-1) - self.background for t in (self.match, self.insert))
        return match, insert

    def _lengths(self, tokens: Tensor, lengths: Tensor | None) -> Tensor:
        letters = self.alphabet.channels
        if tokens.is_floating_point() and (tokens.ndim != 3 or tokens.shape[1] != letters):
            raise UserError(
                f"ProfileHMM: expected columns (b, {letters}, l) of {self.alphabet}, "
                f"received {tuple(tokens.shape)}"
            )
        if not tokens.is_floating_point() and (tokens.dtype != torch.uint8 or tokens.ndim != 2):
            raise UserError(
                f"ProfileHMM: expected tokens (b, l) uint8, received {tuple(tokens.shape)} {tokens.dtype}; "
                f"encode text with {self.alphabet}.tokens"
            )
        if lengths is not None:
            return lengths
        if tokens.is_floating_point():
            return torch.full((len(tokens),), tokens.shape[2], device=tokens.device)
        return (tokens != PAD).sum(-1)

    def _score_columns(self, columns: Tensor, lengths: Tensor, rest: list[Tensor], join) -> Tensor:
        """The score in nats of columns (b, K, l), in plain PyTorch."""
        x = columns.mT.to(self.match.dtype)  # (b, l, K)
        x = x + (1 - x.sum(-1, keepdim=True)) * self.background.exp()
        match, insert = (x @ scores.clamp(min=FLOOR).mT for scores in self._log_odds())
        return or_minus_infinity(
            total_score(match, insert, match.new_zeros(*match.shape[:2], 4), lengths, *rest, join=join)
        )

    def extra_repr(self) -> str:
        """What the layer prints."""
        options = f"{self.mode}, multihit={self.multihit}, score={self.score}"
        return f"{len(self.match)} nodes, {self.alphabet}, {options}"


def _random(nodes: int, alphabet: Alphabet | None) -> Profile:
    """A profile with emissions near the background and HMMER's usual steps; it differs at every call."""
    if alphabet is None or nodes < 1:
        raise UserError(
            "ProfileHMM: expected at least one node and an alphabet, e.g. biolayers.DNA, "
            f"received {nodes}, {alphabet}"
        )
    frequency = background(alphabet).log()
    steps = torch.tensor([0.98, 0.01, 0.01, 0.6, 0.4, 0.6, 0.4], dtype=torch.float64).log()
    noise = 0.5 * torch.randn(nodes, alphabet.channels, dtype=torch.float64)
    return Profile(
        "random",
        alphabet,
        (frequency + noise).log_softmax(-1),
        frequency.repeat(nodes + 1, 1),
        steps.repeat(nodes + 1, 1),
    )
