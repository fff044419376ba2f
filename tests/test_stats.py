"""Statistics: what they add up to, and that they are what the files occupy."""

import json
import os
import re
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from difffs import stats
from difffs.errors import CorruptStore
from difffs.page import PAGE_SIZE
from tests.pages import guest_memory
from tests.stores import OpenStore, new_file, open_volumes, small_disk


def disk_usage(path: Path) -> int:
    """Bytes that `du` counts."""
    output = subprocess.run(
        ["du", "-s", "-B1", str(path)], check=True, capture_output=True, text=True
    ).stdout
    return int(output.split()[0])


def test_stored_is_what_the_files_occupy(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("a")
    opened.write(volume, 0, guest_memory(1, 3000))
    opened.store.fill(volume, 100, 500, 0)
    opened.store.commit()
    os.sync()
    told = stats.collect(opened.store)
    opened.store.close()
    counted = told["bytes"]
    assert counted["stored"] == counted["payload"] + counted["slack"] + counted["metadata"]
    with OpenStore(tmp_path / "s").store as store:
        occupied = disk_usage(tmp_path / "s")
        stored = stats.collect(store)["bytes"]["stored"]
    assert abs(stored - occupied) <= occupied / 100


def test_pages_and_factor_add_up(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    opened.write(opened.new_volume("a"), 0, guest_memory(2, 1000))
    opened.store.commit()
    told = stats.collect(opened.store)
    opened.store.close()
    pages = told["pages"]
    assert pages["total"] == 1000 == sum(pages.values()) - pages["total"]
    assert told["bytes"]["logical"] == 1000 * PAGE_SIZE
    assert told["factor"] == told["bytes"]["logical"] / told["bytes"]["stored"]
    assert {route["count"] for route in told["routes"].values()} != {0}
    assert sum(route["count"] for route in told["routes"].values()) == 1000
    assert sum(route["bytes_in"] for route in told["routes"].values()) == 1000 * PAGE_SIZE
    assert told["schema_version"] == stats.SCHEMA_VERSION
    json.dumps(told)


def test_memory_counts_the_write_buffer_and_the_page_cache(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s", quiet_seconds=60) as volumes:
        volumes.write(new_file(volumes), 0, guest_memory(3, 20))
        memory = stats.collect(volumes.store, volumes)["memory"]
        assert memory["write_buffer"] == 20 * PAGE_SIZE
        assert 20 * PAGE_SIZE <= memory["write_buffer_resident"] <= memory["daemon_rss"]
        assert memory["daemon_rss"] > 1 << 20
        volumes.flush()
        memory = stats.collect(volumes.store, volumes)["memory"]
        assert memory["write_buffer"] == 0
        assert memory["page_cache"] > 0
        assert memory["write_buffer_limit"] == volumes.buffer_bytes


@pytest.mark.expected_log("writing has stopped: as a test has it")
def test_what_has_stopped_all_writing(tmp_path: Path) -> None:
    with suppress(CorruptStore), open_volumes(tmp_path / "s") as volumes:
        told = stats.collect(volumes.store, volumes)
        assert (told["writing_stopped"], told["write_wait_us"]) == (False, 0)
        volumes.fail(CorruptStore("as a test has it"))
        told = stats.collect(volumes.store, volumes)
    assert told["writing_stopped"] is True


def test_statistics_can_be_asked_for_while_changes_are_committed(tmp_path: Path) -> None:
    """A commit ends the index's read transaction and begins another."""
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("a")
    pages = guest_memory(4, 400)
    end = threading.Event()

    def commit() -> None:
        while not end.is_set():
            opened.store.namespace.restore_dirty([volume])
            opened.store.commit()

    opened.write(volume, 0, pages)
    committer = threading.Thread(target=commit)
    committer.start()
    try:
        for _ in range(500):
            assert stats.collect(opened.store)["pages"]["total"] == 400
    finally:
        end.set()
        committer.join()
        opened.store.close()


def test_mapped_files_of_a_store_on_tmpfs_are_not_the_daemons_own(tmp_path: Path) -> None:
    """They are the store's, and counted as such; the kernel has them in RssShmem."""
    with (
        small_disk(tmp_path / "disk", 32 << 20) as disk,
        open_volumes(disk / "s", quiet_seconds=60) as volumes,
    ):
        volumes.write(new_file(volumes), 0, guest_memory(3, 500))
        volumes.flush()
        status = Path("/proc/self/status").read_text()
        resident = dict(re.findall(r"^(Rss\w+):\s+(\d+) kB$", status, re.MULTILINE))
        memory = stats.collect(volumes.store, volumes)["memory"]
        anonymous, shared = (int(resident[kind]) << 10 for kind in ("RssAnon", "RssShmem"))
        assert memory["write_buffer_resident"] < shared, "hint tables are mapped, too"
        own = memory["daemon_rss"] - memory["write_buffer_resident"]
        assert abs(own - anonymous) < 4 << 20
