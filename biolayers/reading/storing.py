"""Files beside the data that can be made again: put in place at once and whole, or not at all."""

import logging
import os
import secrets
from collections.abc import Iterable

log = logging.getLogger("biolayers")


def is_fresh(stored: str, path: str) -> bool:
    """Whether `stored` exists and is not older than `path`."""
    try:
        return os.stat(stored).st_mtime_ns >= os.stat(path).st_mtime_ns
    except OSError:
        return False


def store(stored: str, parts: Iterable[bytes | memoryview]) -> None:
    """Write the whole of an index; a folder that cannot be written is no fault, the index stays in memory."""
    temporary = temporary_name(stored)
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
        os.replace(temporary, stored)
    except OSError as error:
        log.info("%s cannot be written (%s): the index stays in memory", stored, error.strerror)
        if os.path.exists(temporary):
            os.unlink(temporary)


def temporary_name(path: str) -> str:
    """A name beside `path` that no other process chooses."""
    return f"{path}.tmp{os.getpid()}-{secrets.token_hex(4)}"
