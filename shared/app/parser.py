"""jsonargparse with the manners of a command line: dashes in options, flags without a value, short errors."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[reportPrivateImportUsage]

from shared.app.wording import option, reworded
from shared.errors import UserError


class Parser(ArgumentParser):
    """An `ArgumentParser` whose options are spelled `--like-this` and whose errors are `UserError`s."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Spell `--some_name` as `--some-name`, and let a `bool` that is False by default be a plain flag."""
        if (
            len(names) == 1 and names[0].startswith("--") and names[0] != "--print_config"
        ):  # jsonargparse knows it
            dashed = names[0].replace("_", "-")
            names = (dashed,)
            options.setdefault("dest", dashed.lstrip("-").replace("-", "_"))
        if options.get("type") is bool and options.get("default") is False:
            options.pop("type")
            options["action"] = "store_true"
        return super().add_argument(*names, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise one line that says what was wrong and where the help is."""
        program, reason = self.prog, reworded(message, self._option_string_actions)
        lacking = re.fullmatch(r"the following arguments are required: (.+)", reason)
        if lacking:  # the parent says it of a command, as `command.option`
            places = [place.strip().rpartition(".") for place in lacking[1].split(",")]
            program = " ".join(filter(None, (program, places[0][0])))
            reason = f"expected also {', '.join(option(name) for _, _, name in places)}"
        raise UserError(f"{reason}; see `{program} --help`") from ex


def build(commands: Mapping[str, Callable | str | None], *, version: str) -> Parser:
    """The parser of the whole program.

    Args:
        commands: By name: the command's function, or the reason why it cannot be had (a line for the
            overview), or None for a command that is not asked for in this call.
        version: What `--version` prints.
    """
    parser = Parser(
        prog="qbio",
        description="Train and run genomic and quantum-hybrid models on FASTA files.",
        epilog="`qbio COMMAND --help` shows the options of a command; `--debug` shows tracebacks.",
        version=f"qbio {version}",
        default_env=False,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    subcommands = parser.add_subcommands(title="commands", description="", metavar="COMMAND", help="")
    for name, command in commands.items():
        sub = Parser(default_env=False, allow_abbrev=False)
        summary = command
        if callable(command):
            text = parse_docstring(command.__doc__ or "")
            summary = text.short_description or ""
            sub.description = "\n\n".join(part for part in (summary, text.long_description) if part)
            sub.add_argument("--config", action=ActionConfigFile, help="Read options from a YAML file.")
            sub.add_function_arguments(command, as_group=False)
        subcommands.add_subcommand(name, sub, help=summary)
        sub.prog = f"qbio {name}"  # the parent has put its own options in between
    return parser
