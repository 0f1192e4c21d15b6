"""HMMER3/f profile files, read and written line by line (HMMER User's Guide 3.4, "HMMER profile HMM files").

A header of tagged lines, then three lines per node (match emissions with annotation, insert emissions,
transitions) as negative natural logarithms, `*` for a probability of zero; `//` ends a profile.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence

import torch

from biolayers.alphabet import DNA, PROTEIN, RNA, Alphabet
from biolayers.profiles.errors import ProfileError
from biolayers.profiles.profile import COLUMNS, ProfileHMM

FORMAT = "HMMER3/f"
ALPHABETS = {"amino": PROTEIN, "DNA": DNA, "RNA": RNA}
SWITCHES = {
    "RF": "rf",
    "MM": "mm",
    "CONS": "consensus",
    "CS": "cs",
    "MAP": "map",
}  # tag: annotation it announces
_STEPS = "m->m     m->i     m->d     i->m     i->i     d->m     d->d"


class _Lines:
    """The lines of a file that are not blank, with the place for messages."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.number = os.fspath(path), 0
        with open(path, encoding="utf-8", errors="replace") as file:
            self._lines = iter(file.read().splitlines())

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            if line.strip():
                yield line

    def next(self, expected: str) -> str:
        line = next(iter(self), None)
        if line is None:
            raise self.error(expected, "the end of the file")
        return line

    def error(self, expected: str, received: str) -> ProfileError:
        return ProfileError(f"{self.path}, line {self.number}: expected {expected}, received {received}")


def read_profiles(path: str | os.PathLike[str]) -> list[ProfileHMM]:
    """Read all profiles of a HMMER3/f file, with all of their annotation.

    Args:
        path: of a text file, as `hmmbuild` writes it; `hmmconvert` makes it of other versions.

    Returns:
        The profiles in their order; none for an empty file.

    Raises:
        ProfileError: the file is malformed or of another version: with its name, the line, what was expected.

    Example:
        >>> import tempfile, os
        >>> from biolayers import DNA
        >>> from biolayers.profiles.hmmer import read_profiles, write_profiles
        >>> from biolayers.profiles.profile import ProfileHMM
        >>> path = os.path.join(tempfile.mkdtemp(), "site.hmm")
        >>> write_profiles(path, [ProfileHMM.from_alignment(["ACGT", "ACGT", "ACGA"], DNA, name="site")])
        >>> read_profiles(path)
        [ProfileHMM('site', 4 nodes, DNA, consensus 'acgt')]
    """
    lines = _Lines(path)
    found = []
    for line in lines:
        if line.split()[0] != FORMAT:
            raise lines.error(f"{FORMAT} (hmmconvert makes it of other versions)", repr(line[:40]))
        found.append(_read_profile(lines, line.split(maxsplit=1)[1:]))
    return found


def _read_profile(lines: _Lines, version: Sequence[str]) -> ProfileHMM:
    tags, header = {}, [("", version[0])] if version else []
    for line in lines:
        tag, _, text = line.strip().partition(" ")
        text = text.strip()
        if tag == "HMM":
            break
        if tag in ("NAME", "ACC", "DESC", "LENG", "ALPH", *SWITCHES):
            tags[tag] = text
        else:
            header.append((tag, text))
    else:
        raise lines.error("the line HMM", "the end of the file")
    alphabet, nodes = _header(lines, tags, line)
    lines.next("the line of the steps, m->m m->i ...")
    return _read_nodes(lines, tags, tuple(header), alphabet, nodes)


def _header(lines: _Lines, tags: dict[str, str], line: str) -> tuple[Alphabet, int]:
    """The alphabet and the number of nodes."""
    for tag in ("NAME", "LENG", "ALPH"):
        if not tags.get(tag):
            raise lines.error(f"a line {tag} before HMM", "none")
    alphabet = {name.lower(): value for name, value in ALPHABETS.items()}.get(tags["ALPH"].lower())
    if alphabet is None:
        raise lines.error(f"ALPH {', '.join(ALPHABETS)}", tags["ALPH"])
    if not tags["LENG"].isdigit() or tags["LENG"] == "0":
        raise lines.error("LENG of at least 1", tags["LENG"])
    if line.split()[1:] != list(alphabet.letters):
        raise lines.error(f"HMM and the letters {' '.join(alphabet.letters)}", line.strip())
    return alphabet, int(tags["LENG"])


