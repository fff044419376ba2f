"""All images as one stream by zstd or xz, with a window over all or most of them: the bound without
random access.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.passes import PassFunction
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

LEVEL = 9
NAME = f"zstd -{LEVEL} --long, all in one"
XZ_PRESET = 6
XZ_DICTIONARY_MEBIBYTES = 512
"""Of its window, for which xz takes up to eleven times as much memory."""
XZ_NAME = f"xz -{XZ_PRESET} with {XZ_DICTIONARY_MEBIBYTES} MiB, all in one"
KIND = "whole-archive"
_VERSION = 1
_WINDOW_LOG = 30
"""1 GiB, which zstd holds in memory."""
_OUTPUT = "all"


def find() -> Found:
    """The zstd program."""
    if reason := host.tool_obstacle("zstd", "zstd"):
        return absent(NAME, reason)
    return _stream(
        NAME,
        measure,
        {
            "level": LEVEL,
            "window_log": _WINDOW_LOG,
            "tool": host.version_of("zstd", "--version"),
        },
    )


def find_bounds() -> Found:
    """find(), and xz, which is denser and takes minutes. A higher level of zstd would be a worse
    bound: 19 takes as long as xz for an eighth more bytes."""
    found = [find(), _find_xz()]
    peers = [peer for one in found for peer in one.peers]
    return Found(peers, [line for one in found for line in one.absent])


def _find_xz() -> Found:
    if reason := host.tool_obstacle("xz", "xz-utils"):
        return absent(XZ_NAME, reason)
    return _stream(
        XZ_NAME,
        measure_xz,
        {
            "preset": XZ_PRESET,
            "dictionary_mebibytes": XZ_DICTIONARY_MEBIBYTES,
            "tool": host.version_of("xz", "--version"),
        },
    )


def _stream(name: str, function: PassFunction, parameters: Mapping[str, object]) -> Found:
    peer = Peer(
        name, KIND, _VERSION, function, parameters, read="all before it", write="all", place="file"
    )
    return Found([peer], [])


def measure(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Compress the images one behind the other by zstd, with one thread."""
    return _through(
        images,
        folder / _OUTPUT,
        "zstd",
        f"-{parameters['level']}",
        f"--long={parameters['window_log']}",
        f"--stream-size={host.total_bytes(images)}",  # no larger window than that
        *("--single-thread", "--quiet", "--stdout"),
    )


def measure_xz(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Compress the images one behind the other by xz, with one thread."""
    dictionary = f"dict={parameters['dictionary_mebibytes']}MiB"
    return _through(
        images,
        folder / _OUTPUT,
        "xz",
        f"--lzma2=preset={parameters['preset']},{dictionary}",
        *("--threads=1", "--quiet", "--stdout"),
    )


def _through(images: Sequence[Image], output: Path, *command: str) -> Result:
    """What a program that compresses makes of the images' pages: `stored` bytes and `seconds`.
    EnvironmentProblem with its complaint when it fails."""
    with host.undone_when_interrupted(), output.open("wb") as file:
        began = time.monotonic()
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
        ) as tool:
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
            raise EnvironmentProblem(
                f"{command[0]} exited with {tool.returncode}: {complaint[-400:]}"
            )
        seconds = time.monotonic() - began
        stored = output.stat().st_size
    output.unlink()
    return {"stored": stored, "seconds": seconds}
