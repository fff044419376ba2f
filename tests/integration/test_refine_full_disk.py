"""difffs refine where nothing else fits any more: it goes through, and frees as it goes."""

import json
import os
from collections.abc import Iterator

import pytest

from difffs.mount.live import mount_at
from tests.integration.harness import Mounted, difffs
from tests.integration.small_disks import MIB, Disk, NotHere, small_disk
from tests.integration.test_full_disk import OnDisk, expect_full
from tests.pages import guest_memory

pytestmark = pytest.mark.integration

SIZES = {"tmpfs": 12, "ext4": 20}
PAGE = 4096
AT_ONCE = 128
"""Pages."""


@pytest.fixture(params=list(SIZES))
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    try:
        with small_disk(request.param, SIZES[request.param]) as made:
            yield made
    except NotHere as reason:
        pytest.skip(str(reason))


def fill(mounted: Mounted, disk: Disk) -> bytearray:
    """Writes guests' memory until the disk is full; what it took, but for what waits for room."""
    content = bytearray()
    file = os.open(mounted.path / "vm", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for number in range(64 * disk.mebibytes):
            data = guest_memory(1 + number // 4, AT_ONCE)
            os.pwrite(file, data, len(content))
            os.fsync(file)
            content += data
    except OSError as error:
        expect_full(error)
        os.ftruncate(file, len(content))
    else:
        raise AssertionError("never full")
    finally:
        os.close(file)
    return content


def free_bytes(disk: Disk) -> int:
    status = os.statvfs(disk.path)
    return status.f_bfree * status.f_frsize


@pytest.mark.parametrize(("tier", "live"), [("cold", False), ("cold", True), ("rest", True)])
def test_it_goes_through_and_frees_as_it_goes(disk: Disk, tier: str, live: bool) -> None:
    mounted = OnDisk(disk)
    try:
        content = fill(mounted, disk)
        assert len(content) > disk.room * MIB
        if not live:
            mounted.unmount()
        before = free_bytes(disk)
        where = mounted.path if live else mounted.store
        told = json.loads(difffs("refine", where, "--tier", tier, "--json").stdout)
        assert told["finished"]
        assert told["members"] > told["pages"] // 2
        assert free_bytes(disk) > before + disk.room * MIB // 20
        if not live:
            mounted.check()
            mounted.mount()
        # and there is room for more
        (mounted.path / "more").write_bytes(guest_memory(0, AT_ONCE))
        mounted.remount()
        assert (mounted.path / "vm").read_bytes() == content
        assert (mounted.path / "more").read_bytes() == guest_memory(0, AT_ONCE)
        mounted.unmount()
        mounted.check()
        mounted.verify_log()
    finally:
        if mount_at(mounted.path) is not None:
            difffs("umount", "--force", mounted.path)
