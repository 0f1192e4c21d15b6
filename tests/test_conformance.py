"""Every op conforms, by being registered: the matrix of `shared.check`, one test per op and row.

`make matrix` runs all of it, as CI always does. The ordinary tests run all rows for one op of each kind; the
other ops share the rows of values and derivatives: a third of these for each, every row for a third of them.
"""

import os

import biolayers.ops
import qlayers.ops
import shared
from shared.check import conformance_tests
from shared.check.matrix import select

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
    others, rows = (
        [op for op in OPS if op.name not in ONE_OF_EACH],
        [row.id for row in select(QUICK, slow=False)],
    )
    test_first_third, test_second_third, test_last_third = (
        conformance_tests(*others[turn::3], rows=rows[turn::3]) for turn in range(3)
    )
