"""When a submission is tried again, and how long to wait before: exponential back-off with jitter."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from qlayers.hardware.errors import InvalidResult, JobFailed
from shared.errors import UserError

try:
    import tenacity
except ImportError as error:
    raise ImportError(
        "qlayers.hardware: expected the package tenacity, which is not installed; "
        "run: pip install 'qbio[hardware]'"
    ) from error

Value = TypeVar("Value")

# Of packages that are not imported here: errors of the way to the device, by module and name.
TRANSIENT_NAMES = {
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
    "requests.exceptions.ChunkedEncodingError",
    "urllib3.exceptions.HTTPError",
    "httpx.TransportError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.ConnectionError",
}
TRANSIENT_TYPES = (TimeoutError, ConnectionError, InvalidResult, JobFailed)
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}

# Errors after which it is certain that nothing arrived, so that nothing can have been executed.
NOT_RECEIVED_NAMES = {"requests.exceptions.ConnectTimeout", "urllib3.exceptions.NewConnectionError"}
NOT_RECEIVED_TYPES = (ConnectionRefusedError, socket.gaierror)
NOT_RECEIVED_STATUS = {429}


def is_transient(error: BaseException) -> bool:
    """Whether it may go well another time: time-outs, broken connections, a busy service, garbage.

    The causes of an error count, since plugins wrap what the network raised.

    >>> is_transient(TimeoutError()), is_transient(ValueError("unknown gate"))
    (True, False)
    """
    return any(_matches(one, TRANSIENT_TYPES, TRANSIENT_NAMES, TRANSIENT_STATUS) for one in _causes(error))


def is_not_received(error: BaseException) -> bool:
    """Whether it is certain that the device has not received what was sent.

    >>> is_not_received(ConnectionRefusedError()), is_not_received(TimeoutError())
    (True, False)
    """
    return any(
        _matches(one, NOT_RECEIVED_TYPES, NOT_RECEIVED_NAMES, NOT_RECEIVED_STATUS) for one in _causes(error)
    )


def _matches(error: BaseException, types: tuple[type, ...], names: set[str], status: set[int]) -> bool:
    named = any(f"{kind.__module__}.{kind.__qualname__}" in names for kind in type(error).__mro__)
    answered = getattr(getattr(error, "response", error), "status_code", None)
    return isinstance(error, types) or named or answered in status


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often and when a submission is tried again.

    The n-th wait is `first_wait` 2^(n-1) seconds, at most `longest_wait`, and up to `jitter` seconds more.

    Attributes:
        tries: the most tries of a submission, the first included; 1 or more.
        first_wait, longest_wait, jitter: seconds.
        transient: says of an error whether another try may go well.
        not_received: says of an error whether it is certain that the device has not received the submission,
            which then does not count as spent.

    Example:
        >>> answers = iter([TimeoutError(), "result"])
        >>> def submit():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> Retries(first_wait=0, jitter=0).call(submit)
        'result'
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    jitter: float = 1.0
    transient: Callable[[BaseException], bool] = is_transient
    not_received: Callable[[BaseException], bool] = is_not_received

    def __post_init__(self):
        if self.tries < 1:
            raise UserError(f"Retries: expected 1 try or more, received {self.tries}; 1 never tries again.")

    def call(self, function: Callable[[], Value], stop: threading.Event | None = None) -> Value:
        """What the function returns, called again after transient errors; the last error if none went well.

        Args:
            function: without arguments.
            stop: when it is set, waiting ends, and the function is not called again.
        """
        stop = stop or threading.Event()
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.tries) | tenacity.stop_when_event_set(stop),
            wait=tenacity.wait_exponential(multiplier=self.first_wait, max=self.longest_wait)
            + tenacity.wait_random(0, self.jitter),
            retry=tenacity.retry_if_exception(self.transient),
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        )
        return again(function)


def retries_of(given: Retries | int | None) -> Retries:
    """Retries as a `Runner` takes them: a number of tries has the usual waits, None is the default."""
    if isinstance(given, Retries):
        return given
    return Retries() if given is None else Retries(tries=given)


def error_text(error: Any) -> str:
    """An error in a line, for the journal and messages."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
