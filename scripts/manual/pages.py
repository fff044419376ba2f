"""Manual pages in roff (groff_man(7)), from the parsers.

Not from what argparse itself prints: that differs between versions of Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from difffs import __version__, errors
from difffs.cli.main import COMMANDS, build_parser
from manual.examples import EXAMPLES, OVERVIEW, Example

_ENDINGS = {
    0: "ok",
    1: "completed with findings",
    129: "ended by SIGHUP",
    130: "interrupted",
    141: "nobody reads stdout any more",
    143: "ended by SIGTERM",
}


_COMMON = {
    "STORE": "directory of the store",
    "MOUNTPOINT": "directory that the store is mounted on",
    "STORE-or-MOUNTPOINT": "directory of a store, or one in its mount",
}
"""What the parsers leave to be understood."""


def main_page() -> str:
    """Return difffs(1)."""
    parser = build_parser(None)
    commands = []
    for name, command in COMMANDS.items():
        commands += [".TP", rf"\fBdifffs\-{_text(name)}\fR(1)", _text(command.summary)]
    return _page(
        "difffs",
        "keeps memory pages in a fraction of their size",
        [
            *_section("EXAMPLES", _examples(OVERVIEW)),
            *_section("SYNOPSIS", [r"\fBdifffs\fR \fICOMMAND\fR \fR[\fIARGUMENT\fR...]"]),
            *_section("DESCRIPTION", [_text(parser.description or "")]),
            *_section("COMMANDS", commands),
            *_section("OPTIONS", _arguments(parser, options=True)),
            *_section("EXIT STATUS", _exit_codes()),
            *_section("SEE ALSO", [r"\fBmount\fR(8), \fBswapon\fR(8), \fBfuse\fR(8)"]),
        ],
    )


def command_page(name: str) -> str:
    """Return the page of a command. ``LookupError`` when it has no example yet."""
    if name not in EXAMPLES:
        raise LookupError(f"difffs {name} has no example: scripts/manual/examples.py needs one")
    parser = _parser_of(name)
    positional = list(_arguments(parser, options=False))
    return _page(
        f"difffs-{name}",
        COMMANDS[name].summary,
        [
            *_section("EXAMPLES", _examples(EXAMPLES[name])),
            *_section("SYNOPSIS", [_synopsis(parser)]),
            *(_section("ARGUMENTS", positional) if positional else []),
            *_section("OPTIONS", _arguments(parser, options=True)),
            *_section("EXIT STATUS", [r"0 when all went well; the others are in \fBdifffs\fR(1)."]),
            *_section("SEE ALSO", [r"\fBdifffs\fR(1)"]),
        ],
    )


def _parser_of(name: str) -> argparse.ArgumentParser:
    for action in build_parser(name)._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser: argparse.ArgumentParser = action.choices[name]
            return parser
    raise KeyError(name)


# ---- parts of a page -------------------------------------------------------------------------


def _page(name: str, summary: str, body: Iterable[str]) -> str:
    lines = [
        r".\" Made by scripts/make-manual; not to be edited by hand.",
        f'.TH {_text(name.upper())} 1 "" "difffs {__version__}" "difffs manual"',
        *_section("NAME", [rf"{_text(name)} \- {_text(summary)}"]),
        *body,
    ]
    return "".join(f"{line}\n" for line in lines)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _examples(examples: Iterable[Example]) -> Iterator[str]:
    for does, call in examples:
        yield from (".PP", f"{_text(does)}:", ".PP", ".in +4n", ".EX", _text(call), ".EE", ".in")


def _exit_codes() -> Iterator[str]:
    meanings: dict[int, list[str]] = {code: [text] for code, text in _ENDINGS.items()}
    for code, meaning in re.findall(r"^\w+ +(\d+) +(.+)$", errors.__doc__ or "", re.MULTILINE):
        if not meaning.startswith("base of "):
            meanings.setdefault(int(code), []).append(meaning)
    for code in sorted(meanings):
        yield from (".TP", rf"\fB{code}\fR", _text("; ".join(meanings[code])))


def _synopsis(parser: argparse.ArgumentParser) -> str:
    if parser.usage is not None:  # one that says more than can be told from the arguments
        forms = parser.usage.replace("%(prog)s ", "").split(" | ")
        return "\n.br\n".join(
            rf"\fB{_text(parser.prog)}\fR "
            + re.sub(r"[A-Z]+(-or-[A-Z]+)?", lambda word: _variable(word.group()), _plain(form))
            for form in forms
        )
    parts = [rf"\fB{_text(parser.prog)}\fR"]
    grouped = {
        id(action): group
        for group in parser._mutually_exclusive_groups
        for action in group._group_actions
    }
    told = set()
    options = [action for action in _visible(parser) if action.option_strings]
    for action in options:
        group = grouped.get(id(action))
        if group is None:
            parts.append(f"[{_option(action, [_longest(action)])}]")
        elif id(group) not in told:
            told.add(id(group))
            members = (_option(one, [_longest(one)]) for one in group._group_actions)
            parts.append(f"[{' | '.join(members)}]")
    parts += [_value(action) for action in _visible(parser) if not action.option_strings]
    return " ".join(parts)


def _arguments(parser: argparse.ArgumentParser, *, options: bool) -> Iterator[str]:
    for action in _visible(parser):
        if isinstance(action, argparse._SubParsersAction):
            continue
        if bool(action.option_strings) is options:
            term = _option(action, action.option_strings) if options else _value(action)
            yield from (".TP", term, _text(_help(action)) or r"\&")
    if options:
        yield from (".TP", r"\fB\-h\fR, \fB\-\-help\fR", "show the arguments and end")


def _visible(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS and action.dest != "help":
            yield action


def _help(action: argparse.Action) -> str:
    text = action.help or _COMMON.get(str(action.metavar), "")
    return text % vars(action) if "%" in text else text


def _longest(action: argparse.Action) -> str:
    return max(action.option_strings, key=len)


def _option(action: argparse.Action, names: Iterable[str]) -> str:
    term = ", ".join(rf"\fB{_text(name)}\fR" for name in names)
    value = _value(action) if action.nargs != 0 else ""
    return f"{term} {value}" if value else term


def _value(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    shown = _variable(_plain(metavar))
    match action.nargs:
        case "?":
            return f"[{shown}]"
        case "+":
            return f"{shown}..."
        case "*":
            return f"[{shown}...]"
    return shown


# ---- roff ------------------------------------------------------------------------------------

_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def _plain(text: str) -> str:
    return text.translate(_ESCAPES)


def _variable(text: str) -> str:
    return rf"\fI{text}\fR"


def _text(text: str) -> str:
    """Text as a line of its own: none begins with what roff takes for a request."""
    escaped = _plain(text)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
