"""Lets the tests of this folder import the modules beside them; Qiskit's run where its packages are."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = [] if find_spec("pennylane_qiskit") else ["test_qiskit.py"]
