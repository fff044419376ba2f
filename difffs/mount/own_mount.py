"""What a daemon wants of its own mount, asked by a process of its own.

A call that waits for the mount waits for the daemon, and cannot be interrupted once its request is
on the way. Were it made by a thread of the daemon, that thread would outlive SIGKILL and keep
``/dev/fuse`` open, so that the kernel would never take the mount for dead: the process could not
be ended, and nor could those that wait for the mount. A child has no file of the daemon's open, is
let go by the kernel as soon as the daemon ends, and ends with it.

The child imports little, and nothing that must be installed: it is there in some 50 ms.
"""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from difffs import linux
from difffs.errors import DifffsError, EnvironmentProblem
from difffs.mount.detach import detach
from difffs.mount.holders import holders_of
from difffs.mount.table import mounts
from difffs.mount.write_back import write_back

_CHILD = (
    "import sys; sys.path = [*filter(None, sys.path), sys.argv.pop(1)]; "
    "from difffs.mount.own_mount import main; main(*sys.argv[1:])"
)


class Remark(NamedTuple):
    """Something to be logged, or a reason why it did not work."""

    level: int
    """One of ``logging``'s."""
    text: str


def look_at(mountpoint: str) -> Iterator[Remark]:
    """Wait until the mount answers."""
    return _ask("look", mountpoint)


def take_away(mountpoint: str) -> Iterator[Remark]:
    """Free the mount point at once, whoever uses the mount."""
    return _ask("take_away", mountpoint)


def leave(device: int, store: str, *, carries_swap: bool) -> Iterator[Remark]:
    """Write back and unmount the file system with this ``st_dev``, wherever it is mounted.

    What is in use becomes free at once as well, and the remarks tell who holds it; a mount that
    carries swap stays.
    """
    return _ask("leave", str(device), store, "swap" if carries_swap else "")


def _ask(*words: str) -> Iterator[Remark]:
    """Have a child do it. To be read to the end in one thread, with which the child ends."""
    folder = str(Path(__file__).parents[2])
    try:
        process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-c", _CHILD, folder, str(os.getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            close_fds=True,
        )
    except OSError as error:
        yield Remark(logging.ERROR, f"{sys.executable} cannot be started: {error.strerror}")
        return
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                level, text = json.loads(line)
                yield Remark(int(level), str(text))
            except (ValueError, TypeError):  # Python's own complaints
                yield Remark(logging.ERROR, line.decode("utf-8", "replace").rstrip())


# ---- in the child ----------------------------------------------------------------------------


def main(parent: str, task: str, *words: str) -> None:
    """Do one thing, and print the remarks."""
    linux.end_with_parent(signal.SIGKILL)
    if os.getppid() != int(parent):
        return  # it has ended already
    tasks: dict[str, Callable[..., Iterator[Remark]]] = {
        "look": _look,
        "take_away": _take_away,
        "leave": _leave,
    }
    for remark in tasks[task](*words):
        print(json.dumps(remark), flush=True)


def _look(mountpoint: str) -> Iterator[Remark]:
    try:
        os.stat(mountpoint)
    except OSError as error:
        yield Remark(logging.ERROR, str(error.strerror))


def _take_away(mountpoint: str) -> Iterator[Remark]:
    try:
        detach(mountpoint, lazy=True)
    except DifffsError as error:
        yield Remark(logging.ERROR, str(error))


def _leave(device_number: str, store: str, swap: str) -> Iterator[Remark]:
    device = int(device_number)
    places = [mount.mountpoint for mount in mounts() if mount.device == device]
    if places:
        try:
            for warning in write_back(places[-1]):
                yield Remark(logging.WARNING, warning)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                return  # the daemon has ended
            yield Remark(
                logging.WARNING,
                f"{places[-1]}: not all that was written could be sent: {error.strerror}",
            )
    for mountpoint in reversed(places):
        yield from _leave_place(mountpoint, store, carries_swap=bool(swap))
    if not swap:
        for holder in holders_of(device):
            yield Remark(
                logging.WARNING,
                f"{store} is still {holder}: serving goes on until that ends (a second signal "
                "ends it)",
            )


def _leave_place(mountpoint: str, store: str, *, carries_swap: bool) -> Iterator[Remark]:
    try:
        detach(mountpoint)
        return
    except EnvironmentProblem as error:
        yield Remark(logging.ERROR, str(error))
        return
    except DifffsError as error:
        problem = error
    if carries_swap:
        # Without a place in the tree nobody could swap off any more, and ending would take
        # swapped memory away from its processes.
        yield Remark(logging.WARNING, f"{problem}; if it carries swap: difffs swapoff {store}")
        return
    try:
        detach(mountpoint, lazy=True)
    except DifffsError as error:
        yield Remark(logging.ERROR, str(error))
        return
    yield Remark(
        logging.WARNING,
        f"{problem}; detached it, and serving goes on until the last file is closed (a second "
        "signal ends it)",
    )
