"""The text of a configuration file: sections, keys, values, and the lines that they stand on.

Not configparser: it keeps no line of a key, which each complaint names, and it joins indented
lines, takes ``:`` for ``=`` and knows a section DEFAULT, none of which anybody expects beside
systemd's files.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from difffs.errors import ConfigurationProblem

_HEADER = re.compile(r"\[\s*([^\s\[\]]+)\s+([^\s\[\]]+)\s*\]\Z")
_ASSIGNMENT = re.compile(r"([^\s=\[]+)\s*=\s*(.*)\Z")
_TRAILING_COMMENT = re.compile(r"(?:\A|\s)[#;]")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; counted from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def problem(self, text: str) -> ConfigurationProblem:
        """Return the error for what is wrong here."""
        return ConfigurationProblem(f"{self}: {text}")


@dataclass(frozen=True, slots=True)
class Value:
    """What a key was set to, and where."""

    text: str
    place: Place


@dataclass(slots=True)
class Section:
    """``[KIND NAME]`` and the keys below it."""

    kind: str
    name: str
    place: Place
    values: dict[str, Value] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As it is written: ``[swap main]``."""
        return f"[{self.kind} {self.name}]"


def decode(content: bytes, file: Path) -> str:
    """Return a file's text. ``ConfigurationProblem`` when it is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(file, content.count(b"\n", 0, error.start) + 1)
        raise place.problem("is not UTF-8: save the file as such") from None


def parse(text: str, file: Path) -> list[Section]:
    """Return the sections of a file's text, in their order.

    ``ConfigurationProblem`` for a line that is neither a section, a key with its value nor a
    comment, and for what stands there twice.
    """
    sections: dict[tuple[str, str], Section] = {}
    current: Section | None = None
    for number, line in enumerate(text.split("\n"), 1):
        content, place = line.strip(), Place(file, number)
        if not content or content[0] in "#;":
            continue
        if content[0] == "[":
            current = _header(content, place)
            before = sections.setdefault((current.kind, current.name), current)
            if before is not current:
                raise place.problem(
                    f"{current.title} is there already, in line {before.place.line}: make them one"
                )
            continue
        key, value = _assignment(content, place)
        if current is None:
            raise place.problem(f"{key} stands in no section: put [mount NAME] or such before it")
        if key in current.values:
            raise place.problem(
                f"{key} is set already, in line {current.values[key].place.line}: leave one out"
            )
        current.values[key] = Value(value, place)
    return list(sections.values())


def _header(content: str, place: Place) -> Section:
    match = _HEADER.match(content)
    if match is None:
        raise place.problem(f"{content} is no section: write [mount NAME] or [swap NAME]")
    return Section(match.group(1), match.group(2), place)


def _assignment(content: str, place: Place) -> tuple[str, str]:
    match = _ASSIGNMENT.match(content)
    if match is None:
        raise place.problem(
            f"{content!r} is neither [KIND NAME] nor KEY = VALUE: mend or remove it"
        )
    key, value = match.groups()
    if not value:
        raise place.problem(f"{key} has no value: give it one, or leave the line out")
    if _TRAILING_COMMENT.search(value):
        raise place.problem(f"{key}: a comment needs a line of its own")
    if value.endswith("\\"):
        raise place.problem(f"{key}: a value ends with its line; leave the backslash out")
    if "\0" in value:
        raise place.problem(f"{key} holds a zero byte: remove it")
    return key, value
