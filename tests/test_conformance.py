"""Every op conforms, by being registered: the matrix of `shared.check`, one test per op and row.

`make matrix` runs all of it, as CI always does. The ordinary tests run values and derivatives of all
ops, and what compiles, exports or starts processes for one op of each kind.
"""

import os

import biolayers.ops
import qlayers.ops
import shared
from shared.check import conformance_tests

DOMAINS = (biolayers.ops, qlayers.ops)  # importing them registers their ops
OPS = [op for _, op in sorted(shared.registry().items()) if not op.reference.__module__.startswith("tests")]


def test_every_exported_op_is_registered():
    exported = {
        value for module in DOMAINS for value in vars(module).values() if isinstance(value, shared.Op)
    }
    assert exported
    assert exported <= set(OPS)


QUICK = ("values", "derivatives")
ONE_OF_EACH = (
    "biolayers::align",
    "biolayers::token_conv1d_max_pool",
    "qlayers::pauli_evolve",
    "qlayers::pauli_expval",
)

if os.environ.get("QBIO_MATRIX") == "all":
    test_conformance = conformance_tests(*OPS)
else:
    test_conformance = conformance_tests(*(op for op in OPS if op.name in ONE_OF_EACH))
    test_values_and_derivatives = conformance_tests(
        *(op for op in OPS if op.name not in ONE_OF_EACH), rows=QUICK
    )
