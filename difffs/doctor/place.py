"""One store, or one mount: what its daemon got of the kernel, and what the store lies on.

A file system that hangs takes everybody with it who looks at it, past all signals. So a process of
its own looks (this module run as a program, JSON on stdout), and is left behind when it hangs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difffs.doctor.check import Answer, Probe, limited, missing, off, ok, probe, unknown
from difffs.doctor.host import SECONDS, Host
from difffs.errors import DifffsError, EnvironmentProblem
from difffs.mount.live import (
    FILE_SYSTEM_TYPE,
    mount_containing,
    mountpoints_of,
    read_statistics,
)
from difffs.size import format_size
from difffs.store.format import is_store, read_format
from difffs.swappable import swappable_layer

_FOR_SWAP = ("PR_SET_IO_FLUSHER", "mlockall", "oom_score_adj", "memory cgroup")
_LEAST_FREE = 16 << 20

_PACKAGES = Path(__file__).parents[2]


def look_at(where: str) -> dict[str, Any]:
    """Find out about a store or a mount point, which need not be there. May hang."""
    seen: dict[str, Any] = {"exists": os.path.exists(where), "store": where, "mountpoint": None}
    mount = mount_containing(where)
    if mount is None or mount.kind != FILE_SYSTEM_TYPE:
        places = mountpoints_of(where)
        mount = mount_containing(places[0]) if places else None
    if mount is not None and mount.kind == FILE_SYSTEM_TYPE:
        seen |= {"store": mount.source, "mountpoint": mount.mountpoint, "options": mount.options}
        seen["statistics_error"] = None
        try:
            seen["kernel_settings"] = read_statistics(mount.mountpoint)["kernel_settings"]
        except (OSError, KeyError) as error:
            seen["statistics_error"] = getattr(error, "strerror", None) or str(error)
    store = Path(seen["store"])
    seen["is_store"] = is_store(store)
    seen["is_empty"] = not store.exists() or (store.is_dir() and not os.listdir(store))
    seen["format_error"] = None
    if seen["is_store"]:
        try:
            read_format(store)
        except DifffsError as error:
            seen["format_error"] = str(error)
    seen["layer"], seen["remarks"] = swappable_layer(store)
    there = next(each for each in (store, *store.absolute().parents) if each.exists())
    status = os.statvfs(there)
    seen["free"] = status.f_bavail * status.f_frsize
    return seen


def probes_of(host: Host, where: str) -> tuple[Probe, ...]:
    """Look at a place; the probes say what was seen."""
    where = os.path.abspath(where)
    command = (sys.executable, "-P", "-m", "difffs.doctor.place", where)
    environment = {**host.environment, "PYTHONPATH": str(_PACKAGES)}
    try:
        # The last line: Python may have warned of something before.
        seen = json.loads(host.run(command, environment, SECONDS).strip().split("\n")[-1])
    except (EnvironmentProblem, ValueError) as error:
        return (_not_seen(where, str(error)),)
    return tuple(_probe_of(seen, *each) for each in _LOOKS)


def _not_seen(where: str, reason: str) -> Probe:
    hangs = "did not answer" in reason

    @probe("place.store", "guests", "swap", "images")
    def look(_host: Host) -> Answer:
        if hangs:
            return limited(
                f"{where} does not answer within {SECONDS:g} s",
                f"see the log in its store; difffs umount --force {where} gives up what is not"
                " written",
            )
        return unknown(f"{where}: {reason}")

    return look


Look = Callable[[dict[str, Any]], Answer]


def _probe_of(seen: dict[str, Any], name: str, uses: tuple[Any, ...], look: Look) -> Probe:
    return Probe(name, uses, lambda _host: look(seen))


def _store(seen: dict[str, Any]) -> Answer:
    store = seen["store"]
    if seen["format_error"]:
        return limited(seen["format_error"], "another store, or another version of difffs")
    if seen["mountpoint"]:
        return ok(f"{store} is mounted on {seen['mountpoint']}")
    if seen["is_store"]:
        return ok(f"{store} is a store, not mounted here")
    if seen["is_empty"]:
        return off(f"{store} is no store yet: difffs mount, import and swapon make one there")
    return missing(
        f"{store} is neither a store nor the mount point of one, nor empty",
        "name a store, its mount point, or where one can be made",
    )


def _answers(seen: dict[str, Any]) -> Answer:
    if not seen["mountpoint"]:
        return ok("not mounted")
    if seen["statistics_error"]:
        return limited(
            f"the mount on {seen['mountpoint']} does not tell its statistics:"
            f" {seen['statistics_error']}",
            f"see the log in {seen['store']}; difffs umount {seen['mountpoint']}, and mount again",
        )
    return ok(f"the daemon of {seen['mountpoint']} answers")


def _refused(seen: dict[str, Any], *, for_swap: bool) -> list[str]:
    return [
        f"{entry['setting']} ({entry['reason']})"
        for entry in seen.get("kernel_settings", [])
        if not entry["applied"] and entry["setting"].startswith(_FOR_SWAP) == for_swap
    ]


def _guest_settings(seen: dict[str, Any]) -> Answer:
    if "kernel_settings" not in seen:
        return ok("not mounted") if not seen["mountpoint"] else unknown("the mount does not answer")
    refused = _refused(seen, for_swap=False)
    if refused:
        return limited(
            f"not applied: {', '.join(refused)}",
            f"difffs umount {seen['mountpoint']}; as root: difffs mount {seen['store']}"
            f" {seen['mountpoint']}",
        )
    return ok("all that the mount asked of the kernel holds")


def _swap_settings(seen: dict[str, Any]) -> Answer:
    if "kernel_settings" not in seen:
        return ok("not mounted") if not seen["mountpoint"] else unknown("the mount does not answer")
    refused = _refused(seen, for_swap=True)
    if refused:
        return limited(
            f"not applied: {', '.join(refused)}: under memory pressure the host may hang",
            f"difffs umount {seen['mountpoint']}; as root: difffs swapon {seen['store']}; in a"
            " container: --cap-add SYS_RESOURCE --cap-add IPC_LOCK",
        )
    return ok("the daemon got what it asked for so far; swapon asks for the rest")


def _others(seen: dict[str, Any]) -> Answer:
    if not seen["mountpoint"]:
        return ok("not mounted")
    if "allow_other" in seen["options"]:
        return ok("other users may come in (allow_other)")
    return off(
        "only who mounted it may come in: no guests of libvirt's system session",
        f"difffs umount {seen['mountpoint']}; difffs mount {seen['store']} {seen['mountpoint']}"
        " -o allow_other",
    )


def _medium(seen: dict[str, Any]) -> Answer:
    if seen["layer"]:
        return limited(
            f"{seen['store']} lies on {seen['layer']}: it can be swapped out to itself",
            "a disk, or mount -t tmpfs -o noswap (Linux 6.4 or later)",
        )
    if seen["remarks"]:
        return unknown("; ".join(seen["remarks"]), "if it can be swapped out, use a disk")
    return ok("what the store lies on is never swapped out")


def _space(seen: dict[str, Any]) -> Answer:
    found = f"{format_size(seen['free'])} free where {seen['store']} lies"
    if seen["free"] < _LEAST_FREE:
        return limited(found, "free some, or remove volumes (difffs rm)")
    return ok(found)


_LOOKS: tuple[tuple[str, tuple[Any, ...], Look], ...] = (
    ("place.store", ("guests", "swap", "images"), _store),
    ("place.answers", ("guests", "swap", "images"), _answers),
    ("place.guest_settings", ("guests",), _guest_settings),
    ("place.swap_settings", ("swap",), _swap_settings),
    ("place.other_users", ("guests",), _others),
    ("place.medium", ("swap",), _medium),
    ("place.space", ("guests", "swap", "images"), _space),
)


def main(where: str) -> int:
    """Print what there is to see; 1 with a line that says why nothing is."""
    try:
        seen = look_at(where)
    except OSError as error:
        print(f"{error.filename or where}: {error.strerror}", file=sys.stderr)
        return 1
    print(json.dumps(seen))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
