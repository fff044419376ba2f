"""btrfs with compression, on a loop device over a sparse file."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

NAME = "btrfs zstd"
OPTIONS = "compress-force=zstd:3"
_VERSION = 1
_ROOM = 512 << 20
"""For metadata, and what btrfs wants to have free."""


def find() -> Found:
    """btrfs, where its tools are and the kernel has it."""
    if os.geteuid() != 0:
        return absent(NAME, "mounting needs root")
    for program, package in (("mkfs.btrfs", "btrfs-progs"), ("losetup", "mount")):
        if reason := host.tool_obstacle(program, package):
            return absent(NAME, reason)
    parameters = {
        "options": OPTIONS,
        "kernel": host.kernel(),
        "tool": host.version_of("mkfs.btrfs", "--version"),
    }
    peer = Peer(
        NAME,
        "btrfs",
        _VERSION,
        measure,
        parameters,
        read="128 KiB",
        write="128 KiB",
        place="file",
    )
    return Found([peer], [])


def measure(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Copy the images to a new file system; counted is what it allocates for them."""
    size = host.total_bytes(images) + _ROOM
    name = str(uuid.uuid4())
    with (
        host.undone_when_interrupted(),
        host.sparse_file(folder / "device", size) as file,
        host.loop_device(file) as device,
    ):
        host.run_tool("mkfs.btrfs", "--quiet", "--metadata", "single", "--uuid", name, device)
        with _mounted(device, folder / "mount", str(parameters["options"])) as mountpoint:
            before = _occupied(name)
            began = time.monotonic()
            host.copy_images(images, mountpoint)
            seconds = time.monotonic() - began
            host.run_tool("sync", "--file-system", mountpoint)
            after = _occupied(name)
    found = {kind: after[kind] - before[kind] for kind in before}
    return {"stored": sum(found.values()), "seconds": seconds, **found}


@contextmanager
def _mounted(device: Path, mountpoint: Path, options: str) -> Iterator[Path]:
    mountpoint.mkdir()
    host.run_tool("mount", "-t", "btrfs", "-o", options, device, mountpoint)
    try:
        yield mountpoint
    finally:
        host.run_tool("umount", mountpoint)
        mountpoint.rmdir()


def _occupied(name: str) -> dict[str, int]:
    """Bytes in use of each kind, copies included."""
    folder = Path("/sys/fs/btrfs") / name / "allocation"
    return {
        kind: int((folder / kind / "disk_used").read_text())
        for kind in ("data", "metadata", "system")
    }
