"""The error of this package that a user can mend in the data."""

from shared.errors import UserError


class FastaError(UserError):
    """A FASTA file, its index, its labels, or a request for a part of it is not as it must be."""
