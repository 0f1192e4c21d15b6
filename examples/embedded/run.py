"""Classify sequences with a model that `qbio export` wrote: onnxruntime and NumPy are all that it needs.

python run.py sequences.fa                  # one line for each record: name, class, probability
python run.py sequences.fa --time 2000      # latency of one sequence on one thread, and memory
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
REFUSED = 254  # in the table of tokens: a byte that is no letter


class Model:
    """A session on one thread, with what the file says of its alphabet and classes."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.classes, self.length = json.loads(facts["classes"]), int(facts["length"])
        self.table = np.frombuffer(bytes.fromhex(facts["tokens"]), np.uint8)

    def tokens(self, name: str, letters: str) -> np.ndarray:
        """(length,) uint8."""
        tokens = self.table[np.frombuffer(letters.encode("latin-1", "replace"), np.uint8)]
        if len(tokens) != self.length:
            sys.exit(f"{name}: expected {self.length} letters, received {len(tokens)}")
        if (tokens == REFUSED).any():
            place = int((tokens == REFUSED).argmax())
            sys.exit(f"{name}: {letters[place]!r} at position {place} is no letter of a sequence")
        return tokens

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """(b, classes) of tokens (b, length)."""
        (logits,) = self.session.run(None, {"tokens": tokens})
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


def records(path: Path) -> Iterator[tuple[str, str]]:
    """Name and letters of each record of a FASTA file."""
    name, lines = "", []
    with path.open(encoding="latin-1") as file:
        for line in file:
            if line.startswith(">"):
                if name:
                    yield name, "".join(lines)
                name, lines = line[1:].split()[0], []
            else:
                lines.append(line.strip())
    if name:
        yield name, "".join(lines)


def timed(model: Model, tokens: np.ndarray, turns: int) -> None:
    """Print the latency of single sequences, from tokens to probabilities, and the memory of the process."""
    for _ in range(50):
        model.probabilities(tokens[:1])
    seconds = []
    for turn in range(turns):
        one = tokens[turn % len(tokens)][None]
        start = time.perf_counter()
        model.probabilities(one)
        seconds.append(time.perf_counter() - start)
    p50, p99 = (1e6 * np.percentile(seconds, share) for share in (50, 99))
    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    print(f"one sequence, one thread: p50 {p50:.0f} us, p99 {p99:.0f} us; resident memory {memory:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fasta", type=Path, help="FASTA file of sequences")
    parser.add_argument("--model", type=Path, default=HERE / "splice.onnx", help="file of `qbio export`")
    parser.add_argument("--limit", type=int, help="read so many records")
    parser.add_argument("--time", type=int, metavar="TURNS", help="measure instead of printing predictions")
    given = parser.parse_args()
    for path in (given.fasta, given.model):
        if not path.is_file():
            sys.exit(f"{path}: no such file")
    model = Model(given.model)
    found = [
        record for _, record in zip(range(given.limit or sys.maxsize), records(given.fasta), strict=False)
    ]
    if not found:
        sys.exit(f"{given.fasta}: expected at least one record, found none")
    tokens = np.stack([model.tokens(*record) for record in found])
    if given.time:
        timed(model, tokens, given.time)
        return
    for (name, _), row in zip(found, model.probabilities(tokens), strict=True):
        best = int(row.argmax())
        print(f"{name}\t{model.classes[best]}\t{row[best]:.6f}")


if __name__ == "__main__":
    main()
