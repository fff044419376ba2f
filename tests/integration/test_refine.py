"""difffs refine on stores and mounts, as a user calls it, and daemons that are killed meanwhile."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from difffs.mount.live import read_statistics, start_refining, stop_refining
from tests.integration.harness import Mounted, complaint, difffs, folder_in_memory, wait_until
from tests.pages import guest_memory, similar_page
from tests.stores import small_disk

pytestmark = pytest.mark.integration

PAGE = 4096
PAGES = 1200
CONTENT = guest_memory(11, PAGES)


def test_a_store_that_is_not_mounted(tmp_path: Path) -> None:
    image = tmp_path / "vm.mem"
    image.write_bytes(CONTENT)
    store = tmp_path / "store"
    difffs("import", store, image)
    told = json.loads(difffs("refine", store, "--json", "--workers", "1").stdout)
    assert told["finished"]
    assert told["tier"] == "cold"
    assert 0 < told["members"] <= told["pages"]
    assert told["stored_after"] < told["stored_before"]
    assert "clean" in difffs("check", store).stdout
    difffs("export", store, "vm.mem", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == CONTENT
    again = difffs("refine", store, "--tier", "rest").stdout
    assert " groups, stored " in again
    assert "more to do" not in again
    difffs("export", store, "vm.mem", tmp_path / "once more")
    assert (tmp_path / "once more").read_bytes() == CONTENT
    statistics = json.loads(difffs("stats", store, "--json").stdout)
    assert statistics["tiers"]["rest"]["objects"] > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    image = tmp_path / "vm.mem"
    image.write_bytes(CONTENT)
    with small_disk(tmp_path / "disk", 24 << 20) as disk:
        store = disk / "store"
        difffs("import", store, image)
        filler = disk / "filler"
        with filler.open("wb") as file:
            status = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)
        assert "no space left" in complaint("refine", store, status=8)
        filler.unlink()
        assert json.loads(difffs("refine", store, "--json").stdout)["members"] > 0
        difffs("export", store, "vm.mem", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == CONTENT


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    assert "does not exist" in complaint("refine", tmp_path / "none", status=3)
    assert "is no duration" in complaint("refine", tmp_path, "--budget", "soon", status=2)
    assert "invalid choice" in difffs("refine", tmp_path, "--tier", "hot", status=2).stderr
    assert "from 1" in complaint("refine", tmp_path, "--workers", "0", status=2)


def test_a_mount_refines_while_it_is_written(mount: Mounted) -> None:
    path = mount.path / "vm"
    path.write_bytes(CONTENT)
    mount.commit()
    with subprocess.Popen(
        [sys.executable, "-m", "difffs", "refine", mount.path, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        model = bytearray(CONTENT)
        random = Random(3)
        with path.open("r+b", buffering=0) as file:
            while process.poll() is None:
                page = random.randrange(PAGES // 4)
                data = similar_page(bytes(model[page * PAGE : (page + 1) * PAGE]), random)
                os.pwrite(file.fileno(), data, page * PAGE)
                model[page * PAGE : (page + 1) * PAGE] = data
                if random.random() < 0.05:
                    os.fsync(file.fileno())
                time.sleep(0.002)
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
    assert told["finished"]
    assert told["members"] > PAGES // 8
    assert path.read_bytes() == model
    statistics = mount.statistics()
    assert statistics["refine"]["running"] is False
    assert statistics["tiers"]["cold"]["objects"] > PAGES // 8
    mount.remount()
    assert path.read_bytes() == model


def test_a_pass_can_be_ended_and_only_one_runs(mount: Mounted) -> None:
    (mount.path / "vm").write_bytes(CONTENT)
    mount.commit()
    start_refining(mount.path, "rest", None)
    with pytest.raises(OSError, match="busy"):
        start_refining(mount.path, "cold", None)
    # the command shows the pass that runs, of whatever tier
    joined = difffs("refine", mount.path, "--json")
    assert "refines already" in joined.stderr
    assert json.loads(joined.stdout)["tier"] == "rest"
    path = mount.path / "more"
    path.write_bytes(guest_memory(12, PAGES))
    mount.commit()
    start_refining(mount.path, "rest", None)
    stop_refining(mount.path)
    wait_until(lambda: not read_statistics(mount.path)["refine"]["running"])
    with pytest.raises(OSError, match="Invalid"):
        start_refining(mount.path, "hot", None)
    mount.remount("-o", "ro")
    with pytest.raises(OSError, match="Read-only"):
        start_refining(mount.path, "cold", None)


def test_a_mount_refines_by_itself_when_nothing_is_written() -> None:
    with folder_in_memory() as folder:
        mount = Mounted(folder)
        mount.remount("-o", "refine=cold,refine_after=1s")
        (mount.path / "vm").write_bytes(CONTENT)
        mount.commit()

        def is_refined() -> bool:
            told = read_statistics(mount.path)
            return bool(told["tiers"]["cold"]["objects"] and not told["refine"]["running"])

        wait_until(is_refined, 60)
        assert read_statistics(mount.path)["refine"]["by_itself"] == "cold"
        assert (mount.path / "vm").read_bytes() == CONTENT
        mount.unmount()
        mount.verify_log()


@pytest.mark.parametrize(
    "rounds",
    [4, pytest.param(200, marks=pytest.mark.minutes)],  # as many as were asked for
)
def test_daemons_that_are_killed_while_they_refine(rounds: int) -> None:
    random = Random(rounds)
    with folder_in_memory() as folder:
        mount = Mounted(folder)
        path = mount.path / "vm"
        model = bytearray(CONTENT)
        path.write_bytes(model)
        mount.commit()
        members = 0
        for turn in range(rounds):
            start_refining(mount.path, random.choice(["cold", "rest"]), None)
            time.sleep(random.random() * 0.8)
            members = max(members, read_statistics(mount.path)["refine"]["members"])
            mount.kill()
            mount.check()
            mount.mount()
            assert path.read_bytes() == model, turn
            # a part is fresh again
            first = random.randrange(PAGES - 100)
            fresh = guest_memory(random.randrange(1000), 100)
            with path.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), fresh, first * PAGE)
                os.fsync(file.fileno())
            model[first * PAGE : (first + 100) * PAGE] = fresh
        assert members > 0
        difffs("refine", mount.path)
        assert path.read_bytes() == model
        mount.unmount()
