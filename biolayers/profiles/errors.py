"""The error of profile HMMs that a user can mend."""

from shared.errors import UserError


class ProfileError(UserError):
    """A profile, its file or its alignment is not as it must be."""
