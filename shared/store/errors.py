"""Why a model cannot be saved, or a file not be loaded."""

from pathlib import Path

from shared.errors import UserError


class StoreError(UserError):
    """The model cannot be saved, or the file not be loaded; the message says what to do."""


class DamagedError(StoreError):
    """The file is not whole, or no file that `shared.save` wrote, or holds what no such file has."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: expected a whole file that shared.save wrote, but {what}; copy it again, or save the "
            "model again"
        )


class IncompatibleError(StoreError):
    """The file is whole, but what is installed here does not fit it."""


class MissingPackageError(StoreError):
    """The file needs a package that is not installed.

    Attributes:
        package: what to install.
    """

    def __init__(self, path: Path, package: str, version: str, ops: list[str]) -> None:
        self.package = package
        super().__init__(
            f"{path}: the model uses {', '.join(ops)} of the package {package}, which is not installed here "
            f"(it was saved with {package} {version}); pip install {package}"
        )
