"""A bar that says how many circuits have results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar of rich on a terminal's stderr, or nothing; gives the function that counts what is done.

    >>> with bar(10, show=False) as advance:
    ...     advance(10)
    """
    if not show or not total:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, transient=True, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("circuits", total=total)
        yield lambda count: progress.update(task, advance=count)
