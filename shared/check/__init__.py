"""Conformance: every op against every row of the matrix of what PyTorch can do with an op.

`conforms(op)` runs the matrix on one op, `table()` prints it for all, and `conformance_tests(op)` makes
pytest run it row by row. A row is data (`Row`): its group and name, what it runs, when it applies.
"""

from shared.check.matrix import ROWS, conforms, table
from shared.check.report import ConformanceError, Mismatch, Report, Result
from shared.check.row import Row
from shared.check.testing import conformance_tests

__all__ = [
    "ROWS",
    "ConformanceError",
    "Mismatch",
    "Report",
    "Result",
    "Row",
    "conformance_tests",
    "conforms",
    "table",
]
