"""What tests of peers share: a host that must be as it was, and images that fail half-way."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer

_KSM = Path("/sys/kernel/mm/ksm")
_ZSWAP = Path("/sys/module/zswap/parameters")
_SETTINGS = {
    _KSM / "run": ("run", "pages_to_scan", "smart_scan", "use_zero_pages", "advisor_mode"),
    _ZSWAP / "enabled": ("enabled", "compressor"),
}
_OURS = ("difffs-study-", "difffs-test-")
"""In names of folders: other loop devices and mounts are not the tests'."""


def host_state() -> dict[str, list[str]]:
    """Settings, devices and mounts that passes change for a moment."""
    settings = []
    for key, names in _SETTINGS.items():
        if key.exists():
            with host.alone(key):  # not those of another study at this moment
                paths = [key.parent / name for name in names]
                settings += [path.read_text() for path in paths if path.exists()]
    loops = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "settings": settings,
        "zram": sorted(path.name for path in Path("/sys/block").glob("zram*")),
        "loops": sorted(path for path in loops if any(name in path for name in _OURS)),
        "mounts": sorted(line for line in mounts if any(name in line for name in _OURS)),
    }


@pytest.fixture
def host_as_before() -> Iterator[None]:
    """Fail when a test leaves something behind on the host."""
    before = host_state()
    yield
    # what others have at work, such as a benchmark's devices, goes in its time
    deadline = time.monotonic() + 30
    while host_state() != before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert host_state() == before


@pytest.fixture
def unreadable(tmp_path: Path) -> Image:
    """An image of 4 MiB that vanished after it was described."""
    return Image(tmp_path / "gone.mem", "gone", 1024, "gone")


def variants(found: Found) -> list[Peer]:
    """The variants that this host can run; skips where there is none."""
    if not found.peers:
        pytest.skip("; ".join(found.absent))
    return found.peers


def make_image(path: Path, content: bytes) -> Image:
    """Write an image and describe it."""
    path.write_bytes(content)
    return Image.of(path)
