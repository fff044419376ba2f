"""What tests of peers share: a host that must be as it was, and images that fail half-way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.study.corpus import Image
from difffs.study.peers.peer import Found, Peer

_SETTINGS = (
    *(Path("/sys/kernel/mm/ksm") / name for name in ("run", "pages_to_scan", "smart_scan")),
    *(Path("/sys/kernel/mm/ksm") / name for name in ("use_zero_pages", "advisor_mode")),
    *(Path("/sys/module/zswap/parameters") / name for name in ("enabled", "compressor")),
)


def host_state() -> dict[str, list[str]]:
    """Settings, devices, swap areas and mounts."""
    loops = list(Path("/sys/block").glob("loop*/loop/backing_file"))
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "settings": [path.read_text() for path in _SETTINGS if path.exists()],
        "zram": sorted(path.name for path in Path("/sys/block").glob("zram*")),
        "loops": sorted(path.read_text() for path in loops),
        "swaps": Path("/proc/swaps").read_text().splitlines()[1:],
        "mounts": sorted(line for line in mounts if " - btrfs " in line),
    }


@pytest.fixture
def host_as_before() -> Iterator[None]:
    """Fail when a test leaves something behind on the host."""
    before = host_state()
    yield
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
