"""Run every benchmark in turn: `make bench`, or `python benchmarks/run.py [--write]`.

Each is a script of its own that takes `--write`, so that none inherits the other's threads or memory.
"""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("imports.py", "quantum.py", "token_conv1d.py")


def main() -> int:
    failed = []
    for script in SCRIPTS:
        path = Path(__file__).parent / script
        if subprocess.run([sys.executable, str(path), *sys.argv[1:]]).returncode:
            failed.append(script)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
