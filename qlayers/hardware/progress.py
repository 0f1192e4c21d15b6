"""A bar that says how many circuits have results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar of rich, or nothing at all; gives the function that says how many more are done.

    >>> with bar(10, show=False) as advance:
    ...     advance(10)
    """
    if not show or not total:
        yield lambda count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("circuits", total=total)
        yield lambda count: progress.update(task, advance=count)
