"""Swap areas that were made in another namespace, whose daemon is dead, or that do not do much."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.loop_device import loop_devices
from difffs.mount.live import mountpoints_of
from difffs.swap import active_areas
from tests.integration.harness import (
    DIFFFS,
    SECONDS,
    complaint,
    difffs,
    run_in_namespace,
    unshared_process,
    wait_until,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("able_to_swap")]


@pytest.fixture
def store(store_for_swap: Path) -> Path:
    """A place for a store that is swapped to."""
    return store_for_swap


def swap_on_in(process: int, store: Path) -> str:
    """Swap to a store from the mount namespace of a process; return the loop device."""
    done = run_in_namespace(process, *DIFFFS, "swapon", store, "--size", "16M", "--json")
    assert done.returncode == 0, done
    return str(json.loads(done.stdout)["device"])


def test_from_another_mount_namespace(store: Path) -> None:
    with unshared_process() as process:
        device = swap_on_in(process, store)
        assert device in active_areas()
        assert mountpoints_of(store) == []
        assert f"swapped to already ({device})" in complaint("swapon", store, status=5)
        difffs("swapoff", store)
        assert device not in active_areas()
        assert not any(loop.path == device for loop in loop_devices())
        table = run_in_namespace(process, "cat", "/proc/self/mountinfo").stdout
        assert f" {store} " not in table
    assert list(Path("/run/difffs").glob("store-*")) == []
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


def test_where_the_namespace_cannot_be_entered(store: Path) -> None:
    """Without the capability that setns(2) needs beside that for swapping."""
    with unshared_process() as process:
        device = swap_on_in(process, store)
        daemon = (store / "lock").read_text().split()[1]
        weaker = ("setpriv", "--bounding-set", "-sys_chroot", "--inh-caps", "-sys_chroot")
        done = subprocess.run(
            [*weaker, *DIFFFS, "swapoff", str(store)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        if done.returncode == 0:
            pytest.skip("setpriv takes nothing away here")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert device in done.stderr
        command = f"nsenter -t {daemon} -m difffs swapoff {store}"
        assert command in done.stderr
        assert device in active_areas(), "nothing is changed"
        as_told = [*command.removesuffix(f" difffs swapoff {store}").split(), *DIFFFS]
        subprocess.run([*as_told, "swapoff", store], check=True, timeout=SECONDS)
        assert device not in active_areas()
    assert list(Path("/run/difffs").glob("store-*")) == []


def test_from_another_process_namespace(store: Path) -> None:
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    script = '"$@" && exec sleep 1000'
    with subprocess.Popen(
        [*command, "sh", "-c", script, "sh", *DIFFFS, "swapon", store, "--size", "16M"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as outer:
        inside = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        try:
            wait_until(lambda: inside.read_text() != "")
            name = Path(f"/proc/{inside.read_text().strip()}/comm")
            wait_until(lambda: name.read_text() == "sleep\n")
            text = complaint("swapoff", store, status=2)
            device = text[text.index("(/dev/") + 1 :].partition(")")[0]
            assert device in active_areas(), "nothing is changed"
            command = text[text.index("nsenter") :].split()
            assert command[3:5] == ["-m", "-p"]
            subprocess.run([*command[:5], *DIFFFS, *command[6:]], check=True, timeout=SECONDS)
            assert device not in active_areas()
            again = ("nsenter", "-t", inside.read_text().strip(), "-m", "-p", *DIFFFS, "swapon")
            subprocess.run([*again, store, "--size", "16M"], check=True, timeout=SECONDS)
        finally:
            subprocess.run(["kill", "-KILL", *inside.read_text().split()], check=False)
            outer.wait(SECONDS)
    # With its processes, the namespace and all that is known of the mount are gone.
    text = complaint("swapon", store, status=5)
    assert "swapped to already" in text
    device = text[text.index("(/dev/") + 1 :].partition(")")[0]
    difffs("swapoff", store)
    assert device not in active_areas()
    assert not any(loop.path == device for loop in loop_devices())
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


@contextlib.contextmanager
def hidden_place(folder: Path) -> Iterator[int]:
    """A process in whose mount namespace alone there is room for stores in a folder."""
    folder.mkdir(exist_ok=True)
    with unshared_process() as process:
        words = ("mount", "-t", "tmpfs", "-o", "noswap,size=100m", "difffs-test", str(folder))
        done = run_in_namespace(process, *words)
        if done.returncode != 0:
            pytest.skip(f"no tmpfs that stays in memory: {done.stderr}")
        try:
            yield process
        finally:
            run_in_namespace(process, *DIFFFS, "swapoff", folder / "store")


def own_mountpoints() -> list[Path]:
    """Those of stores with the name that these tests give them."""
    return list(Path("/run/difffs").glob("store-*"))


def test_a_store_that_only_another_namespace_sees(store: Path) -> None:
    hidden = store.parent / "hidden" / "store"
    with hidden_place(hidden.parent) as process:
        device = swap_on_in(process, hidden)
        assert not hidden.exists()
        difffs("swapoff", hidden)
        assert device not in active_areas()
        assert not any(loop.path == device for loop in loop_devices())
        assert own_mountpoints() == []
        assert "not swapped to" in complaint("swapoff", hidden, status=10)
        checked = run_in_namespace(process, *DIFFFS, "check", hidden)
        assert checked.returncode == 0, checked


def test_another_store_has_the_same_path_here(store: Path) -> None:
    path = store.parent / "hidden" / "store"
    with hidden_place(path.parent) as process:
        device = swap_on_in(process, path)
        own = own_mountpoints()
        (store.parent / "image.mem").write_bytes(bytes(4096))
        difffs("import", path, store.parent / "image.mem")
        text = complaint("swapoff", path, status=2)
        assert device in active_areas()
        assert own_mountpoints() == own, "removing it would take the mount away"
        assert text.endswith(f"nsenter -t {process} -m difffs swapoff {path}")
        words = text[text.index("nsenter") :].split()
        subprocess.run([*words[:4], *DIFFFS, *words[5:]], check=True, timeout=SECONDS)
        assert device not in active_areas()
        assert own_mountpoints() == []


def test_stores_of_several_namespaces_have_the_same_path(store: Path) -> None:
    hidden = store.parent / "hidden" / "store"
    with hidden_place(hidden.parent) as first, hidden_place(hidden.parent) as second:
        devices = [swap_on_in(process, hidden) for process in (first, second)]
        text = complaint("swapoff", hidden, status=2)
        assert set(devices) <= set(active_areas()), "nothing is changed"
        commands = text[text.index("nsenter") :].split(" or ")
        assert len(commands) == 2
        for command in commands:
            words = command.split()
            subprocess.run([*words[:4], *DIFFFS, *words[5:]], check=True, timeout=SECONDS)
        assert not set(devices) & set(active_areas())
    assert own_mountpoints() == []


def test_a_dead_daemon_whose_store_nobody_sees(store: Path) -> None:
    hidden = store.parent / "hidden" / "store"
    with hidden_place(hidden.parent) as process:
        device = swap_on_in(process, hidden)
        (own,) = own_mountpoints()
        note = run_in_namespace(process, "cat", hidden / "lock").stdout
        daemon = int(note.split()[1])
        os.kill(daemon, 9)
        wait_until(lambda: not Path(f"/proc/{daemon}").exists())
        os.kill(process, 9)  # and with its last process the mount namespace
        wait_until(lambda: any(one.file_name == "/swap" for one in loop_devices()))
    text = complaint("swapoff", hidden, status=2)
    assert device in active_areas()
    assert own.exists()
    told = f"swapoff {device} && losetup --detach {device}"
    assert text.endswith(told)
    subprocess.run(["sh", "-c", told], check=True)
    assert device not in active_areas()
    assert "not swapped to" in complaint("swapoff", hidden, status=10)
    own.rmdir()


def test_a_store_that_was_moved(store: Path) -> None:
    moved = store.parent / "moved"
    with unshared_process() as process:
        device = swap_on_in(process, store)
        daemon = int((store / "lock").read_text().split()[1])
        store.rename(moved)
        done = subprocess.run([*DIFFFS, "swapoff", store], check=False, capture_output=True)
        assert device not in active_areas()
        assert not any(loop.path == device for loop in loop_devices())
        if done.returncode != 0:  # what moved could not be written any more
            assert f"nsenter -t {process} -m" in os.fsdecode(done.stderr)
            os.kill(daemon, 9)
            wait_until(lambda: not Path(f"/proc/{daemon}").exists())
    difffs("check", moved)
    for own in own_mountpoints():
        own.rmdir()


def test_a_copy_of_the_mount_in_another_namespace(store: Path) -> None:
    area = json.loads(difffs("swapon", store, "--size", "16M", "--json").stdout)
    own = Path(area["mountpoint"])
    with unshared_process() as process:
        text = complaint("swapoff", store, status=12)
        assert f"process {process} (sleep)" in text
        assert area["device"] not in active_areas()
        assert own.exists(), "removing it would take the mount away in there"
    wait_until(lambda: (store / "lock").read_bytes() == b"\n")
    difffs("swapoff", store)
    assert not own.exists()


def test_after_its_daemon_was_killed(store: Path) -> None:
    area = json.loads(difffs("swapon", store, "--size", "16M", "--json").stdout)
    daemon = int((store / "lock").read_text().split()[1])
    os.kill(daemon, 9)
    wait_until(lambda: not Path(f"/proc/{daemon}").exists())
    assert "swapped to already" in complaint("swapon", store, status=5)
    difffs("swapoff", store)
    assert area["device"] not in active_areas()
    assert not any(loop.path == area["device"] for loop in loop_devices())
    assert not Path(area["mountpoint"]).exists()
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


def test_other_peoples_loop_devices_on_the_mount_stay(store: Path) -> None:
    folder = store.parent / "mount"
    folder.mkdir()
    difffs("mount", store, folder)
    (folder / "disk").touch()
    os.truncate(folder / "disk", 1 << 20)
    other = subprocess.run(
        ["losetup", "--find", "--show", folder / "disk"], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        difffs("swapon", store, "--size", "16M")
        difffs("swapoff", store)
        assert any(loop.path == other for loop in loop_devices())
        assert [path.name for path in folder.iterdir()] == ["disk"]
    finally:
        subprocess.run(["losetup", "--detach", other], check=True)
        difffs("umount", folder)


def test_a_loop_device_that_stays_read_only(store: Path) -> None:
    free = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=True)
    device = free.stdout.strip()
    subprocess.run(["blockdev", "--setro", device], check=True)
    try:
        area = json.loads(difffs("swapon", store, "--size", "16M", "--json").stdout)
        assert area["device"] in active_areas()
        if area["device"] != device:
            pytest.skip(f"somebody else took {device}")
        assert (Path("/sys/block") / Path(device).name / "ro").read_text() == "0\n"
        difffs("swapoff", store)
    finally:
        subprocess.run(["blockdev", "--setrw", device], check=True)


def test_what_keeps_pages_from_the_store_is_told(store: Path) -> None:
    first = store.parent / "first"
    made = difffs("swapon", first, "--size", "16M", "--priority", "9", "--json")
    other = json.loads(made.stdout)["device"]
    try:
        for priority, word in (("8", "before"), ("9", "along with"), ("10", "")):
            area = json.loads(
                difffs("swapon", store, "--size", "16M", "--priority", priority, "--json").stdout
            )
            told = [text for text in area["warnings"] if other in text]
            assert len(told) == bool(word)
            assert all(word in text for text in told)
            difffs("swapoff", store)
    finally:
        difffs("swapoff", first)


WITH_ZSWAP = """
import sys
from pathlib import Path
from difffs import swap
from difffs.cli.main import main

swap._ZSWAP = Path(sys.argv[1])
sys.exit(main(["swapon", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("enabled", ["Y", "N"])
def test_zswap_is_told(store: Path, enabled: str) -> None:
    """Another file stands for the kernel's, whose setting is the whole machine's."""
    setting = store.parent / "enabled"
    setting.write_text(f"{enabled}\n")
    done = subprocess.run(
        [sys.executable, "-c", WITH_ZSWAP, setting, store, "--size", "16M"],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    difffs("swapoff", store)
    assert (f"echo N > {setting}" in done.stderr) == (enabled == "Y")
