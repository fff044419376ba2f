"""``difffs config [NAME]``."""

import argparse
from pathlib import Path
from typing import Any

from difffs.cli.arguments import filled
from difffs.cli.configured import add_config, configuration
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.configuration.files import Files
from difffs.configuration.keys import Entry, entries
from difffs.errors import ConfigurationProblem
from difffs.size import format_size


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", type=filled, help="only the sections of this name"
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Check all of the configuration, and show what it says."""
    files = configuration(arguments)
    found = entries(files)
    if arguments.name is not None:
        everything, found = found, [one for one in found if one.name == arguments.name]
        if not found:
            names = ", ".join(one.section.title for one in everything) or "nothing"
            raise ConfigurationProblem(f"no section is named {arguments.name}: there is {names}")
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "files": [str(path) for path in files.paths],
                "sections": [_report(one) for one in found],
            }
        )
    else:
        print("\n".join(_lines(files, found)))
    return 0


def _report(one: Entry) -> dict[str, Any]:
    return {
        "kind": one.kind.name,
        "name": one.name,
        "unit": one.unit,
        **{
            key: str(value) if isinstance(value, Path) else value
            for key, value in one.values.items()
        },
        "set_in": {
            key: {"file": str(place.file), "line": place.line}
            for key in one.values
            if (place := one.place_of(key)) is not None
        },
    }


def _lines(files: Files, found: list[Entry]) -> list[str]:
    if not found:
        read = ", ".join(map(str, files.paths)) or "/etc/difffs.conf does not exist"
        return [f"nothing is configured ({read})"]
    rows = [
        (f"  {key}", _shown(key, value), str(one.place_of(key) or "default"))
        for one in found
        for key, value in one.values.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    shown = [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]
    lines = []
    for one in found:
        lines += ["", f"{one.section.title}  {one.unit}", *shown[: len(one.values)]]
        del shown[: len(one.values)]
    return lines[1:]


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "size":
        return format_size(value)
    return f"{value:g} s" if isinstance(value, float) else str(value)
