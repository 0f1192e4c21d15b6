"""Every op conforms, by being registered: the matrix of `shared.check`, one test per op and row."""

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


test_conformance = conformance_tests(*OPS)
