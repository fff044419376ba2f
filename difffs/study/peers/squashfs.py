"""squashfs: a read-only file system, compressed block by block."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

NAME = "squashfs zstd"
LEVEL = 3
BLOCKS = ("4K", "128K")
"""The smallest that there is, and the default."""

_VERSION = 1
_MEMORY = "128M"
_OUTPUT = "images.squashfs"


def find() -> Found:
    """A variant for each block size."""
    if reason := host.tool_obstacle("mksquashfs", "squashfs-tools"):
        return absent(NAME, reason)
    tool = host.version_of("mksquashfs", "-version")
    peers = [
        Peer(
            f"{NAME} {LEVEL}, blocks of {block[:-1]} KiB",
            "squashfs",
            _VERSION,
            measure,
            {"block": block, "level": LEVEL, "tool": tool},
            read=f"{block[:-1]} KiB" if block != "4K" else "a page",
            write="all",
            place="file",
        )
        for block in BLOCKS
    ]
    return Found(peers, [])


def measure(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Make a file system of the images, with one core; counted is the size of its file."""
    output = folder / _OUTPUT
    with host.undone_when_interrupted():
        began = time.monotonic()
        host.run_tool(
            "mksquashfs",
            *(image.path for image in images),
            output,
            *("-comp", "zstd", "-Xcompression-level", str(parameters["level"])),
            *("-b", str(parameters["block"]), "-processors", "1", "-mem", _MEMORY),
            *("-no-progress", "-quiet", "-noappend"),
        )
        seconds = time.monotonic() - began
        stored = output.stat().st_size
        output.unlink()
    return {"stored": stored, "seconds": seconds}
