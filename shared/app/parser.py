"""jsonargparse with the manners of a command line: dashes in options, flags without a value, short errors."""

import re
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, NoReturn, get_args, get_origin

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[reportPrivateImportUsage]

from shared.app.groups import Group
from shared.app.wording import option, reworded
from shared.errors import UserError


class Parser(ArgumentParser):
    """An `ArgumentParser` whose options are spelled `--like-this` and whose errors are `UserError`s."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Spell `--some_name` as `--some-name`; a `bool` that is False is a flag, a list takes words."""
        if len(names) == 2 and names[1] == names[0] + "+":  # how jsonargparse adds a list
            names, hint = names[:1], options.pop("action")
            options.update(type=_item_of(hint._typehint), nargs="+")
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
            places = [place.strip().split(".") for place in lacking[1].split(",")]
            program = " ".join((program, *places[0][:-1]))
            reason = f"expected also {', '.join(self._spelled(*place) for place in places)}"
        raise UserError(f"{reason}; see `{program} --help`") from ex

    def _spelled(self, *place: str) -> str:
        """How a parameter of a command is given: by its option, or by its place alone."""
        parser: Any = self
        *commands, name = place
        for command in commands:
            parser = parser._subcommands_action._name_parser_map[command]
        return option(name) if option(name) in parser._option_string_actions else name.upper()


def _item_of(kind: Any) -> Any:
    """Of what a list is: `list[str]`, also with `| None`.

    >>> _item_of(list[float] | None)
    <class 'float'>
    """
    return next(get_args(each)[0] for each in (kind, *get_args(kind)) if get_origin(each) is list)


def build(commands: Mapping[str, Callable | Group | str | None], *, version: str) -> Parser:
    """The parser of the whole program.

    Args:
        commands: By name: the command's function, or a group of commands, or the reason why it cannot be had
            (a line for the overview), or None for a command that is not asked for in this call.
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
    _add_commands(parser, commands, program="qbio")
    return parser


def _add_commands(
    parser: Parser, commands: Mapping[str, Callable | Group | str | None], *, program: str
) -> None:
    subcommands = parser.add_subcommands(title="commands", description="", metavar="COMMAND", help="")
    for name, command in commands.items():
        sub = Parser(default_env=False, allow_abbrev=False)
        summary = command.summary if isinstance(command, Group) else command
        if callable(command):
            summary = _add_options(sub, command)
        subcommands.add_subcommand(name, sub, help=summary)
        sub.prog = f"{program} {name}"  # the parent has put its own options in between
        if isinstance(command, Group):  # jsonargparse wants its commands after it
            sub.description = command.summary
            _add_commands(sub, command.commands, program=sub.prog)


def _add_options(parser: Parser, command: Callable) -> str:
    """The options of a function, what is required and not keyword-only by its place; returns its summary."""
    text = parse_docstring(command.__doc__ or "")
    summary = text.short_description or ""
    parser.description = "\n\n".join(part for part in (summary, text.long_description) if part)
    parser.add_argument("--config", action=ActionConfigFile, help="Read options from a YAML file.")
    placed = any(
        each.kind is Parameter.POSITIONAL_OR_KEYWORD for each in signature(command).parameters.values()
    )
    parser.add_function_arguments(command, as_group=False, as_positional=placed)
    for name in words_of(command):
        help_of = {each.arg_name.lstrip("*"): each.description for each in text.params}
        parser.add_argument(name, nargs="*", metavar=name.upper(), help=help_of.get(name))
    return summary


def words_of(command: Callable) -> list[str]:
    """The parameter that takes any number of words by their place (`*names`), if there is one.

    >>> words_of(lambda path, *names, width=60: None)
    ['names']
    """
    return [each.name for each in signature(command).parameters.values() if each.kind is each.VAR_POSITIONAL]
