"""Random sequences, and copies of some of them that are nearly the same: what leakage has to find."""

import numpy as np

LETTERS = np.array(list("ACGT"))
PARTNER = str.maketrans("ACGT", "TGCA")


def random_texts(rng: np.random.Generator, n: int, length: int) -> list[str]:
    return ["".join(row) for row in LETTERS[rng.integers(0, 4, (n, length))]]


def mutated(rng: np.random.Generator, text: str, substitutions: float, indels: float = 0.0) -> str:
    """Each letter is replaced, or lost or followed by another one, with these probabilities."""
    out = []
    for letter in text:
        draw = rng.random()
        if draw < substitutions:
            out.append(rng.choice([other for other in "ACGT" if other != letter]))
        elif draw < substitutions + indels / 2:
            continue
        elif draw < substitutions + indels:
            out += [letter, rng.choice(list("ACGT"))]
        else:
            out.append(letter)
    return "".join(out)


def reverse_complement(text: str) -> str:
    return text.translate(PARTNER)[::-1]


def window(rng: np.random.Generator, text: str, shift: int) -> str:
    """The window that begins `shift` letters later on a longer sequence."""
    return text[shift:] + random_texts(rng, 1, shift)[0]
