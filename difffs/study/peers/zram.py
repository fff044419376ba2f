"""zram: the kernel's compressed block device in memory, a device of our own for each pass."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from difffs.errors import EnvironmentProblem
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

NAME = "zram"
_VERSION = 1
_CONTROL = Path("/sys/class/zram-control")
_NODE_SECONDS = 5


class MmStat(NamedTuple):
    """What ``mm_stat`` of a device tells, in its order; bytes and pages."""

    orig_data_size: int
    compr_data_size: int
    mem_used_total: int
    """With the allocator's fragmentation and its own data."""
    mem_limit: int
    mem_used_max: int
    same_pages: int
    pages_compacted: int
    huge_pages: int
    """Pages kept as they are, since they do not compress."""


def parse_mm_stat(text: str) -> MmStat:
    """Read the line; kernels before 5.15 lack the ninth figure, which is not used."""
    return MmStat(*map(int, text.split()[: len(MmStat._fields)]))


def find() -> Found:
    """A variant for each algorithm of this kernel's zram."""
    if os.geteuid() != 0:
        return absent(NAME, "making a device needs root")
    try:
        with _module(), _device() as folder:
            algorithms = host.choices((folder / "comp_algorithm").read_text())
    except EnvironmentProblem as error:
        return absent(NAME, str(error))
    peers = [
        Peer(
            f"zram {algorithm}",
            "zram",
            _VERSION,
            measure,
            {"algorithm": algorithm, "kernel": host.kernel()},
        )
        for algorithm in algorithms
    ]
    lacking = [
        f"zram {algorithm}: this kernel's zram has only {', '.join(algorithms)}"
        for algorithm in ("lzo-rle", "lz4", "zstd")
        if algorithm not in algorithms
    ]
    return Found(peers, lacking)


def measure(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Write the images to a device with `algorithm`."""
    with host.undone_when_interrupted(), _module(), _device() as folder:
        (folder / "comp_algorithm").write_text(str(parameters["algorithm"]))
        (folder / "disksize").write_text(str(host.total_bytes(images)))
        seconds = host.write_images(images, _node(folder))
        stat = parse_mm_stat((folder / "mm_stat").read_text())
    return {"stored": stat.mem_used_total, "seconds": seconds, **stat._asdict()}


@contextmanager
def _module() -> Iterator[None]:
    """Load zram when it is not there, and unload it again."""
    if _CONTROL.exists():
        yield
        return
    subprocess.run(["modprobe", "zram", "num_devices=0"], check=False, capture_output=True)
    if not _CONTROL.exists():
        raise EnvironmentProblem("this kernel has no zram")
    try:
        yield
    finally:
        subprocess.run(["modprobe", "--remove", "zram"], check=False, capture_output=True)


@contextmanager
def _device() -> Iterator[Path]:
    """A new device, which nobody else can have in use; its folder below /sys/block."""
    try:
        number = int((_CONTROL / "hot_add").read_text())
    except OSError as error:
        raise EnvironmentProblem(f"no zram device can be added: {error.strerror}") from None
    try:
        yield Path(f"/sys/block/zram{number}")
    finally:
        (_CONTROL / "hot_remove").write_text(str(number))


def _node(folder: Path) -> Path:
    """The device's node, once it is there."""
    node = Path("/dev") / folder.name
    deadline = time.monotonic() + _NODE_SECONDS
    while not node.is_block_device():
        if time.monotonic() > deadline:
            raise EnvironmentProblem(f"{node} does not appear: this /dev is not the kernel's")
        time.sleep(0.01)
    return node
