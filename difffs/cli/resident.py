"""What a mount's volumes take of the host's memory: for ``difffs stats MOUNTPOINT``."""

from itertools import islice
from pathlib import Path
from typing import Any

from difffs.cli.mount_files import MountFile, files_of_mount, usage_of_file
from difffs.cli.report import printable
from difffs.errors import EnvironmentProblem
from difffs.host_memory import HostMemory
from difffs.page_cache import resident_bytes_of
from difffs.size import format_size

MOST_VOLUMES = 1000
"""With more files nothing is added up: each has to be opened and asked."""

_SHOWN = 20
"""Lines in the table: those that take most memory."""


def with_resident(statistics: dict[str, Any]) -> dict[str, Any]:
    """Add what each volume has in memory and in the store, and what all of it costs the host.

    `volumes` and `host_memory` are None when there are too many files, or some cannot be listed:
    folders of others, files that are being removed. The rest of the statistics needs neither.
    """
    try:
        files = list(islice(files_of_mount(statistics["mountpoint"]), MOST_VOLUMES + 1))
        if len(files) > MOST_VOLUMES:
            return {**statistics, "volumes": None, "host_memory": None}
        volumes = [_volume(file) for file in files]
    except EnvironmentProblem:
        return {**statistics, "volumes": None, "host_memory": None}
    memory = HostMemory(
        nominal=sum(file.size for file in files),
        resident=sum(volume["resident"] or 0 for volume in volumes),
        stores=statistics["memory"]["page_cache"],
        daemons=statistics["memory"]["daemon_rss"],
    )
    return {**statistics, "volumes": volumes, "host_memory": memory.as_json()}


def _volume(file: MountFile) -> dict[str, Any]:
    usage = usage_of_file(file.path)
    return {
        "name": file.name,
        "size": file.size,
        "resident": resident_bytes_of(Path(file.path)),
        "stored": None if usage is None else round(usage.stored),
    }


def lines(statistics: dict[str, Any]) -> list[str]:
    """Return it as people read it; nothing for a store that is not mounted."""
    if "volumes" not in statistics:
        return []
    volumes = statistics["volumes"]
    if volumes is None:
        return [
            f"volumes in memory: not added up, there are more than {MOST_VOLUMES:,}, or not all of"
            " them may be listed"
        ]
    if not volumes:
        return []
    told = ["", f"{'size':>10} {'in memory':>10} {'stored':>10}  volume"]
    ordered = sorted(volumes, key=lambda volume: (-(volume["resident"] or 0), volume["name"]))
    for volume in ordered[:_SHOWN]:
        told.append(
            f"{format_size(volume['size']):>10} {_size(volume['resident']):>10}"
            f" {_size(volume['stored']):>10}  {printable(volume['name'])}"
        )
    if len(ordered) > _SHOWN:
        told.append(f"{'':>32}  {len(ordered) - _SHOWN:,} more with less in memory: --json has all")
    host = statistics["host_memory"]
    told.append(
        f"host memory: {format_size(host['used'])} for volumes of {format_size(host['nominal'])}"
        f" (their pages in the page cache {format_size(host['resident'])}, the store"
        f" {format_size(host['stores'])}, the daemon {format_size(host['daemons'])})"
    )
    return told


def _size(size: int | None) -> str:
    return "-" if size is None else format_size(size)
