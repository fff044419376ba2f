"""A line a store with columns to choose from, in the manner of zramctl and lsblk."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from difffs.cli.report import printable
from difffs.errors import UsageError
from difffs.size import format_size

Statistics = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """What a column shows of a store's statistics."""

    name: str
    meaning: str
    value: Callable[[Statistics], str | int | float | None]
    """None where a store has none of it, as a write buffer when it is not mounted."""
    size: bool = False
    """Whether the value is in bytes."""

    def cell(self, statistics: Statistics, *, in_bytes: bool) -> str:
        """Return the value as it is shown, one word unless a path has more."""
        value = self.value(statistics)
        match value:
            case None:
                return "-"
            case str():
                # a mount tells its statistics without the store being loaded here
                return printable(value)
            case float():
                return f"{value:.2f}"
        if self.size and not in_bytes:
            return format_size(value).replace(" ", "").removesuffix("iB")
        return str(value)


def _of_mount(part: str) -> Callable[[Statistics], int | None]:
    return lambda statistics: statistics["memory"][part] if "mountpoint" in statistics else None


def _size(name: str, meaning: str) -> Column:
    return Column(name, meaning, lambda told: told["bytes"][name.lower()], size=True)


def _pages(name: str, meaning: str) -> Column:
    return Column(name, meaning, lambda told: told["pages"][name.lower()])


COLUMNS = (
    Column("STORE", "directory of the store", lambda told: told["store"]),
    Column("MOUNTPOINT", "where it is mounted", lambda told: told.get("mountpoint")),
    Column("RECIPE", "how new pages are kept", lambda told: told["recipe"]),
    _size("LOGICAL", "bytes of all pages that are no holes"),
    _size("STORED", "what the store's files occupy: payload, slack and metadata"),
    Column("FACTOR", "logical by stored bytes", lambda told: float(told["factor"])),
    _size("PAYLOAD", "encoded pages"),
    _size("SLACK", "room that payloads have left free"),
    _size("METADATA", "index, page tables, digests and sketches"),
    Column("PAGES", "pages that are no holes", lambda told: told["pages"]["total"]),
    _pages("ZERO", "pages of zeros"),
    _pages("SAME", "pages of one repeated word"),
    _pages("IDENTICAL", "pages that share the payload of an earlier one"),
    _pages("PATCH", "pages kept as a difference to a similar one"),
    _pages("COMPRESS", "compressed pages"),
    _pages("RAW", "pages kept as they are"),
    Column("OBJECTS", "stored payloads", lambda told: told["objects"]),
    Column("DAEMON", "resident memory of the mount's daemon", _of_mount("daemon_rss"), size=True),
    Column("BUFFER", "written pages not yet stored", _of_mount("write_buffer"), size=True),
    Column(
        "CACHE",
        "the store's files in the page cache",
        lambda told: told["memory"]["page_cache"],
        size=True,
    ),
    Column(
        "SINCE",
        "when the store was made",
        lambda told: f"{datetime.fromtimestamp(told['since']):%Y-%m-%dT%H:%M:%S}",
    ),
)

DEFAULT_COLUMNS = COLUMNS[:6]


def chosen_columns(text: str) -> list[Column]:
    """Return the columns of a comma list, in its order. ``UsageError`` for a name that is none."""
    known = {column.name: column for column in COLUMNS}
    names = [word.strip().upper() for word in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"--output {text}: no column {name!r}; --output help lists them")
    return [known[name] for name in names]


class ColumnsAction(argparse.Action):
    """Take a comma list of columns; ``help`` lists those that there are, and ends."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep the columns."""
        text = str(values)
        if text == "help":
            for column in COLUMNS:
                print(f"{column.name:<10}  {column.meaning}")
            parser.exit()
        setattr(namespace, self.dest, chosen_columns(text))


def column_table(
    stores: Sequence[Statistics], columns: Sequence[Column], *, in_bytes: bool, headings: bool
) -> list[str]:
    """Return the lines: text to the left, numbers to the right, nothing behind the last column."""
    rows = [[column.cell(told, in_bytes=in_bytes) for column in columns] for told in stores]
    if headings:
        rows.insert(0, [column.name for column in columns])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    left = [
        any(isinstance(column.value(told), str) for told in stores) or column.name == "MOUNTPOINT"
        for column in columns
    ]
    return [
        " ".join(
            f"{cell:<{width}}" if to_left else f"{cell:>{width}}"
            for cell, width, to_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    ]
