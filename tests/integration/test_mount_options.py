"""mount(8)'s options: what they do to a mount, and to one that there is already."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import difffs as difffs_package
from difffs.mount.flags import flags_of
from difffs.mount.live import mount_at
from tests.integration.harness import SECONDS, Mounted, complaint, difffs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="flags of mounts need root"),
]

HELPER = Path("/sbin/mount.fuse.difffs")


def flags(mount: Mounted) -> tuple[str, ...]:
    """The flags of the mount as the kernel has them."""
    found = mount_at(mount.path)
    assert found is not None
    return flags_of(found)


def test_flags_take_effect(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"memory")
    (mount.path / "link").symlink_to("file")
    assert flags(mount) == ("nodev", "nosuid"), "libfuse's default"
    mount.remount("-o", "nosymfollow,strictatime,nodiratime,owner,noexec,sync")
    assert flags(mount) == (
        "nodev", "nodiratime", "noexec", "nosuid", "nosymfollow", "strictatime", "sync",
    )  # fmt: skip
    with pytest.raises(OSError, match="symbolic links"):
        (mount.path / "link").read_bytes()
    (mount.path / "file").write_bytes(b"memories")
    mount.remount("-o", "ro,nosymfollow")
    found = mount_at(mount.path)
    assert found is not None
    assert "ro" in found.flags
    assert flags(mount) == ("nodev", "nosuid", "nosymfollow")


def test_changing_a_mount(mount: Mounted) -> None:
    process = mount.process()
    (mount.path / "file").write_bytes(b"memory")

    def change(options: str) -> tuple[str, ...]:
        difffs("mount", mount.store, mount.path, "-o", options)
        assert mount.process() == process, "it is the same daemon"
        return flags(mount)

    assert change("remount,dev,noexec") == ("noexec", "nosuid")
    assert change("remount,ro,noatime") == ("noatime", "noexec", "nosuid"), (
        "what is not named stays"
    )
    with pytest.raises(OSError, match="Read-only"):
        (mount.path / "file").write_bytes(b"memories")
    assert change("rw,suid,remount,exec,relatime") == ()
    assert change("remount,buffer=32M,recipe=default,allow_other") == (), "as it is"
    (mount.path / "file").write_bytes(b"memories")


def test_changes_that_cannot_be(mount: Mounted) -> None:
    def refusal(options: str, status: int) -> str:
        before = flags(mount)
        text = complaint("mount", mount.store, mount.path, "-o", options, status=status)
        assert flags(mount) == before
        return text

    for option in ("buffer=64M", "workers=7", "read_ahead=1M", "no_allow_other", "recipe=fast"):
        assert option.partition("=")[0].removeprefix("no_") in refusal(f"remount,ro,{option}", 2)
    with (mount.path / "file").open("wb"):
        assert "open for writing" in refusal("remount,ro", 12)
    other = mount.folder / "other"
    other.mkdir()
    assert "not a difffs mount" in complaint(
        "mount", mount.store, other, "-o", "remount,ro", status=12
    )
    assert f"a mount of {mount.store}, not of" in complaint(
        "mount", other, mount.path, "-o", "remount,ro", status=12
    )
    mount.remount("-o", "ro")
    assert "opened for reading" in refusal("remount,rw", 12)


@pytest.fixture
def helper() -> Iterator[None]:
    """mount(8)'s helper runs this checkout."""
    if HELPER.exists():
        pytest.skip(f"{HELPER} is there already")
    if shutil.which("mount") is None:
        pytest.skip("no mount(8)")
    checkout = Path(difffs_package.__file__).parents[1]
    HELPER.write_text(
        f"#!/bin/sh\nPYTHONPATH={checkout} exec {sys.executable} -c 'import sys; "
        'from difffs.cli.main import main; sys.exit(main(program="mount.fuse.difffs"))\' "$@"\n'
    )
    HELPER.chmod(0o755)
    try:
        yield
    finally:
        HELPER.unlink()


@pytest.mark.usefixtures("helper")
def test_mount_8_with_all_of_its_options(mount: Mounted) -> None:
    mount.unmount()

    def system_mount(*words: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            ["mount", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == status, done
        return done.stderr

    options = (
        "defaults,noauto,nofail,_netdev,x-systemd.automount,comment=guests,lazytime,iversion,"
        "silent,group,nosymfollow,noatime,buffer=8M"
    )
    system_mount("-t", "fuse.difffs", "-o", options, mount.store, mount.path)
    process = mount.process()
    assert flags(mount) == ("noatime", "nodev", "nosuid", "nosymfollow")
    system_mount("-o", "remount,ro", mount.path)
    found = mount_at(mount.path)
    assert found is not None
    assert "ro" in found.flags
    system_mount("-o", "remount,rw,nodiratime", mount.path)
    assert mount.process() == process
    (mount.path / "file").write_bytes(b"memory")
    assert "buffer" in system_mount("-o", "remount,buffer=64M", mount.path, status=2)
    mount.unmount()
