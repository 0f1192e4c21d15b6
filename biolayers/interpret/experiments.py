"""Experiments on sequences: put a motif in, shuffle a stretch away, move two motifs apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.interpret.calling import Model, alphabet_of, check_tokens, evaluation, predict
from biolayers.shuffling import shuffle
from shared.errors import UserError


def marginalize(
    model: Model,
    tokens: Tensor,
    motif: str,
    *,
    position: int | None = None,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Predict sequences as they are, and with a motif written over them.

    On backgrounds (random or shuffled sequences) the mean difference is what the motif does by itself.

    Args:
        model: Takes tokens (b, l).
        tokens: (b, l) uint8.
        motif: Letters of the alphabet.
        position: Where its first letter goes; by default it stands in the middle.
        alphabet: The letters.
        batch_size: How many sequences go through the model together.

    Returns:
        The outputs before and after, (b, ...) each.

    Raises:
        UserError: The motif does not fit, or an argument is not as described.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.interpret import marginalize
        >>> count_g = lambda tokens: (tokens == 2).sum(1)
        >>> marginalize(count_g, DNA.tokens(["AAAAA"]), "GGC")
        (tensor([0]), tensor([2]))
    """
    letters = _checked("marginalize", tokens, alphabet, batch_size)
    changed = _insert("marginalize", tokens, motif, position, letters)
    return _predict("marginalize", model, tokens, batch_size), _predict(
        "marginalize", model, changed, batch_size
    )


def ablate(
    model: Model,
    tokens: Tensor,
    start: int,
    end: int,
    *,
    count: int = 20,
    k: int = 1,
    seed: int | None = None,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Predict sequences as they are, and with a stretch of them shuffled.

    Args:
        model: Takes tokens (b, l).
        tokens: (b, l) uint8.
        start: First position of the stretch.
        end: The position behind it.
        count: Shuffles of each sequence.
        k: Of the k-lets that the shuffles keep.
        seed: Of the shuffles; by default from PyTorch's generator.
        alphabet: The letters.
        batch_size: How many sequences go through the model together.

    Returns:
        The outputs before, (b, ...), and after, (b, count, ...).

    Raises:
        UserError: The stretch is empty or lies elsewhere, or an argument is not as described.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.interpret import ablate
        >>> starts_with_g = lambda tokens: (tokens[:, 0] == 2).float()
        >>> before, after = ablate(starts_with_g, DNA.tokens(["GAAA"]), 0, 4, seed=0, count=100)
        >>> before, 0.1 < after.mean() < 0.4
        (tensor([1.]), tensor(True))
    """
    letters = _checked("ablate", tokens, alphabet, batch_size)
    if not 0 <= start < end <= tokens.shape[1]:
        raise UserError(f"ablate: expected 0 <= start < end <= {tokens.shape[1]}, received {start} and {end}")
    if count < 1:
        raise UserError(f"ablate: expected count of at least 1, received {count}")
    changed = tokens.unsqueeze(1).repeat(1, count, 1)
    changed[..., start:end] = shuffle(tokens[:, start:end], k, seed=seed, count=count, alphabet=letters)
    after = _predict("ablate", model, changed.flatten(0, 1), batch_size)
    return _predict("ablate", model, tokens, batch_size), after.unflatten(0, changed.shape[:2])


def space(
    model: Model,
    tokens: Tensor,
    first: str,
    second: str,
    spacings: Sequence[int],
    *,
    position: int | None = None,
    alphabet: Alphabet | str = DNA,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Predict sequences as they are, and with two motifs at each of several distances.

    Args:
        model: Takes tokens (b, l).
        tokens: (b, l) uint8.
        first: Letters of the motif on the left, which stays where it is.
        second: Letters of the motif on the right.
        spacings: How many letters lie between the two, from 0 on.
        position: Of the first motif's first letter; by default, the widest pair stands in the middle.
        alphabet: The letters.
        batch_size: How many sequences go through the model together.

    Returns:
        The outputs before, (b, ...), and after, (b, spacings, ...).

    Raises:
        UserError: The motifs do not fit, or an argument is not as described.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.interpret import space
        >>> last_g = lambda tokens: ((tokens == 2) * torch.arange(8)).amax(1)
        >>> space(last_g, DNA.tokens(["AAAAAAAA"]), "CG", "GC", [0, 2, 3], position=0)
        (tensor([0]), tensor([[2, 4, 5]]))
    """
    letters = _checked("space", tokens, alphabet, batch_size)
    if len(spacings) == 0 or min(spacings) < 0:
        raise UserError(f"space: expected spacings from 0 on, received {list(spacings)}")
    width = len(first) + max(spacings) + len(second)
    left = (tokens.shape[1] - width) // 2 if position is None else position
    base = _insert("space", tokens, first, left, letters)
    changed = torch.stack(
        [_insert("space", base, second, left + len(first) + gap, letters) for gap in spacings], 1
    )
    after = _predict("space", model, changed.flatten(0, 1), batch_size)
    return _predict("space", model, tokens, batch_size), after.unflatten(0, changed.shape[:2])


def _checked(name: str, tokens: Tensor, alphabet: Alphabet | str, batch_size: int) -> Alphabet:
    check_tokens(name, tokens)
    if batch_size < 1:
        raise UserError(f"{name}: expected batch_size of at least 1, received {batch_size}")
    return alphabet_of(alphabet)


def _insert(name: str, tokens: Tensor, motif: str, position: int | None, letters: Alphabet) -> Tensor:
    """Write a motif over every row."""
    written = letters.tokens(motif, record=f"{name}: motif").to(tokens.device)
    length = tokens.shape[1]
    at = (length - len(written)) // 2 if position is None else position
    if len(written) == 0 or at < 0 or at + len(written) > length:
        raise UserError(
            f"{name}: expected a motif of at least one letter within sequences of {length}, received "
            f"{len(written)} letters at position {at}"
        )
    changed = tokens.clone()
    changed[:, at : at + len(written)] = written
    return changed


def _predict(name: str, model: Model, tokens: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad(), evaluation(model):
        return torch.cat([predict(name, model, part) for part in tokens.split(batch_size)])
