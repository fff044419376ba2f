"""Waiting for the end of a daemon, and who is told to hold a mount."""

import os
from pathlib import Path

import pytest

from difffs.errors import MountProblem
from difffs.mount import unmount
from difffs.mount.holders import holders_of
from difffs.mount.unmount import wait_until_released
from difffs.store.lock import StoreLock


def test_what_cannot_be_explained_is_not_waited_for(tmp_path: Path) -> None:
    """The lock is held by this process, which never takes itself for the daemon."""
    with StoreLock(tmp_path, shared=False) as lock:
        lock.write_note("process 4000000\nmounted on /mnt")
        for committed, words in ((True, "everything is"), (False, "what could be written is")):
            with pytest.raises(MountProblem, match=words + " committed") as caught:
                wait_until_released(
                    tmp_path, committed=committed, look_seconds=0.01, gone_seconds=0.1
                )
            assert "process 4000000, mounted on /mnt" in str(caught.value)
    wait_until_released(tmp_path)


def test_who_holds_a_file_system() -> None:
    device = os.stat("/proc").st_dev
    own = [text for text in holders_of(device) if f"by process {os.getpid()} " in text]
    assert any(text.startswith("mounted on /proc ") for text in own)
    assert holders_of(os.makedev(4000, 1)) == []


def test_a_held_file_system_is_told_when_it_is_seen_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc, mounted by this process and others, stands for what was unmounted here."""
    device = os.stat("/proc").st_dev
    monkeypatch.setattr(unmount, "_is_there", lambda wanted: wanted == device)
    for read_only in (False, True):
        with (
            StoreLock(tmp_path, shared=read_only),
            pytest.raises(MountProblem, match=r"still mounted on /proc by process \d+"),
        ):
            wait_until_released(tmp_path, device, read_only=read_only, look_seconds=0.01)


def test_what_is_held_out_of_sight_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmount, "_is_there", lambda _: True)
    with (
        StoreLock(tmp_path, shared=False),
        pytest.raises(MountProblem, match="cannot be seen from here"),
    ):
        wait_until_released(tmp_path, os.makedev(4000, 1), look_seconds=0.01, unseen_seconds=0.1)