def _read_nodes(
    lines: _Lines, tags: dict[str, str], header: tuple[tuple[str, str], ...], alphabet: Alphabet, nodes: int
) -> ProfileHMM:
    letters, composition = alphabet.channels, None
    match, insert, steps, columns = [], [], [], []
    line = lines.next("COMPO or the insert emissions before the first node")
    if line.split()[0] == "COMPO":
        composition = _numbers(lines, line.split()[1:], letters)
        line = lines.next("the insert emissions before the first node")
    for node in range(nodes + 1):
        if node:
            fields = lines.next(f"node {node}").split()
            if fields[0] != str(node):
                raise lines.error(f"node {node} of {nodes}", repr(fields[0]))
            match.append(_numbers(lines, fields[1 : letters + 1], letters))
            if len(fields) != letters + 1 + len(COLUMNS):
                raise lines.error(f"{len(COLUMNS)} columns of annotation", str(len(fields) - letters - 1))
            columns.append(fields[letters + 1 :])
            line = lines.next(f"the insert emissions of node {node}")
        insert.append(_numbers(lines, line.split(), letters))
        steps.append(_numbers(lines, lines.next(f"the steps of node {node}").split(), 7))
    end = lines.next("//")
    if end.strip() != "//":
        raise lines.error(f"// after {nodes} nodes", repr(end.strip()[:40]))
    announced = {name for tag, name in SWITCHES.items() if tags.get(tag, "no").lower() == "yes"}
    annotation = {
        name: column
        for name, column in zip(COLUMNS, zip(*columns, strict=True), strict=True)
        if name in announced
    }
    return ProfileHMM(
        tags["NAME"],
        alphabet,
        *(torch.tensor(rows, dtype=torch.float64) for rows in (match, insert, steps)),
        accession=tags.get("ACC", ""),
        description=tags.get("DESC", ""),
        composition=None if composition is None else torch.tensor(composition, dtype=torch.float64),
        annotation=annotation,
        header=header,
    )


def _numbers(lines: _Lines, fields: Sequence[str], count: int) -> list[float]:
    """Logarithms of probabilities from what a line says of them."""
    if len(fields) < count:
        raise lines.error(f"{count} numbers", str(len(fields)))
    try:
        found = [-math.inf if field == "*" else -float(field) for field in fields[:count]]
    except ValueError:
        raise lines.error(f"{count} numbers or *", repr(" ".join(fields))) from None
    if any(math.isnan(number) or number > 0 for number in found):
        raise lines.error("negative logarithms of probabilities, of at least 0", repr(" ".join(fields)))
    return found


def write_profiles(path: str | os.PathLike[str], profiles: Iterable[ProfileHMM]) -> None:
    """Write profiles to a HMMER3/f file; the file is replaced once all of them are written.

    Raises:
        ProfileError: a profile's alphabet has no name in HMMER's files.
    """
    text = "".join("\n".join(_lines(profile)) + "\n" for profile in profiles)
    part = f"{os.fspath(path)}.part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


def _lines(profile: ProfileHMM) -> Iterator[str]:
    letters = profile.alphabet.letters
    names = [name for name, alphabet in ALPHABETS.items() if alphabet.letters == letters]
    if not names:
        raise ProfileError(
            f"profile {profile.name}: expected DNA, RNA or PROTEIN, received {profile.alphabet}"
        )
    version = [text for tag, text in profile.header if not tag] or ["[qbio]"]
    yield f"{FORMAT} {version[0]}"
    yield f"NAME  {profile.name}"
    yield from (
        f"{tag:<5} {text}"
        for tag, text in (("ACC", profile.accession), ("DESC", profile.description))
        if text
    )
    yield f"LENG  {len(profile)}"
    yield f"ALPH  {names[0]}"
    yield from (f"{tag:<5} {'yes' if name in profile.annotation else 'no'}" for tag, name in SWITCHES.items())
    yield from (f"{tag:<5} {text}" for tag, text in profile.header if tag)
    yield "HMM     " + "".join(f"{letter:>9}" for letter in letters)
    yield " " * 12 + _STEPS
    if profile.composition is not None:
        yield "  COMPO " + _fields(profile.composition)
    for node in range(len(profile) + 1):
        if node:
            columns = [profile.annotation.get(name, ("-",) * len(profile))[node - 1] for name in COLUMNS]
            yield f"{node:>7} {_fields(profile.match[node - 1])} {columns[0]:>6} {' '.join(columns[1:])}"
        yield " " * 8 + _fields(profile.insert[node])
        yield " " * 8 + _fields(profile.transitions[node])
    yield "//"


def _fields(logarithms: torch.Tensor) -> str:
    return "".join("        *" if x == -math.inf else f"{abs(x):9.5f}" for x in logarithms.tolist())
