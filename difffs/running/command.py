"""Starting a command in a group, passing signals on to it, and waiting until the group is empty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from difffs.cgroup.group import Group
from difffs.errors import CommandNotExecutable, CommandNotFound, EnvironmentProblem

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR2,
    signal.SIGCONT,
)

_TAKEN = frozenset({*_PASSED_ON, signal.SIGUSR1, signal.SIGCHLD})

_KERNEL = 0x80
"""``si_code`` of a signal that no process has sent: the terminal's, which the command gets too."""

_POLL_SECONDS = 0.5


def run_in_group(
    command: Sequence[str], group: Group, ask: Callable[[], None], started: Callable[[], None]
) -> int:
    """Run a command in a group until it, and whatever it has left there, has ended.

    Signals that come to this process are passed on, but SIGUSR1, at which `ask` is called. Returns
    the exit status as a shell has it: 128 and the signal's number where a signal ended it. Only in
    the main thread. ``CommandNotFound``, ``CommandNotExecutable``, ``EnvironmentProblem``.
    """
    # Blocked, and taken one by one below. Before any thread is made, so that none gets them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    try:
        process = _start(command, group, before)
        try:
            started()
            return _wait(process, command[0], group, ask)
        except BaseException:
            process.kill()
            process.wait()
            raise
    finally:
        # What came for the command that has ended is not for whoever comes next.
        while signal.sigtimedwait(_TAKEN, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(command: Sequence[str], group: Group, mask: Collection[int]) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        group.enter()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        return subprocess.Popen(list(command), preexec_fn=prepare)
    except subprocess.SubprocessError:
        raise EnvironmentProblem(
            f"{group.folder} does not take the command in: is it allowed to, see difffs doctor"
        ) from None
    except FileNotFoundError:
        raise CommandNotFound(f"{command[0]}: there is no such command") from None
    except OSError as error:
        raise CommandNotExecutable(f"{command[0]}: {error.strerror}") from None


def _wait(
    process: subprocess.Popen[bytes], command: str, group: Group, ask: Callable[[], None]
) -> int:
    told = False
    while True:
        status = process.poll()
        left = group.processes() if status is not None else []
        if status is not None and not left:
            return status if status >= 0 else 128 - status
        if left and not told:
            told = True
            print(
                f"difffs: {command} has ended; {len(left)} of its processes go on, which"
                " are waited for",
                file=sys.stderr,
                flush=True,
            )
        found = signal.sigtimedwait(_TAKEN, _POLL_SECONDS)
        if found is None or found.si_signo == signal.SIGCHLD:
            continue
        if found.si_signo == signal.SIGUSR1:
            ask()
        elif left or found.si_code != _KERNEL:
            # What is left may be daemons, which a terminal's signals do not reach.
            for number in left or [process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(number, found.si_signo)
