"""What a run has saved, for programs and for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from difffs.cgroup.group import Group
from difffs.mount.live import read_statistics, read_usage
from difffs.running.memory_files import MemoryFile
from difffs.running.rule import Rule
from difffs.running.watch import Found
from difffs.size import format_size

SCHEMA_VERSION = 1


def report(
    command: Sequence[str], rule: Rule, group: Group, found: Found, status: int | None
) -> dict[str, Any]:
    """Return a run as one object; sizes in bytes. `status` is None while the command runs."""
    usage = found.usage
    guests = [
        {
            "file": file.path,
            "mapped": file.mapped,
            "stored": _stored(file),
        }
        for file in found.files
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "command": list(command),
        "exit_status": status,
        "seconds": round(found.seconds, 3),
        "rule": str(rule),
        "cgroup": {"version": group.version, "folder": str(group.folder)},
        "resident": {
            "limit": found.limit,
            "last": usage.resident,
            "peak": found.resident_peak,
            "mean": found.resident_mean,
            "anonymous": usage.anonymous,
            "cached": usage.cached,
        },
        "refaults": {
            "count": usage.refaults,
            "per_second": round(usage.refaults / max(found.seconds, 1e-9), 1),
        },
        "waited_us": usage.waited_us,
        "guest_ram": guests,
        "host_memory": None if found.host is None else found.host.as_json(),
        "saved_mean": None if found.host is None else found.saved_mean,
        "stores": [
            _store(place) for place in dict.fromkeys(file.mountpoint for file in found.files)
        ],
    }


def _stored(file: MemoryFile) -> int | None:
    with suppress(OSError):
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return round(read_usage(descriptor).stored)
        finally:
            os.close(descriptor)
    return None


def _store(mountpoint: str) -> dict[str, Any]:
    try:
        found = read_statistics(mountpoint)
    except OSError:
        return {"mountpoint": mountpoint, "store": None, "stored": None, "factor": None}
    return {
        "mountpoint": mountpoint,
        "store": found["store"],
        "stored": found["bytes"]["stored"],
        "factor": found["factor"],
    }


def lines(run: dict[str, Any]) -> list[str]:
    """Return it as people read it."""
    resident, refaults = run["resident"], run["refaults"]
    limit = "none" if resident["limit"] is None else format_size(resident["limit"])
    waited = run["waited_us"]
    waiting = "" if waited is None else f", waited for memory {waited / 1e6:.1f} s"
    told = [
        f"{run['command'][0]}: {run['seconds']:.1f} s, resident {run['rule']}",
        f"resident: {format_size(resident['last'])} (mean {format_size(resident['mean'])}, at most"
        f" {format_size(resident['peak'])}), of which its own memory"
        f" {format_size(resident['anonymous'])}; limit {limit}",
        f"needed again: {refaults['count']:,} pages, {refaults['per_second']:,.1f} a second"
        + waiting,
    ]
    host = run["host_memory"]
    if host is None:
        return [*told, "no file of a mount was mapped: nothing could go to a store"]
    for guest in run["guest_ram"]:
        stored = "not known" if guest["stored"] is None else format_size(guest["stored"])
        told.append(f"guest RAM: {guest['file']}, {format_size(guest['mapped'])}, stored {stored}")
    sign = "saved" if host["saved"] >= 0 else "cost in addition"
    told.append(
        f"host memory: {format_size(host['used'])} for {format_size(host['nominal'])} (guest pages"
        f" {format_size(host['resident'])}, stores {format_size(host['stores'])}, daemons"
        f" {format_size(host['daemons'])}): {sign} {format_size(abs(host['saved']))}, in the mean"
        f" {format_size(run['saved_mean'])}"
    )
    return told
