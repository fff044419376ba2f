"""What a daemon may do once it has mounted, who gets into store and mount, and what it tells."""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs import linux
from difffs.linux import Capability
from difffs.mount.live import mount_at
from difffs.mount.privileges import AT_HAND, KEPT
from tests.integration import harness
from tests.integration.harness import DIFFFS, Mounted, difffs, wait_until

pytestmark = pytest.mark.integration

USER = 65534  # nobody: fusermount3 asks for a name
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")


def numbers(field: str) -> frozenset[int]:
    """The capabilities of a set as /proc/PID/status has it."""
    bits = int(field, 16)
    return frozenset(number for number in range(64) if bits >> number & 1)


def fields(status: Path) -> dict[str, str]:
    """What a process or thread is, by the kernel."""
    lines = (line.partition(":") for line in status.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def threads(process: int) -> list[dict[str, str]]:
    """All threads of a process; one may end meanwhile."""
    found = []
    for folder in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(fields(folder / "status"))
    return found


@as_root
def test_a_daemon_of_roots_keeps_what_swap_and_leaving_take(mount: Mounted) -> None:
    had = linux.capabilities().permitted
    # the thread that finished the start goes on for a moment
    process = mount.process()
    wait_until(lambda: all(numbers(one["CapEff"]) == had & KEPT for one in threads(process)))
    every = threads(process)
    assert len(every) > 5
    for one in every:
        assert one["NoNewPrivs"] == "1", one["Name"]
        assert numbers(one["CapPrm"]) == had & (KEPT | AT_HAND), one["Name"]
        assert numbers(one["CapEff"]) == had & KEPT, one["Name"]
        assert numbers(one["CapInh"]) == numbers(one["CapAmb"]) == frozenset(), one["Name"]
    settings = {entry["setting"]: entry for entry in mount.statistics()["kernel_settings"]}
    assert settings["no_new_privs"]["applied"]
    assert settings["capabilities"]["applied"]
    # and it is enough to go by itself
    os.kill(mount.process(), signal.SIGTERM)
    wait_until(lambda: mount_at(mount.path) is None)
    wait_until(lambda: "unmounted" in mount.log().splitlines()[-1])
    mount.check()


@as_root
def test_it_can_still_be_made_fit_to_swap(mount: Mounted) -> None:
    """What comes long after the mount: locked in memory, never killed for memory."""
    difffs("swapon", mount.store, "--size", "16M")
    try:
        had = linux.capabilities().permitted
        status = fields(Path(f"/proc/{mount.process()}/status"))
        if Capability.IPC_LOCK in had:
            assert int(status["VmLck"].split()[0]) > 0
        if Capability.SYS_RESOURCE in had:
            score = Path(f"/proc/{mount.process()}/oom_score_adj").read_text()
            assert score == "-1000\n"
    finally:
        difffs("swapoff", mount.store)


# ---- a user's own daemon -------------------------------------------------------------------------


def run_as_user(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run difffs as a user without privileges."""
    return subprocess.run(
        [*DIFFFS, *map(str, words)],
        user=USER,
        group=USER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=harness.SECONDS,
    )


@pytest.fixture
def users_folder() -> Iterator[Path]:
    """A folder of a user's, who can mount in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    reason = harness.obstacle()
    if reason is None and shutil.which("fusermount3") is None:
        reason = "no fusermount3"
    if reason is not None:
        pytest.skip(reason)
    attempts = {
        "import difffs.mount.binding": "another user cannot read this checkout",
        "open('/dev/fuse', 'r+b', buffering=0)": "/dev/fuse is not another user's to open",
    }
    for attempt, reason in attempts.items():
        if as_user(sys.executable, "-c", attempt):
            pytest.skip(reason)
    with harness.folder_in_memory() as folder:
        own = folder / "own"
        own.mkdir()
        (own / "mount").mkdir()
        for path in (own, own / "mount"):
            os.chown(path, USER, USER)
        try:
            yield own
        finally:
            while mount_at(own / "mount") is not None:
                subprocess.run(["umount", "--lazy", own / "mount"], check=True)


def daemon_of(store: Path) -> int:
    """The process that has a store open."""
    match = re.search(r"process (\d+)", (store / "lock").read_text())
    assert match
    return int(match.group(1))


@pytest.mark.parametrize("way", ["signal", "command"])
def test_a_users_daemon_has_no_way_up_and_still_unmounts(users_folder: Path, way: str) -> None:
    store, path = users_folder / "store", users_folder / "mount"
    done = run_as_user("mount", store, path)
    assert done.returncode == 0, done.stderr
    process = daemon_of(store)
    main = fields(Path(f"/proc/{process}/task/{process}/status"))
    assert main["NoNewPrivs"] == "1"
    assert numbers(main["CapPrm"]) == numbers(main["CapEff"]) == frozenset()
    script = f"head -c 300000 /dev/urandom | tee {path}/file | sha256sum; sha256sum < {path}/file"
    copied = subprocess.run(
        ["sh", "-c", script],
        user=USER,
        group=USER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    one, other = copied.stdout.splitlines()
    assert one == other
    if way == "signal":
        os.kill(process, signal.SIGTERM)
    else:
        assert run_as_user("umount", path).returncode == 0
    wait_until(lambda: mount_at(path) is None)
    wait_until(lambda: "unmounted" in (store / "log").read_text().splitlines()[-1])
    assert run_as_user("check", store).returncode == 0


def test_a_users_mount_is_for_that_user_only(users_folder: Path) -> None:
    store, path = users_folder / "store", users_folder / "mount"
    done = run_as_user("mount", store, path)
    assert done.returncode == 0, done.stderr
    with pytest.raises(PermissionError):
        os.listdir(path)  # not even root: FUSE asks who mounted
    assert run_as_user("umount", path).returncode == 0


# ---- who gets in ---------------------------------------------------------------------------------


def as_user(*command: str | Path) -> int:
    """Run a command as a user; return its exit status."""
    return subprocess.run(
        [*map(str, command)],
        user=USER,
        group=USER,
        extra_groups=[],
        capture_output=True,
        check=False,
        cwd="/",
    ).returncode


def test_the_store_is_its_owners(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"secret" * 1000)
    mount.commit()
    assert stat.S_IMODE(mount.store.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        assert as_user("ls", mount.store) != 0
        assert as_user("cat", mount.store / "payloads") != 0


@as_root
def test_volumes_are_kept_by_their_modes(mount: Mounted) -> None:
    private, readable = mount.path / "private", mount.path / "readable"
    for path, mode in ((private, 0o600), (readable, 0o644)):
        path.write_bytes(b"x" * 5000)
        path.chmod(mode)
    for _ in range(2):
        assert as_user("cat", readable) == 0
        assert as_user("cat", private) != 0
        assert as_user("sh", "-c", f"echo > {readable}") != 0
        assert as_user("touch", mount.path / "new") != 0
        mount.remount()
    mount.remount("-o", "no_allow_other")
    assert as_user("cat", readable) != 0
    assert as_user("ls", mount.path) != 0


# ---- what it tells -------------------------------------------------------------------------------


def test_no_contents_in_the_log(mount: Mounted) -> None:
    """Of a page that is damaged, and of one that is checked, its place is told and nothing else."""
    words = b"do not tell this to anybody"
    content = bytearray(os.urandom(16 * 4096))
    for at in range(0, len(content), 256):
        content[at : at + len(words)] = words
    (mount.path / "secret").write_bytes(content)
    mount.unmount()
    payloads = mount.store / "payloads"
    stored = payloads.read_bytes()
    at = stored.index(bytes(content[4096:4160]))
    with payloads.open("r+b") as file:
        file.seek(at + 2000)
        file.write(bytes([stored[at + 2000] ^ 0xFF]))
    checked = difffs("check", mount.store, status=1)
    mount.mount()
    with (mount.path / "secret").open("rb") as file, pytest.raises(OSError, match="Input/output"):
        file.read()
    told = mount.log() + checked.stdout + checked.stderr
    assert "reading /secret" in told
    for piece in (words[:9].decode(), words[-9:].decode(), words.hex()[:16]):
        assert piece not in told
    mount.expected_log.append("reading /secret")
    (mount.path / "secret").unlink()
