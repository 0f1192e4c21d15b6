"""The error of this package that a user can mend."""

from shared.errors import UserError


class MotifError(UserError):
    """A motif, a file of motifs, or what is asked of them is not as it must be."""
