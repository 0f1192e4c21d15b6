"""What argparse and jsonargparse complain about, in our words: expected, received, what to do next."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches

KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'dict'>": "a name and a value, as in {option}.NAME VALUE",
}


def option(name: str) -> str:
    """How a parameter is spelled on the command line.

    >>> option("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")


def _kind(found: re.Match) -> str:
    """A value of the wrong kind; several kinds may be right."""
    kinds = [
        _named(kind) for kind in re.findall(r"Expected an? (.+?)(?=\. Got value| - | Given value)", found[2])
    ]
    kinds = [kind for kind in kinds if kind != "<class 'NoneType'>"]
    given = re.search(r"(?:Got value|Given value): (.*)$", found[2])
    wanted = " or ".join(kinds).format(option=option(found[1]))
    return f"{option(found[1])}: expected {wanted}, received {given[1] if given else 'something else'}"


def _named(kind: str) -> str:
    choices = re.fullmatch(r"typing\.Literal\[(.*)\]", kind)
    return KINDS.get(kind, kind) if choices is None else choices[1].replace(", ", " or ")


# what a complaint looks like, on one line -> what we say
COMPLAINTS: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = (
    (r'Parser key "(\w+)"(?: element \d+)?: (.*Expected an? .*)', _kind),
    (r'Parser key "(\w+)": (.*)', lambda found: f"{option(found[1])}: {found[2]}"),
    (
        r"argument COMMAND: invalid choice: (.*?) \(choose from (.*)\)",
        r"expected a command, one of \2; received \1",
    ),
    (r"argument (--\S+): expected one argument", r"\1: expected a value, received none"),
    (r"argument (--\S+): ignored explicit argument (.*)", r"\1: expected no value, received \2"),
    (
        r"Subcommand '(.*)' does not accept option '(.*)'",
        r"--config: expected options of `qbio \1`, received '\2'",
    ),
    (r"Problems parsing config: (.*)", r"--config: expected YAML, one `option: value` on a line; \1"),
    (r"Unexpected config: (.*)", r"--config: expected YAML, one `option: value` on a line, received \1"),
)


def reworded(complaint: str, options: Iterable[str]) -> str:
    """A complaint of the parser's in our words.

    Args:
        complaint: What the parser says.
        options: What it understands, such as `--batch-size`; of these it may propose one.

    Example:
        >>> reworded("unrecognized arguments: --batch_size 3", ["--batch-size", "--lr"])
        'expected options of the command, received --batch_size 3; did you mean --batch-size?'
        >>> reworded("argument --lr: expected one argument", [])
        '--lr: expected a value, received none'
    """
    line = " ".join(complaint.split()).rstrip(".")
    if unknown := re.fullmatch(r"unrecognized arguments: (.*)", line):
        return f"expected options of the command, received {unknown[1]}" + _proposal(unknown[1], options)
    for pattern, words in COMPLAINTS:
        if found := re.fullmatch(pattern, line):
            return found.expand(words) if isinstance(words, str) else words(found)
    return line


def _proposal(words: str, options: Iterable[str]) -> str:
    """What may have been meant by the first of some words; nothing if that is no option or like none."""
    word = words.split()[0].partition("=")[0]
    if not word.startswith("--"):
        return "; values follow their option, as in --NAME VALUE, and words without one stand together"
    near = get_close_matches(word.replace("_", "-"), sorted(options), n=1)
    return f"; did you mean {near[0]}?" if near else ""
