"""All images as one zstd stream with a window over all of them: the bound without random access."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

LEVEL = 9
NAME = f"zstd -{LEVEL} --long, all in one"
KIND = "whole-archive"
_VERSION = 1
_WINDOW_LOG = 30
"""1 GiB, which zstd holds in memory."""
_OUTPUT = "all.zst"


def find() -> Found:
    """The zstd program."""
    if reason := host.tool_obstacle("zstd", "zstd"):
        return absent(NAME, reason)
    peer = Peer(
        NAME,
        KIND,
        _VERSION,
        measure,
        {
            "level": LEVEL,
            "window_log": _WINDOW_LOG,
            "tool": host.version_of("zstd", "--version"),
        },
        read="all before it",
        write="all",
        place="file",
    )
    return Found([peer], [])


def measure(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Compress the images one behind the other, with one thread."""
    output = folder / _OUTPUT
    command = [
        "zstd",
        f"-{parameters['level']}",
        f"--long={parameters['window_log']}",
        f"--stream-size={host.total_bytes(images)}",  # no larger window than that
        *("--single-thread", "--quiet", "-o", str(output)),
    ]
    with host.undone_when_interrupted():
        began = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
            assert tool.stdin is not None
            assert tool.stderr is not None
            try:
                for chunk in host.chunks(images):
                    tool.stdin.write(chunk)
                tool.stdin.close()
                complaint = tool.stderr.read().decode(errors="replace").strip()
            except BrokenPipeError:
                complaint = tool.stderr.read().decode(errors="replace").strip()
            except BaseException:
                tool.kill()
                raise
        if tool.returncode != 0:
            raise EnvironmentProblem(f"zstd exited with {tool.returncode}: {complaint[-400:]}")
        seconds = time.monotonic() - began
        stored = output.stat().st_size
        output.unlink()
    return {"stored": stored, "seconds": seconds}
