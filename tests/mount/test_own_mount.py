"""What a daemon has a child do with its own mount."""

import logging
import os
import select
import subprocess
import sys
from pathlib import Path

from difffs.mount import own_mount


def test_looking(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff line\n")
    assert [remark.level for remark in own_mount.look_at(str(odd))] == [logging.ERROR]
    odd.mkdir()
    assert list(own_mount.look_at(str(odd))) == []


def test_what_cannot_be_taken_away_is_told(tmp_path: Path) -> None:
    (remark,) = own_mount.take_away(str(tmp_path))
    assert remark.level == logging.ERROR
    assert str(tmp_path) in remark.text


def test_what_is_mounted_nowhere_is_left_at_once() -> None:
    device = os.makedev(4000, 1)
    assert list(own_mount.leave(device, "/store", carries_swap=False)) == []


def test_complaints_of_the_child_are_remarks(tmp_path: Path) -> None:
    remarks = list(own_mount._ask("no such task"))
    assert any("KeyError" in remark.text for remark in remarks)
    assert {remark.level for remark in remarks} == {logging.ERROR}


_PARENT = """
import os, sys
from difffs.mount import own_mount
os.set_inheritable(os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 100), True)
own_mount._CHILD = (
    "import os, signal, sys, time; sys.path.append(sys.argv[1]); from difffs import linux; "
    "linux.end_with_parent(signal.SIGKILL); "
    "print(os.getpid(), *os.listdir('/proc/self/fd'), flush=True); time.sleep(1000)"
)
for remark in own_mount._ask("anything"):
    print(remark.text, flush=True)
"""


def test_the_child_has_no_file_of_its_parents_and_ends_with_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _PARENT, str(tmp_path / "file")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child, *files = map(int, process.stdout.readline().split())
        assert files == [0, 1, 2, 3], "3 is that of the listing"
        pidfd = os.pidfd_open(child)
        process.kill()
    ready, _, _ = select.select([pidfd], [], [], 20)
    os.close(pidfd)
    assert ready, "it goes on"
