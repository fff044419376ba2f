"""``difffs ls STORE-or-MOUNTPOINT``."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difffs.cli.arguments import filled
from difffs.cli.mount_files import files_of_mount, usage_of_file
from difffs.cli.opening import open_to_read
from difffs.cli.place import mountpoint_for
from difffs.cli.report import SCHEMA_VERSION, print_json, printable
from difffs.mount.live import mount_at
from difffs.page import PAGE_SIZE
from difffs.size import format_size
from difffs.usage import VolumeUsage


@dataclass(frozen=True, slots=True)
class Row:
    """A volume's line, or that of all together."""

    name: str
    size: int
    usage: VolumeUsage | None
    """None where it may not be asked."""

    @property
    def factor(self) -> float:
        """Bytes of the pages by bytes stored for them; 0 when nothing is."""
        if self.usage is None or not self.usage.stored:
            return 0.0
        return self.usage.pages * PAGE_SIZE / self.usage.stored


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("where", metavar="STORE-or-MOUNTPOINT", type=filled)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """List the volumes, by name, and their sums."""
    mountpoint = mountpoint_for(arguments.where)
    found = _of_store(Path(arguments.where)) if mountpoint is None else _of_mount(mountpoint)
    rows = sorted(found, key=lambda row: row.name)
    total = Row(
        "total",
        sum(row.size for row in rows),
        sum((row.usage for row in rows if row.usage is not None), VolumeUsage()),
    )
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                **_place(arguments.where, mountpoint),
                "volumes": [{"name": row.name, **_figures(row)} for row in rows],
                "total": _figures(total),
            }
        )
    else:
        print(table(rows, total))
    return 0


def _place(where: str, mountpoint: str | None) -> dict[str, str]:
    mount = None if mountpoint is None else mount_at(mountpoint)
    if mount is None:
        return {"store": where}
    return {"store": mount.source, "mountpoint": mount.mountpoint}


def _of_store(path: Path) -> Iterator[Row]:
    with open_to_read(path, "list its volumes") as store:
        for volume in store.namespace.volumes():
            name = store.namespace.path(volume.number)[1:]
            # of an image: what is kept beside its memory, which has a name of its own
            usage = store.volume_usage(volume.skeleton or volume.number)
            yield Row(name, volume.size, usage)


def _of_mount(mountpoint: str) -> Iterator[Row]:
    for file in files_of_mount(mountpoint):
        yield Row(file.name, file.size, usage_of_file(file.path))


def _figures(row: Row) -> dict[str, Any]:
    usage = row.usage
    return {
        "size": row.size,
        "pages": None if usage is None else usage.pages,
        "zero": None if usage is None else usage.zero,
        "stored": None if usage is None else round(usage.stored),
        "factor": None if usage is None else row.factor,
    }


def table(rows: list[Row], total: Row) -> str:
    """Return the list as people read it."""
    lines = [f"{'size':>10} {'pages':>13} {'stored':>10} {'factor':>7}  name"]
    lines += [f"{_cells(row)}  {printable(row.name)}" for row in rows]
    lines.append(f"{_cells(total)}  {len(rows):,} {'volume' if len(rows) == 1 else 'volumes'}")
    return "\n".join(lines)


def _cells(row: Row) -> str:
    pages = "-" if row.usage is None else f"{row.usage.pages:,}"
    stored = "-" if row.usage is None else format_size(row.usage.stored)
    factor = f"{row.factor:.2f}" if row.factor else "-"
    return f"{format_size(row.size):>10} {pages:>13} {stored:>10} {factor:>7}"
