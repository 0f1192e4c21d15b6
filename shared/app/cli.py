"""The `qbio` command line: each subcommand is an annotated function of the entry-point group `qbio.commands`.

A package adds a command by naming a function in its `pyproject.toml`; its parameters become the options, its
docstring becomes the help; a `Group` of functions becomes commands of two words. Nothing heavy is imported
until a command runs, so that `qbio --help` is quick.
"""

import atexit
import gc
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

from shared.app.groups import Group
from shared.errors import UserError

GROUP = "qbio.commands"
USER_MISTAKE, CRASH, INTERRUPTED = 2, 1, 130  # exit codes

# Modules of the extra `train`, by the name under which they are imported.
TRAIN_EXTRA = {
    "jsonargparse",
    "rich",
    "lightning",
    "torchmetrics",
    "tensorboard",
    "matplotlib",
    "jinja2",
    "logomaker",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code.

    A mistake of the user's ends with one line on stderr and code 2, Ctrl-C with code 130, an error of ours
    with code 1; `--debug`, anywhere on the line, shows the traceback of an error.

    Args:
        argv: The words after `qbio`; by default those of this process.

    Returns:
        0 when the command succeeded, or what the command returned.

    Example:
        >>> main(["--version"])
        qbio 0.1.0
        0
    """
    if argv is None:  # the process ends with this command
        atexit.register(
            gc.freeze
        )  # else the last garbage collection takes a second or two over PyTorch's objects
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _run(words)
    except SystemExit as leaving:  # argparse leaves this way after --help and --version
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "interrupted", code=INTERRUPTED)
    except BrokenPipeError:  # the reader of our output (head, less) has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _complain(*_explain(error))


def available() -> dict[str, EntryPoint]:
    """The commands of every installed package, by name, in alphabetical order."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def _run(words: list[str]) -> int:
    from shared.app.parser import build

    if words == ["--version"]:
        print("qbio", qbio_version())
        return 0
    commands = available()
    chosen = next((word for word in words if not word.startswith("-")), None)
    if chosen is None:  # the overview shows one line of each command
        loaded = {name: _load_or_reason(entry) for name, entry in commands.items()}
    else:
        loaded = {name: entry.load() if name == chosen else None for name, entry in commands.items()}
    parser = build(loaded, version=qbio_version())
    if not words:
        parser.print_help()
        return 0
    if len(words) == 1 and isinstance(loaded.get(words[0]), Group):
        words = [*words, "--help"]
    try:
        given = parser.parse_args(words)
    except UnicodeDecodeError as error:  # of the one file that it reads
        raise UserError(
            "--config: expected a text file in YAML, received bytes that are no text; give the config.yaml "
            "of a run"
        ) from error
    name = given.subcommand
    command, options = loaded[name], given[name].as_dict()
    if isinstance(command, Group):
        name = options["subcommand"]
        command, options = command.commands[name], options[name]
    options.pop("config", None)
    result = _call(command, options)  # type: ignore[arg-type]
    return result if isinstance(result, int) else 0


def _call(command: Callable, options: dict[str, Any]) -> Any:
    """Call a command with its options; what a `*parameter` takes goes in by its place, as all before it."""
    parameters = inspect.signature(command).parameters.values()
    words = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), None)
    if words is None:
        return command(**options)
    placed = [options.pop(each.name) for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return command(*placed, *options.pop(words), **options)


def _load_or_reason(entry: EntryPoint) -> Callable | Group | str:
    """A package that is broken must not take the overview down: its line says what is wrong."""
    try:
        return entry.load()
    except Exception as error:
        return f"(cannot be loaded from {entry.value}: {error})"


def qbio_version() -> str:
    """The version of the installed distribution, or "unknown" in a folder that was never installed."""
    try:
        return version("qbio")
    except PackageNotFoundError:
        return "unknown"


def _explain(error: Exception) -> tuple[str, int]:
    """One line for any exception, and the exit code that belongs to it."""
    if isinstance(error, UserError):
        return str(error), USER_MISTAKE
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in TRAIN_EXTRA:
        return f'this command needs {error.name}; install it with: pip install "qbio[train]"', USER_MISTAKE
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", USER_MISTAKE
    return f"{type(error).__name__}: {error} (this is our mistake; --debug shows where)", CRASH


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    try:
        importlib.import_module("rich")
    except ModuleNotFoundError:
        print(f"qbio: {line}", file=sys.stderr)
    else:
        from rich.console import Console
        from rich.text import Text

        label = Text("qbio: ", style="bold red" if code != INTERRUPTED else "bold yellow")
        Console(stderr=True).print(label + Text(line), soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
