"""Run every benchmark in turn: `make bench`, or `python benchmarks/run.py [--write]`.

Each is a script of its own that takes `--write`, so that none inherits the other's threads or memory. With
`--write` the tables of a quiet machine also go into the README.
"""

import subprocess
import sys
from pathlib import Path

import record

BENCHMARKS = (
    "imports",
    "quantum",
    "shots",
    "noise",
    "token_conv1d",
    "rc_token_conv1d",
    "motif_scan",
    "align",
    "hmm",
    "ism",
    "long_range",
    "fasta",
    "shuffle",
    "batches",
    "intervals",
    "variants",
    "optimize",
    "graph_memory",
    "rules",
)


def main() -> int:
    failed = [name for name in BENCHMARKS if not run(name, sys.argv[1:])]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, options: list[str]) -> bool:
    """Whether the benchmark came to its end."""
    script = Path(__file__).parent / f"{name}.py"
    if subprocess.run([sys.executable, str(script), *options]).returncode:
        return False
    if "--write" in options:
        record.to_readme(name)
    return True


if __name__ == "__main__":
    sys.exit(main())
