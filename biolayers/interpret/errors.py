"""Errors of interpretation that a user can mend."""

from shared.errors import UserError


class AttributionError(UserError):
    """Attributions do not add up to what they explain, so they explain something else."""
