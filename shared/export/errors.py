"""What an export can fail of."""

from shared.errors import UserError


class ExportError(UserError):
    """The model cannot leave in this form: the message names the op and the place in the model."""
