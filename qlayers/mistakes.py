"""PennyLane's complaints about an operation in our words: expected, received, what to do."""

import re
from types import TracebackType

from shared.errors import UserError

# what the message says: what was expected, and what to do. Other errors are no one's mistake for certain: a
# function may be tried on a batch although it was written for one sample.
COMPLAINTS = (
    (r"wires must be unique|control wires must be different", "different wires", "name each wire once"),
    (r"wrong number of wires|requires \d+ wires", "as many wires as it acts on", "add or remove wires"),
    (r"norm 1\.0; got norm", "a state of norm 1", "divide it by its norm, or use normalize=True"),
    (r"must be unitary", "numbers of absolute value 1", "write them as exp(i phase)"),
    (r"only consist of 0s and 1s", "bits 0 and 1", "round the values"),
    (
        r"__init__\(\) (missing|got multiple values|takes|got an unexpected)",
        "the parameters of its signature, then wires",
        "add or remove parameters",
    ),
)


def explained(error: Exception) -> UserError | None:
    """The error as one of the user, if it is for certain one about an operation of the circuit."""
    text = str(error)
    for pattern, expected, advice in COMPLAINTS:
        if re.search(pattern, text, re.IGNORECASE):
            return UserError(
                f"{_operation(error)}: expected {expected}, received: {text.rstrip('.')}; {advice}."
            )
    return None


def _operation(error: Exception) -> str:
    """The operation that was being made, with its wires where they are known."""
    import pennylane as qml

    if match := re.match(r"(\w+)\.__init__\(\)", str(error)):
        return match[1]
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        local = trace.tb_frame.f_locals
        maker = local.get("self")
        if isinstance(maker, qml.operation.Operator):
            wires = local.get("wires")
            name = type(maker).__name__
            if wires is None:
                return name
            return f"{name} on wires {list(wires) if hasattr(wires, '__iter__') else [wires]}"
        trace = trace.tb_next
    return "An operation"
