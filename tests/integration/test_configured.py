"""Mounting and swapping as the configuration says, and what systemd may have done meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trial import cgroup, hog

from difffs.mount.live import mount_at
from difffs.store.lock import is_in_use, use_of
from tests.integration import harness
from tests.integration.harness import complaint, difffs, wait_until

pytestmark = pytest.mark.integration


def configuration(folder: Path, text: str) -> tuple[str, Path]:
    """Return the arguments that name a configuration of this text."""
    path = folder / "difffs.conf"
    path.write_text(text)
    return "--config", path


def test_a_mount_and_its_end() -> None:
    reason = harness.obstacle()
    if reason is not None:
        pytest.skip(reason)
    with harness.folder_in_memory() as folder:
        place = folder / "below" / "mount"
        config = configuration(
            folder,
            f"[mount one]\nstore={folder}/store\nmountpoint={place}\nrecipe=fast\n"
            "options=buffer=2M,workers=1\n",
        )
        difffs("mount", "--configured", "one", *config, "-o", "workers=2")
        try:
            found = json.loads(difffs("stats", place, "--json").stdout)
            assert found["recipe"] == "fast"
            assert found["mount_options"]["buffer"] == 2 << 20
            assert found["mount_options"]["workers"] == 2
            (place / "file").write_bytes(b"memory" * 10000)
            # umount(8) returns at once, and the store is in use until the daemon is done
            subprocess.run(harness.unmount_command(place, lazy=False), check=True)
            difffs("umount", "--configured", "one", *config)
            assert json.loads(difffs("check", f"{folder}/store", "--json").stdout)["clean"]
            difffs("umount", "--configured", "one", *config)  # nothing is left to do
            difffs("mount", "--configured", "one", *config)
            difffs("umount", "--configured", "one", *config)
            assert mount_at(place) is None
            difffs("mount", "--configured", "one", *config)
            process = use_of(folder / "store").process
            assert process is not None
            user = os.open(place / "file", os.O_RDONLY)
            os.kill(process, signal.SIGKILL)
            wait_until(lambda: not is_in_use(folder / "store"))
            difffs("umount", "--configured", "one", "--lazy", *config)
            with contextlib.suppress(OSError):  # the file is gone with its daemon
                os.close(user)
            assert mount_at(place) is None
            other = folder / "other"
            other.mkdir()
            difffs("mount", f"{folder}/store", other)
            line = complaint("umount", "--configured", "one", *config, status=12)
            assert f"is mounted on {other}, not on {place}" in line
            difffs("umount", other)
        finally:
            for left in (place, folder / "other"):
                if mount_at(left) is not None:
                    subprocess.run(harness.unmount_command(left, lazy=True), check=True)


def test_a_mount_point_that_cannot_be_made(tmp_path: Path) -> None:
    config = configuration(tmp_path, "[mount one]\nmountpoint=/proc/nowhere/x\nstore=/x\n")
    line = complaint("mount", "--configured", "one", *config, status=12)
    assert "/proc/nowhere/x cannot be made: No such file" in line


def test_somebody_else_swaps_off_at_the_same_time(store_for_swap: Path) -> None:
    """As systemd does at shutdown, for every area that it has seen come."""
    reason = cgroup.obstacle()
    if reason is not None:
        pytest.skip(reason)
    text = f"[swap one]\nstore={store_for_swap}\nsize=256M\npriority=32767\n"
    config = configuration(store_for_swap.parent, text)
    area = json.loads(difffs("swapon", "--configured", "one", *config, "--json").stdout)
    assert area["size"] == 256 << 20
    with cgroup.MemoryCgroup(f"difffs-both-{os.getpid()}", 40 << 20) as group:
        process = subprocess.Popen(
            [sys.executable, hog.__file__, "--hold", "128", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=group.enter,
        )
        assert process.stdout is not None
        process.stdout.readline()
        for limit in ("memory.limit_in_bytes", "memory.max"):
            if (group.folder / limit).exists():
                (group.folder / limit).write_text(str(512 << 20))
        with subprocess.Popen(["swapoff", area["device"]]) as other:
            under_way = Path(f"/proc/{other.pid}/syscall")
            wait_until(lambda: under_way.read_text().startswith("168 "))  # swapoff(2)
            difffs("swapoff", "--configured", "one", *config)
            assert other.wait() == 0
        second, _ = process.communicate("")
        assert process.returncode == 0
        assert json.loads(second)["pages_verified"] == (128 << 20) // 4096
    difffs("swapoff", "--configured", "one", *config)  # nothing is left to do
    assert json.loads(difffs("check", store_for_swap, "--json").stdout)["clean"]
