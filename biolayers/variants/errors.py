"""The error of this package that a user can mend in the data."""

from shared.errors import UserError


class VariantError(UserError):
    """Variants, their file or genotypes, or a request for their sequences is not as it must be."""
