"""Mounting, being refused, unmounting in every way, and what is left after a crash."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from difffs.codec import Codec
from difffs.mount.live import mount_at
from difffs.recipe import RECIPES
from difffs.signals import SAME_SECONDS
from tests.integration.harness import (
    DIFFFS,
    SECONDS,
    Mounted,
    complaint,
    difffs,
    unmount_command,
    wait_until,
)
from tests.pages import guest_memory

pytestmark = pytest.mark.integration

PAGE = 4096
IN_USE = r"is in use|detached it"


def content(length: int = 1 << 20) -> bytes:
    """Something that neither compresses nor repeats."""
    return os.urandom(length)


def released(store: Path) -> bool:
    """Whether nobody has the store open any more."""
    with (store / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_the_daemon_has_left_the_terminal(mount: Mounted) -> None:
    process = mount.process()
    assert os.getsid(process) == os.getpgid(process) == process


def test_a_second_mount_is_refused(mount: Mounted) -> None:
    assert f"{mount.path} is a mount of {mount.store} already" in complaint(
        "mount", mount.store, mount.path, status=12
    )
    other = mount.folder / "other"
    other.mkdir()
    text = complaint("mount", mount.store, other, status=5)
    assert str(mount.path) in text
    assert str(mount.process()) in text
    assert mount_at(other) is None


def test_impossible_mount_points(mount: Mounted) -> None:
    store = mount.folder / "another store"
    assert "does not exist: mkdir" in complaint("mount", store, "/nowhere/at/all", status=12)
    file = mount.folder / "file"
    file.touch()
    assert "not a directory" in complaint("mount", store, file, status=12)
    mount.unmount()
    assert "lies in the store" in complaint("mount", mount.store, mount.store, status=12)


def test_impossible_options(mount: Mounted) -> None:
    mount.unmount()
    where = (mount.store, mount.path)
    assert "'colour=red'" in complaint("mount", *where, "-o", "rw,colour=red", status=2)
    assert "buffer=x" in complaint("mount", *where, "-o", "buffer=x", status=2)
    assert "identical-only" in complaint("mount", *where, "--recipe", "nonsense", status=2)
    assert "'default'" in complaint("mount", *where, "-o", "recipe=fast", status=9)
    assert "--change-recipe needs" in complaint("mount", *where, "--change-recipe", status=2)
    mount.mount("--recipe", "fast", "--change-recipe")
    assert mount.statistics()["recipe"] == "fast"
    mount.unmount()
    contradiction = ("-o", "recipe=fast", "--recipe", "default")
    assert "contradicts" in complaint("mount", *where, *contradiction, status=2)


def test_impossible_stores(mount: Mounted) -> None:
    other = mount.folder / "other"
    other.mkdir()
    full = mount.folder / "full"
    full.mkdir()
    (full / "letter").write_text("hello")
    assert str(full) in complaint("mount", full, other, status=3)
    newer = mount.folder / "newer"
    newer.mkdir()
    (newer / "format").write_text("difffs store\nversion 999\n")
    assert "newer difffs" in complaint("mount", newer, other, status=4)
    assert mount_at(other) is None


def test_paths_relative_and_with_odd_characters(mount: Mounted) -> None:
    base = mount.folder / "odd, name\twith\\everything"
    base.mkdir()
    (base / "mount").mkdir()
    commands = (["mount", "store", "mount"], ["stats", "mount"], ["umount", "mount"])
    for words in commands:
        subprocess.run([*DIFFFS, *words], cwd=base, check=True, timeout=SECONDS)
        assert (mount_at(base / "mount") is not None) == (words[0] != "umount")


def test_options_take_effect(mount: Mounted) -> None:
    mount.unmount()
    shutil.rmtree(mount.store)
    mount.mount("-o", "recipe=fast,read_ahead=1M,nosuid,noatime,x-systemd.automount,buffer=8M")
    statistics = mount.statistics()
    assert statistics["recipe"] == "fast"
    settings = {entry["setting"]: entry for entry in statistics["kernel_settings"]}
    assert settings["max_write"]["value"] == str(1 << 20)
    assert settings["writeback_cache"]["applied"]
    if os.geteuid() == 0:
        device = mount.path.stat().st_dev
        bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}")
        assert (bdi / "read_ahead_kb").read_text() == "1024\n"
        assert (bdi / "max_ratio").read_text() == "100\n"
        assert (bdi / "strict_limit").read_text() == "0\n"
        assert settings["bdi max_ratio"]["applied"]
    for entry in settings.values():
        assert entry["applied"] == (entry["reason"] == "")
    table = Path("/proc/self/mountinfo").read_text()
    line = next(line for line in table.splitlines() if f" {mount.path} " in line)
    assert "nosuid" in line
    assert " fuse.difffs " in line


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_keeps_files(mount: Mounted, recipe: str) -> None:
    mount.unmount()
    shutil.rmtree(mount.store)
    mount.mount("--recipe", recipe)
    memory = bytearray(guest_memory(1, 400))
    (mount.path / "guest.mem").write_bytes(memory)
    mount.commit()
    # pages as before, but for a bit and in other places: similar also when transformed
    half = 200 * PAGE
    memory[half:] = memory[:half]
    for offset in range(half + 2000, 2 * half, PAGE):
        memory[offset] ^= 1
    with (mount.path / "guest.mem").open("r+b") as file:
        file.seek(half)
        file.write(memory[half:])
    statistics = mount.statistics()
    assert statistics["recipe"] == recipe
    counts = statistics["pages"]
    assert counts["total"] == 400
    assert bool(counts["patch"]) == (RECIPES[recipe].patch_codec is not Codec.NONE)
    assert bool(counts["compress"]) == (RECIPES[recipe].compress_codec is not Codec.NONE)
    mount.remount()
    assert (mount.path / "guest.mem").read_bytes() == memory
    assert mount.statistics()["recipe"] == recipe


def test_readonly(mount: Mounted) -> None:
    data = content()
    (mount.path / "file").write_bytes(data)
    mount.unmount()

    def fingerprints() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(mount.store.rglob("*"))
            if path.is_file()
        }

    before = fingerprints()
    mount.mount("-o", "ro")
    assert (mount.path / "file").read_bytes() == data
    for flags in (os.O_WRONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match="Read-only") as caught:
            os.open(mount.path / "file", flags)
        assert caught.value.errno == errno.EROFS
    assert "compress" in difffs("stats", mount.path).stdout
    difffs("umount", mount.path)
    assert fingerprints() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(mount: Mounted, number: signal.Signals) -> None:
    data = content()
    (mount.path / "file").write_bytes(data)
    os.kill(mount.process(), number)
    wait_until(lambda: mount_at(mount.path) is None)
    wait_until(lambda: released(mount.store))
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == data


def test_a_signal_lets_open_files_finish(mount: Mounted) -> None:
    mount.expected_log.append(IN_USE)
    process = mount.process()
    with (mount.path / "file").open("wb") as stream:
        stream.write(b"before")
        stream.flush()
        os.kill(process, signal.SIGTERM)
        wait_until(lambda: mount_at(mount.path) is None)
        assert not released(mount.store)
        stream.write(b" and after")
    wait_until(lambda: released(mount.store))
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"before and after"


def test_a_second_signal_does_not_wait(mount: Mounted) -> None:
    mount.expected_log += [IN_USE, "ending although files are open"]
    process = mount.process()
    file = os.open(mount.path / "file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"before")
    os.kill(process, signal.SIGTERM)
    wait_until(lambda: mount_at(mount.path) is None)
    time.sleep(SAME_SECONDS)
    os.kill(process, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{process}").exists())
    with pytest.raises(OSError, match="not connected"):
        os.close(file)
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"before"


def test_what_was_synced_survives_a_crash(mount: Mounted) -> None:
    synced = {f"file{number}": content(300_000) for number in range(5)}
    for name, data in synced.items():
        with (mount.path / name).open("wb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())
    (mount.path / "unsynced").write_bytes(content())
    mount.kill()
    mount.check()
    mount.mount()
    for name, data in synced.items():
        assert (mount.path / name).read_bytes() == data


@pytest.mark.slow
def test_crashes_at_any_moment(mount: Mounted) -> None:
    """A writer notes what it has synced; that and nothing else may be relied upon."""
    confirmed: dict[int, bytes] = {}
    for turn in range(8):
        end = time.monotonic() + 0.15 * (turn + 1)
        path = mount.path / "memory"
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        attempted: dict[int, bytes] = {}
        while time.monotonic() < end:
            for _ in range(20):
                page = int.from_bytes(os.urandom(1)) % 200
                data = os.urandom(64) * 64
                os.pwrite(file, data, page * PAGE)
                attempted[page] = data
            os.fsync(file)
            confirmed.update(attempted)
            attempted.clear()
        page = 7
        attempted[page] = os.urandom(64) * 64
        os.pwrite(file, attempted[page], page * PAGE)
        mount.kill()
        with pytest.raises(OSError, match="not connected"):
            os.close(file)
        mount.check()
        mount.mount()
        found = (mount.path / "memory").read_bytes()
        for number, data in confirmed.items():
            allowed = {data, attempted.get(number, data)}
            assert found[number * PAGE : (number + 1) * PAGE] in allowed
        for number in confirmed:
            confirmed[number] = found[number * PAGE : (number + 1) * PAGE]


def test_a_dead_mount_is_cleared_away(mount: Mounted) -> None:
    process = mount.process()
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{process}").exists())
    assert "already: difffs umount" in complaint("mount", mount.store, mount.path, status=12)
    difffs("umount", mount.path)
    assert mount_at(mount.path) is None


def test_umount_of_a_mount_in_use(mount: Mounted) -> None:
    with (mount.path / "file").open("wb") as stream:
        stream.write(b"hello")
        text = complaint("umount", mount.path, status=12)
        assert "in use" in text
        assert "fuser" in text
        stream.write(b" world")
    assert (mount.path / "file").read_bytes() == b"hello world"
    mount.unmount()
    assert "not a difffs mount" in complaint("umount", mount.path, status=12)
    assert "not a difffs mount" in complaint("umount", "/proc", status=12)


def test_the_systems_umount_loses_nothing(mount: Mounted) -> None:
    data = content(8 << 20)
    (mount.path / "file").write_bytes(data)
    subprocess.run(unmount_command(mount.path, lazy=False), check=True)
    wait_until(lambda: released(mount.store))
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == data


def test_in_the_foreground_with_relative_paths(mount: Mounted) -> None:
    """libfuse changes the current directory, in the foreground too."""
    mount.unmount()
    store, path = (os.path.relpath(one, mount.folder) for one in (mount.store, mount.path))
    daemon = subprocess.Popen(
        [*DIFFFS, "mount", "--foreground", store, path],
        cwd=mount.folder,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: mount_at(mount.path) is not None)
    for number in range(200):
        (mount.path / f"file{number}").write_bytes(content(4096))
    mount.commit()
    difffs("umount", mount.path)
    assert daemon.wait(SECONDS) == 0
    mount.mount()
    assert len(list(mount.path.iterdir())) == 200


def test_in_the_foreground(mount: Mounted) -> None:
    mount.unmount()
    process = subprocess.Popen(
        [*DIFFFS, "mount", "--foreground", mount.store, mount.path],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: mount_at(mount.path) is not None)
    (mount.path / "file").write_bytes(b"hello")
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    lines = complaints.splitlines()
    assert f"difffs: mounted {mount.store} on {mount.path}" in lines
    assert lines[-1] == f"difffs: unmounted {mount.store} from {mount.path}"
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"hello"


def test_as_mount_calls_its_helpers(mount: Mounted) -> None:
    mount.unmount()
    flags = "rw,relatime,dev,suid,buffer=16M"
    difffs(mount.store, mount.path, "-o", flags)
    assert mount_at(mount.path) is not None
    mount.unmount()
    assert "'shiny'" in complaint(mount.store, mount.path, "-o", "rw,shiny", status=2)
    difffs(mount.store, mount.path, "-f", "-o", "rw")
    assert mount_at(mount.path) is None


@pytest.mark.skipif(
    shutil.which("mount.fuse.difffs", path="/sbin:/usr/sbin") is None,
    reason="no /sbin/mount.fuse.difffs",
)
@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) needs root")
def test_mount_8(mount: Mounted) -> None:
    mount.unmount()
    command = ["mount", "-t", "fuse.difffs", str(mount.store), str(mount.path)]
    subprocess.run(command, check=True, timeout=SECONDS)
    mount.unmount()


def test_statistics_of_a_mount(mount: Mounted) -> None:
    page = content(PAGE)
    word = b"same 8 b" * (PAGE // 8)
    (mount.path / "file").write_bytes(page * 5 + bytes(3 * PAGE) + word * 2)
    statistics = mount.statistics()
    assert statistics["schema_version"] >= 1
    pages = statistics["pages"]
    routes = ("zero", "same", "identical", "patch", "compress", "raw")
    assert [pages[route] for route in routes] == [3, 2, 4, 0, 0, 1]
    assert pages["total"] == 10
    sizes = statistics["bytes"]
    assert sizes["logical"] == 10 * PAGE
    assert statistics["factor"] == pytest.approx(sizes["logical"] / sizes["stored"])
    assert statistics["mountpoint"] == str(mount.path)
    for where in (mount.path, mount.store, mount.path / "file"):
        again = json.loads(difffs("stats", where, "--json").stdout)
        assert again["pages"] == pages
    table = difffs("stats", mount.path).stdout
    assert "identical" in table
    assert f"mounted on {mount.path}" in table
    mount.unmount()
    assert json.loads(difffs("stats", mount.store, "--json").stdout)["pages"] == pages


def test_watching(mount: Mounted) -> None:
    process = subprocess.Popen(
        [*DIFFFS, "stats", mount.path, "--json", "--watch", "0.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    (mount.path / "file").write_bytes(content())
    mount.commit()
    wait_until(
        lambda: json.loads(process.stdout.readline())["pages"]["total"] > first["pages"]["total"]
    )
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 0xFF]))


def test_a_damaged_payload_is_an_error_and_named(mount: Mounted) -> None:
    (mount.path / "good").write_bytes(bytes(PAGE))
    bad = content(PAGE)
    (mount.path / "bad").write_bytes(bad)
    difffs("umount", mount.path)
    payloads = (mount.store / "payloads").read_bytes()
    flip(mount.store / "payloads", payloads.index(bad[:64]) + 1000)
    result = difffs("check", mount.store, status=1)
    assert "payload" in result.stdout
    mount.mount()
    with pytest.raises(OSError, match="Input/output") as caught:
        (mount.path / "bad").read_bytes()
    assert caught.value.errno == errno.EIO
    assert (mount.path / "good").read_bytes() == bytes(PAGE)
    line = next(line for line in mount.log().splitlines() if "ERROR" in line)
    assert "/bad" in line
    assert "page 0" in line
    assert "extent" in line
    mount.expected_log.append("reading /bad")
    (mount.path / "bad").unlink()
    mount.unmount()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
def test_a_full_disk_is_an_error_and_nothing_is_lost(mount: Mounted) -> None:
    mount.unmount()
    small = mount.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", small], check=True)
    try:
        _fill(mount, small / "store")
    finally:
        subprocess.run(unmount_command(mount.path, lazy=True), check=False, capture_output=True)
        subprocess.run(["umount", "--lazy", small], check=True)


def _write_for_ever(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        while True:
            stream.write(content())
            os.fsync(stream.fileno())


def _fill(mount: Mounted, store: Path) -> None:
    difffs("mount", store, mount.path, "-o", "buffer=4M")
    kept = content(4 << 20)
    (mount.path / "kept").write_bytes(kept)
    mount.commit()
    with pytest.raises(OSError, match="No space") as caught:
        _write_for_ever(mount.path / "big")
    assert caught.value.errno == errno.ENOSPC
    assert (mount.path / "kept").read_bytes() == kept
    assert "No space" in complaint("umount", mount.path, status=12)
    (mount.path / "big").unlink()
    mount.commit()
    again = content(2 << 20)
    (mount.path / "again").write_bytes(again)
    mount.commit()
    difffs("umount", mount.path)
    difffs("check", store)
    difffs("mount", store, mount.path)
    assert (mount.path / "kept").read_bytes() == kept
    assert (mount.path / "again").read_bytes() == again
    difffs("umount", mount.path)
    difffs("check", store)
    log = (store / "log").read_text()
    assert "Traceback" not in log


def test_a_new_store_needs_a_writable_place(mount: Mounted) -> None:
    place = Path("/proc/difffs-store")  # where not even root can make one
    other = mount.folder / "other"
    other.mkdir()
    assert str(place) in complaint("mount", place, other, status=7)
