"""Parts of a manual page in roff (groff_man(7))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from difffs import __version__
from manual.examples import Example

_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def page(name: str, section: int, summary: str, body: Iterable[str], *also: str) -> str:
    """Return a whole page; ``also`` are other names of what it describes."""
    names = ", ".join(map(text, (name, *also)))
    lines = [
        r".\" Made by scripts/make-manual; not to be edited by hand.",
        f'.TH {text(name.upper())} {section} "" "difffs {__version__}" "difffs manual"',
        *part("NAME", [rf"{names} \- {text(summary)}"]),
        *body,
    ]
    return "".join(f"{line}\n" for line in lines)


def part(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Begin a section of the page."""
    yield f".SH {title}"
    yield from lines


def paragraphs(*texts: str) -> Iterator[str]:
    """Plain text."""
    for number, each in enumerate(texts):
        if number:
            yield ".PP"
        yield text(each)


def tagged(term: str, *texts: str) -> Iterator[str]:
    """An entry of a list; the term is roff already."""
    yield from (".TP", term, text(texts[0]) or r"\&")
    for each in texts[1:]:
        yield from (".IP", text(each))


def verbatim(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they are."""
    yield from (".PP", ".in +4n", ".EX", *(text(line) for line in lines), ".EE", ".in")


def examples(shown: Iterable[Example]) -> Iterator[str]:
    """What is done, and by which lines."""
    for number, (does, call) in enumerate(shown):
        if number:
            yield ".PP"
        yield from (f"{text(does)}:", *verbatim(call.splitlines()))


def plain(words: str) -> str:
    """Text within a line."""
    return words.translate(_ESCAPES)


def variable(words: str) -> str:
    """What stands for a value; roff already."""
    return rf"\fI{words}\fR"


def bold(words: str) -> str:
    """What is written as it is."""
    return rf"\fB{plain(words)}\fR"


def text(words: str) -> str:
    """Text as a line of its own: none begins with what roff takes for a request."""
    escaped = plain(words)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
