"""Metrics and columns of a live mount, from the mount point and from the store."""

import mmap
import os
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from difffs.mount.request_times import KINDS
from difffs.page import PAGE_SIZE
from tests.integration.harness import Mounted, difffs
from tests.pages import guest_memory

pytestmark = pytest.mark.integration


def test_metrics_of_a_mount(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(guest_memory(5, 200))
    mount.commit()
    assert (mount.path / "file").read_bytes()
    told = mount.statistics()
    for where in (mount.path, mount.store):
        text = difffs("stats", where, "--prometheus").stdout
        found = {family.name: family for family in text_string_to_metric_families(text)}
        assert {sample.labels["store"] for sample in found["difffs_pages"].samples} == {
            str(mount.store)
        }
        assert sum(sample.value for sample in found["difffs_pages"].samples) == 200
        assert found["difffs_store_mounted"].samples[0].value == 1
        assert found["difffs_daemon_resident_bytes"].samples[0].value > 1 << 20
        assert found["difffs_decoded_pages"].type == "counter"
        settings = {sample.labels["setting"] for sample in
                    found["difffs_kernel_setting_applied"].samples}  # fmt: skip
        assert settings == {entry["setting"] for entry in told["kernel_settings"]}
    shown = difffs("stats", mount.path, "-n", "--output", "store,mountpoint,pages").stdout
    assert shown.split() == [str(mount.store), str(mount.path), "200"]


def requests(statistics: dict[str, Any]) -> dict[str, int]:
    timed = statistics["request_times"]["requests"]
    for kind, counted in timed.items():
        assert counted["count"] == sum(counted["counts"]), kind
    return {kind: counted["count"] for kind, counted in timed.items()}


def test_times_of_reads(mount: Mounted) -> None:
    """Each request is counted once, whether native code answers it or, as of more than 16 pages,
    Python."""
    path = mount.path / "file"
    path.write_bytes(guest_memory(5, 64))
    before = requests(mount.statistics())
    assert before.keys() == set(KINDS)
    buffer = mmap.mmap(-1, 1 << 20)
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    for pages, times in ((1, 30), (4, 20), (8, 1), (16, 3), (32, 10)):
        for _ in range(times):
            view = memoryview(buffer)[: pages * PAGE_SIZE]
            assert os.preadv(file, [view], PAGE_SIZE) == len(view)
    os.close(file)
    told = mount.statistics()
    after = requests(told)
    change = {kind: after[kind] - before[kind] for kind in KINDS}
    assert change["page_read"] == 30
    assert change["short_read"] == 21
    assert change["long_read"] == 13
    assert change["sync"] == 1
    assert change["other"] > 0
    times = told["request_times"]["requests"]["page_read"]
    assert 0 < times["us"] < 1e6 * times["count"]
    assert told["failed_requests"] == {"EIO": 0, "ENOSPC": 0}
    assert (told["write_wait_us"], told["writing_stopped"]) == (0, False)
    text = difffs("stats", mount.path, "--prometheus").stdout
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert found["difffs_request_seconds"].type == "histogram"
    counts = {
        sample.labels["request"]: sample.value
        for sample in found["difffs_request_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert {kind: counts[kind] for kind in KINDS if kind != "other"} == {
        kind: count for kind, count in after.items() if kind != "other"
    }


def test_times_begin_with_the_mount(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(guest_memory(5, 20))
    assert requests(mount.statistics())["write"] >= 1
    mount.remount()
    assert requests(mount.statistics())["write"] == 0
