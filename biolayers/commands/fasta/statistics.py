"""Numbers about a file: records, letters, lengths, and what the letters are."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from biolayers import Fasta
from biolayers.commands.fasta.streams import ALPHABETS, opened, shown
from shared.progress import bar

_CHUNK = 1 << 24  # letters that are read at once
SHARES = (5, 25, 50, 75, 95)  # percentiles of the lengths


def show(path: str, alphabet: str, *, as_json: bool) -> None:
    """Print the numbers of a file."""
    chosen = ALPHABETS[alphabet]
    # Here every byte is counted, none refused.
    tolerant = chosen.with_policy(other="unknown", **({"ut": "convert"} if chosen.ut else {}))
    with opened(path, tolerant) as fasta:
        found = numbers(fasta)
    found = {"file": shown(path), **found}
    print(json.dumps(found, indent=2) if as_json else _lines(found))


def numbers(fasta: Fasta) -> dict[str, Any]:
    """All numbers by name; lengths in letters, N50 as the length that half of all letters reach."""
    lengths = np.sort(fasta.lengths)
    letters = _histogram(fasta)
    alphabet = fasta.alphabet
    by_letter = {chr(alphabet.letter_table[token]): int(letters[token]) for token in range(len(alphabet))}
    counts = asdict(fasta.counts())
    total = int(lengths.sum())
    found: dict[str, Any] = {
        "records": len(fasta),
        "letters": total,
        "shortest": int(lengths[0]),
        "longest": int(lengths[-1]),
        "mean": total / len(lengths),
        "N50": int(lengths[::-1][np.searchsorted(np.cumsum(lengths[::-1]), total / 2)]) if total else 0,
        "percentiles": {str(share): float(np.percentile(lengths, share)) for share in SHARES},
        "policy": {name: count for name, count in counts.items() if name != "total"},
        "composition": {letter: count for letter, count in by_letter.items() if count},
    }
    if alphabet.stranded:
        plain = sum(by_letter[letter] for letter in alphabet.letters)
        found["GC"] = (by_letter["G"] + by_letter["C"]) / plain if plain else None
    return found


def _histogram(fasta: Fasta) -> np.ndarray:
    """How often each token occurs: (256,) int64."""
    counts = np.zeros(256, np.int64)
    with bar(int(fasta.lengths.sum()), "letters", show=True) as advance:
        for chosen, starts, ends in _chunks(fasta.lengths):
            tokens, _ = fasta.fetch_ragged(chosen, starts, ends)
            counts += np.bincount(tokens.numpy(), minlength=256)
            advance(len(tokens))
    return counts


def _chunks(lengths: np.ndarray):
    """Records, starts and ends of pieces that have about `_CHUNK` letters together."""
    pieces = -(-lengths // _CHUNK)
    records = np.repeat(np.arange(len(lengths)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = (np.arange(len(records)) - first) * _CHUNK
    ends = np.minimum(starts + _CHUNK, lengths[records])
    edges = np.searchsorted(np.cumsum(ends - starts), np.arange(0, lengths.sum(), _CHUNK), side="right")
    for a, b in zip(edges, [*edges[1:], len(records)], strict=True):
        if b > a:
            yield records[a:b], starts[a:b], ends[a:b]


def _lines(found: dict[str, Any]) -> str:
    """The numbers as text for people."""
    percentiles = ", ".join(f"{share} %: {value:,.0f}" for share, value in found["percentiles"].items())
    rows = [
        ("file", found["file"]),
        ("records", f"{found['records']:,}"),
        ("letters", f"{found['letters']:,}"),
        ("lengths", f"{found['shortest']:,} to {found['longest']:,}, mean {found['mean']:,.1f}"),
        ("percentiles", percentiles),
        ("N50", f"{found['N50']:,}"),
    ]
    if found.get("GC") is not None:
        rows.append(("GC", f"{found['GC']:.2%} of plain letters"))
    rows.append(("composition", ", ".join(f"{a} {n:,}" for a, n in found["composition"].items()) or "none"))
    special = ", ".join(f"{name} {count:,}" for name, count in found["policy"].items() if count)
    rows.append(("not plain", special or "none"))
    return "\n".join(f"{name:<12} {value}" for name, value in rows)
