"""In-silico saturation mutagenesis that computes only what a mutation can reach."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from biolayers.alphabet import DNA, PAD, Alphabet
from biolayers.interpret.calling import Model, alphabet_of, check_tokens, columns, evaluation, predict
from biolayers.interpret.mutants import Run
from biolayers.interpret.patch import Base, Patch
from shared.errors import UserError

_AGREE = 1e-4  # of the largest output: what columns may differ from tokens by


@dataclass(frozen=True)
class Mutation:
    """Mutants of one sequence with equally many letters at each position."""

    positions: Tensor  # (p,)
    letters: Tensor  # (p, m): the letters that are set there, one mutant each

    def chunks(self, size: int) -> Iterator["Mutation"]:
        """Parts of at most `size` mutants (of one position at least)."""
        step = max(1, size // self.letters.shape[1])
        for first in range(0, len(self.positions), step):
            part = slice(first, first + step)
            yield Mutation(self.positions[part], self.letters[part])


@dataclass
class IsmReport:
    """What `ism` computes on windows, and where it has to go on in full.

    Args:
        windows: For each layer on windows: its name, the function, the window's width, the whole length.
        ended_by: The layer and function before which the mutants become ordinary tensors.
        reason: Why nothing at all is on windows; empty if something is.
    """

    windows: list[tuple[str, str, int, int]] = field(default_factory=list)
    ended_by: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"ism: every mutant in full, because {self.reason}"
        lines = [f"{layer} ({name}): {width:,} of {length:,}" for layer, name, width, length in self.windows]
        return "\n".join(["ism: positions computed for each mutant", *lines, f"in full from {self.ended_by}"])


def ism(
    model: Model,
    tokens: Tensor,
    *,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 192,
    positions: Sequence[int] | Tensor | None = None,
    fast: bool | Literal["auto"] = "auto",
) -> Tensor:
    """Predict every sequence that differs from the given ones by one letter.

    Through convolutions, norms, activations, pools, residual sums and the first dense layer, only what the
    mutation can reach is computed; from the first other operation on, in full (`ism_report` says where). The
    values are those of calling the model on each mutant. It is called in evaluation mode and without
    gradients; fast ISM asks that it also takes float columns (b, letters, l) in place of tokens, as all of
    our layers do, and that equal calls give equal results.

    The idea of recomputing windows is that of fastISM (Nair et al., Bioinformatics 2022).

    Args:
        model: Takes tokens (b, l), or float columns only; returns (b, ...).
        tokens: (b, l) uint8.
        alphabet: Whose plain letters are tried.
        batch_size: How many mutants go through the model together.
        positions: Where letters are changed, each in 0..l - 1; by default everywhere.
        fast: True insists on the fast way, False forbids it, "auto" takes it where it can.

    Returns:
        (b, letters, l, ...): entry [i, a, j] is the prediction for sequence i with letter a at position j;
        for the letter that stands there, and everywhere on `PAD`, that for the sequence itself. With
        `positions`, these in place of l. Subtract the model's output for `tokens` to see effects.

    Raises:
        UserError: An argument is not as described, the model's output has no row for each sequence, or
            `fast=True` and the model does not take columns.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.interpret import ism
        >>> count_g = lambda x: x[:, 2].sum(1, keepdim=True)  # takes columns
        >>> ism(count_g, DNA.tokens(["ACG"]))[0, :, :, 0]
        tensor([[1., 1., 0.],
                [1., 1., 0.],
                [2., 2., 1.],
                [1., 1., 0.]])
    """
    letters = alphabet_of(alphabet)
    check_tokens("ism", tokens)
    if batch_size < 1:
        raise UserError(f"ism: expected batch_size of at least 1, received {batch_size}")
    places = _places(positions, tokens.shape[1]).to(tokens.device)
    with torch.no_grad(), evaluation(model):
        way, _ = _way(model, tokens[:1], letters, fast)
        rows = [_of_sequence(model, row, letters, places, batch_size, way) for row in tokens.split(1)]
    return torch.stack(rows)


def ism_report(model: Model, tokens: Tensor, *, alphabet: Alphabet | str = DNA) -> IsmReport:
    """Say what `ism` would compute on windows, and which layer ends that.

    Args:
        model: As for `ism`.
        tokens: (b, l) uint8; the first sequence is looked at.
        alphabet: As for `ism`.

    Raises:
        UserError: As for `ism`.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.interpret import ism_report
        >>> model = torch.nn.Sequential(torch.nn.Conv1d(4, 2, 3), torch.nn.Softmax(1))
        >>> print(ism_report(model, DNA.tokens(["ACGTACGT"])))
        ism: positions computed for each mutant
        0 (conv1d): 3 of 6
        in full from 1 (softmax)
    """
    letters = alphabet_of(alphabet)
    check_tokens("ism", tokens)
    report = IsmReport()
    with torch.no_grad(), evaluation(model):
        way, report.reason = _way(model, tokens[:1], letters, "auto")
        if way == "windows":
            length = tokens.shape[1]
            with _named(model, report) as run:
                middle = next(_mutations(tokens[0], letters, torch.tensor([length // 2])))
                model(run.start(_patch(columns(tokens[:1], letters, model), middle)))
    report.ended_by = report.ended_by or "the end of the model"
    return report


def _way(model: Model, row: Tensor, letters: Alphabet, fast: bool | str) -> tuple[str, str]:
    """How the model is called: on "windows", or in full on "tokens" or "columns"; and why not on windows."""
    from_columns, refusal = _attempt(model, columns(row, letters, model))
    from_tokens, other = _attempt(model, row)
    if from_columns is None and from_tokens is None:
        raise UserError(
            f"ism: expected a model of tokens or of columns; it says, on columns: {refusal}; "
            f"on tokens: {other}"
        )
    if from_columns is None:
        reason = f"the model does not take float columns ({refusal})"
    elif from_tokens is not None and not _agree(from_columns, from_tokens):
        reason = "the model's outputs for tokens and for their columns differ"
    else:
        if fast is False:
            return "columns" if from_tokens is None else "tokens", "fast is False"
        return "windows", ""
    if fast is True:
        raise UserError(f"ism: expected a model for fast=True, but {reason}; use fast='auto'")
    return "tokens", reason


def _attempt(model: Model, inputs: Tensor) -> tuple[Tensor | None, str]:
    try:
        return predict("ism", model, inputs), ""
    except Exception as refusal:  # whatever a model raises on inputs that it is not made for
        return None, (str(refusal).splitlines() or [""])[0][:160]


def _agree(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return bool(((a - b).abs() <= _AGREE * b.abs().max().clamp_min(1)).all()) if b.numel() else True


def _places(positions: Sequence[int] | Tensor | None, length: int) -> Tensor:
    if positions is None:
        return torch.arange(length)
    places = torch.as_tensor(positions)
    whole = not (places.is_floating_point() or places.is_complex() or places.dtype == torch.bool)
    if places.ndim != 1 or (len(places) and (not whole or places.min() < 0 or places.max() >= length)):
        raise UserError(f"ism: expected positions in 0..{length - 1}, received {positions}")
    return places.long()


def _mutations(row: Tensor, letters: Alphabet, places: Tensor) -> Iterator[Mutation]:
    """The mutants of a sequence (l,): at plain letters by all others, elsewhere by all."""
    there = row[places].long()
    every = torch.arange(letters.channels, device=row.device)
    for plain in (True, False):
        here = places[(there < letters.channels) if plain else (there >= letters.channels) & (there != PAD)]
        if len(here) == 0 or (plain and letters.channels == 1):
            continue
        choice = every.expand(len(here), -1)
        if plain:
            choice = choice[choice != row[here].long().unsqueeze(1)].view(len(here), -1)
        yield Mutation(here, choice)


def _of_sequence(
    model: Model, row: Tensor, letters: Alphabet, places: Tensor, batch_size: int, way: str
) -> Tensor:
    """(letters, positions, ...) of one sequence (1, l)."""
    base = row if way == "tokens" else columns(row, letters, model)
    unchanged = predict("ism", model, base)
    out = unchanged.new_empty(row.shape[1], letters.channels, *unchanged.shape[1:])
    out[:] = unchanged
    run = Run(lambda name, patch: None)
    for mutation in _mutations(row[0], letters, places.unique()):
        for part in mutation.chunks(batch_size):
            inputs = run.start(_patch(base, part)) if way == "windows" else _in_full(base, part)
            found = predict("ism", model, inputs)
            found = found.in_full() if hasattr(found, "in_full") else found
            out[part.positions.unsqueeze(1), part.letters] = found.view(*part.letters.shape, *out.shape[2:])
    return out[places].transpose(0, 1)


def _patch(base: Tensor, part: Mutation) -> Patch:
    """Mutants as windows of one position."""
    data = nn.functional.one_hot(part.letters, base.shape[1]).to(base.dtype).unsqueeze(0)  # (1, p, m, c)
    return Patch(Base(base), part.positions, data, is_difference=False)


def _in_full(base: Tensor, part: Mutation) -> Tensor:
    """Mutants as tokens (n, l), or as columns (n, c, l)."""
    count = part.letters.numel()
    copies = base.expand(count, *base.shape[1:]).clone()
    which = torch.arange(count, device=base.device)
    where = part.positions.repeat_interleave(part.letters.shape[1])
    if base.ndim == 2:
        copies[which, where] = part.letters.flatten().to(base.dtype)
    else:
        copies[which, :, where] = nn.functional.one_hot(part.letters.flatten(), base.shape[1]).to(base.dtype)
    return copies


@contextlib.contextmanager
def _named(model: Model, report: IsmReport) -> Iterator[Run]:
    """A run that writes into the report, with the names of the modules that are at work."""
    stack: list[str] = []
    hooks = []
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: stack.__delitem__(-1), always_call=True))

    def log(function: str, patch: Patch | None) -> None:
        layer = (stack[-1] if stack else "") or "the model"
        if patch is not None:
            report.windows.append((layer, function, patch.width, patch.base.length))
        elif not report.ended_by:
            report.ended_by = f"{layer} ({function})"

    try:
        yield Run(log)
    finally:
        for hook in hooks:
            hook.remove()
