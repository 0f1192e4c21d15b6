"""When a submission is tried again, and how long to wait before: exponential back-off with jitter."""

import socket
import threading
from collections.abc import Callable, Iterator, Set
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


@dataclass(frozen=True, kw_only=True)
class ErrorKinds:
    """Kinds of errors, as data; called with an error it says whether that, or one of its causes, is of them.

    The causes count since plugins wrap what the network raised. Kinds are added with `|`.

    Attributes:
        types: classes of errors, with their subclasses.
        names: classes of packages that need not be installed, "module.Class".
        status: HTTP status codes, of an error or of its `response`.
        codes: names that a service gives its errors, as AWS does in `response["Error"]["Code"]`.

    Example:
        >>> kinds = TRANSIENT | ErrorKinds(types=(OSError,), codes={"DeviceOfflineException"})
        >>> kinds(OSError("no route to host")), TRANSIENT(OSError("no route to host"))
        (True, False)
    """

    types: tuple[type[BaseException], ...] = ()
    names: Set[str] = frozenset()
    status: Set[int] = frozenset()
    codes: Set[str] = frozenset()

    def __call__(self, error: BaseException) -> bool:
        return any(self._has(one) for one in _causes(error))

    def __or__(self, other: "ErrorKinds") -> "ErrorKinds":
        return ErrorKinds(
            types=self.types + other.types,
            names=self.names | other.names,
            status=self.status | other.status,
            codes=self.codes | other.codes,
        )

    def _has(self, error: BaseException) -> bool:
        named = any(f"{kind.__module__}.{kind.__qualname__}" in self.names for kind in type(error).__mro__)
        status, code = _answer(error)
        return isinstance(error, self.types) or named or status in self.status or code in self.codes


# Errors after which another try may go well: time-outs, broken connections, a busy service, garbage.
TRANSIENT = ErrorKinds(
    types=(TimeoutError, ConnectionError, InvalidResult, JobFailed),
    names={
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "requests.exceptions.ChunkedEncodingError",
        "urllib3.exceptions.HTTPError",
        "httpx.TransportError",
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.ConnectionError",
        "qiskit_ibm_runtime.exceptions.RuntimeJobFailureError",
        "qiskit_ibm_runtime.exceptions.RuntimeJobTimeoutError",
    },
    status={408, 425, 429, 500, 502, 503, 504},
    codes={"ThrottlingException", "InternalServiceException"},
)

# Errors after which it is certain that nothing arrived, so that nothing can have been executed.
NOT_RECEIVED = ErrorKinds(
    types=(ConnectionRefusedError, socket.gaierror),
    names={"requests.exceptions.ConnectTimeout", "urllib3.exceptions.NewConnectionError"},
    status={429},
    codes={"ThrottlingException"},
)


def _answer(error: BaseException) -> tuple[Any, Any]:
    """The HTTP status and the service's code that an error was made of; None where it has none."""
    response = getattr(error, "response", error)
    if isinstance(response, dict):  # of boto's errors
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, response.get("Error", {}).get("Code")
    return getattr(response, "status_code", None), None


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
        transient: says of an error whether another try may go well: `ErrorKinds`, or any function.
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
    transient: Callable[[BaseException], bool] = TRANSIENT
    not_received: Callable[[BaseException], bool] = NOT_RECEIVED

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
