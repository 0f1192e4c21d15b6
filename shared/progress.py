"""A bar on stderr that says how far long work has come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, what: str, *, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar of rich on a terminal, else nothing; gives the function that says how many more are done.

    >>> with bar(10, "sequences", show=False) as advance:
    ...     advance(10)
    """
    if not show or not total:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)
