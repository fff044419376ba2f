"""Manual pages of the commands, from the parsers.

Not from what argparse itself prints: that differs between versions of Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from difffs import errors
from difffs.cli.main import COMMANDS, build_parser
from manual.examples import EXAMPLES, OVERVIEW
from manual.roff import examples, page, part, plain, text, variable

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
        commands += [".TP", rf"\fBdifffs\-{text(name)}\fR(1)", text(command.summary)]
    return page(
        "difffs",
        1,
        "keeps memory pages in a fraction of their size",
        [
            *part("EXAMPLES", examples(OVERVIEW)),
            *part("SYNOPSIS", [r"\fBdifffs\fR \fICOMMAND\fR \fR[\fIARGUMENT\fR...]"]),
            *part("DESCRIPTION", [text(parser.description or "")]),
            *part("COMMANDS", commands),
            *part("OPTIONS", _arguments(parser, options=True)),
            *part("EXIT STATUS", _exit_codes()),
            *part(
                "SEE ALSO",
                [
                    r"\fBdifffs.conf\fR(5), \fBdifffs\-store\fR(5), \fBmount.difffs\fR(8), "
                    r"\fBmount\fR(8), \fBswapon\fR(8), \fBfuse\fR(8)"
                ],
            ),
        ],
    )


def command_page(name: str) -> str:
    """Return the page of a command. ``LookupError`` when it has no example yet."""
    if name not in EXAMPLES:
        raise LookupError(f"difffs {name} has no example: scripts/manual/examples.py needs one")
    parser = _parser_of(name)
    positional = list(_arguments(parser, options=False))
    return page(
        f"difffs-{name}",
        1,
        COMMANDS[name].summary,
        [
            *part("EXAMPLES", examples(EXAMPLES[name])),
            *part("SYNOPSIS", [_synopsis(parser)]),
            *(part("ARGUMENTS", positional) if positional else []),
            *part("OPTIONS", _arguments(parser, options=True)),
            *part("EXIT STATUS", [r"0 when all went well; the others are in \fBdifffs\fR(1)."]),
            *part("SEE ALSO", [r"\fBdifffs\fR(1)"]),
        ],
    )


def _parser_of(name: str) -> argparse.ArgumentParser:
    for action in build_parser(name)._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser: argparse.ArgumentParser = action.choices[name]
            return parser
    raise KeyError(name)


def _exit_codes() -> Iterator[str]:
    meanings: dict[int, list[str]] = {code: [meaning] for code, meaning in _ENDINGS.items()}
    for code, meaning in re.findall(r"^\w+ +(\d+) +(.+)$", errors.__doc__ or "", re.MULTILINE):
        if not meaning.startswith("base of "):
            meanings.setdefault(int(code), []).append(meaning)
    for code in sorted(meanings):
        yield from (".TP", rf"\fB{code}\fR", text("; ".join(meanings[code])))


def _synopsis(parser: argparse.ArgumentParser) -> str:
    if parser.usage is not None:  # one that says more than can be told from the arguments
        forms = parser.usage.replace("%(prog)s ", "").split(" | ")
        return "\n.br\n".join(
            rf"\fB{text(parser.prog)}\fR "
            + re.sub(r"[A-Z]+(-or-[A-Z]+)?", lambda word: variable(word.group()), plain(form))
            for form in forms
        )
    parts = [rf"\fB{text(parser.prog)}\fR"]
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
            yield from (".TP", term, text(_help(action)) or r"\&")
    if options:
        yield from (".TP", r"\fB\-h\fR, \fB\-\-help\fR", "show the arguments and end")


def _visible(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS and action.dest != "help":
            yield action


def _help(action: argparse.Action) -> str:
    words = action.help or _COMMON.get(str(action.metavar), "")
    return words % vars(action) if "%" in words else words


def _longest(action: argparse.Action) -> str:
    return max(action.option_strings, key=len)


def _option(action: argparse.Action, names: Iterable[str]) -> str:
    term = ", ".join(rf"\fB{text(name)}\fR" for name in names)
    value = _value(action) if action.nargs != 0 else ""
    return f"{term} {value}" if value else term


def _value(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    shown = variable(plain(metavar))
    match action.nargs:
        case "?":
            return f"[{shown}]"
        case "+":
            return f"{shown}..."
        case "*":
            return f"[{shown}...]"
    return shown
