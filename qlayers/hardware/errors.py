"""What can go wrong between a circuit and its result, each with a name that a program can catch."""

# ruff: noqa: N818 -- they are named for what happened, in the words of the field: a budget is exceeded


class HardwareError(RuntimeError):
    """Something failed on the way to a device or back; results that came before are in the journal."""


class BudgetExceeded(HardwareError):
    """A submission would cost more than is left; nothing of it was submitted."""


class ExecutionFailed(HardwareError):
    """Circuits have no result, after as many tries as were allowed or an error that no try mends."""


class InvalidResult(HardwareError):
    """A device returned something that cannot be the result of its circuit."""


class JobFailed(HardwareError):
    """Raised by hooks of a device: it knows the job, which ended without results. It is submitted anew."""


class InDoubt(HardwareError):
    """Circuits were submitted by a run that ended before it heard of them, and the device cannot be asked."""


class JournalInUse(HardwareError):
    """Another run writes to the journal."""
