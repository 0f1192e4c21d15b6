"""The error of this package that a user can mend in the data."""

from shared.errors import UserError


class IntervalError(UserError):
    """Intervals, their file, or the tracks over them are not as they must be."""
