"""Models by the words of a command line: the folder of a run, or a function that returns one."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UserError

if TYPE_CHECKING:
    from torch import nn

GROUP = "qbio.runs"


def model_of(source: str, *, batch_size: int) -> "tuple[nn.Module, tuple]":
    """A model, and the arguments of a call as an example.

    A package that trains models names, in the entry-point group `qbio.runs`, a function
    `(path, batch_size) -> (model, arguments)` for the folders that it writes.

    Args:
        source: the folder of a run, or a checkpoint in it; or a function by `module:function` or
            `file.py:function` that returns a model and its example inputs.
        batch_size: of the example of a run.

    Raises:
        UserError: there is no such run or function, or it fails, or returns something else.
    """
    path = Path(source)
    if path.exists() and path.suffix != ".py":
        return _of_run(path, batch_size)
    home, separator, name = source.rpartition(":")
    if not separator or not home or not name.isidentifier():
        raise UserError(
            "expected the folder of a run, or a function as module:function or file.py:function, received "
            f"{source!r}, which is neither; check the path"
        )
    return _checked(_called(_function(home, name), source), source)


def _of_run(path: Path, batch_size: int) -> "tuple[nn.Module, tuple]":
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not entries:
        raise UserError(f"{path}: expected a package that reads runs, found none; install qbio again")
    return entries[0].load()(path, batch_size)


def _function(home: str, name: str) -> Callable[[], Any]:
    module = _file(Path(home)) if home.endswith(".py") else _module(home)
    found = getattr(module, name, None)
    if not callable(found):
        raise UserError(f"{home}: expected a function {name}, found none; check its name")
    return found


def _module(name: str) -> Any:
    """A module of this name, from the current folder or installed."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's code runs
        raise UserError(f"{name}: expected a module that imports, received {_said(error)}") from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path}: expected a file of Python, found none; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))  # its neighbours, as when it is run
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code runs
        raise UserError(f"{path}: expected a file that runs, received {_said(error)}") from error
    finally:
        sys.path.pop(0)
    return module


def _called(function: Callable[[], Any], source: str) -> Any:
    try:
        return function()
    except Exception as error:  # the user's code runs
        raise UserError(
            f"{source}: expected a function that can be called without arguments, received {_said(error)}; "
            "--debug shows where"
        ) from error


def _checked(found: Any, source: str) -> "tuple[nn.Module, tuple]":
    from torch import nn

    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], nn.Module):
        kinds = [type(each).__name__ for each in found] if isinstance(found, tuple) else type(found).__name__
        raise UserError(f"{source}: expected (model, example_inputs) from the function, received {kinds}")
    model, inputs = found
    return model, inputs if isinstance(inputs, tuple) else (inputs,)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
