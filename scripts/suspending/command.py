"""What ``scripts/suspend-resume`` and ``scripts/clone-guest`` have in common as commands."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

from trial import guest
from trial.command import CommandFailed

from difffs.errors import DifffsError
from difffs.study import live

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(program: str, action: Callable[[], None]) -> int:
    """Do something; return the exit status. Errors are a line on stderr.

    0: done; 1: the guest failed; 2: usage, or something is missing; 130: interrupted.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        action()
    except (guest.GuestError, CommandFailed) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except (DifffsError, OSError, subprocess.SubprocessError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; what was started has been ended", file=sys.stderr)
        return 130
    return 0


def obstacle() -> str | None:
    """Say why no trial can be made here, or None."""
    return live.obstacle() or guest.obstacle()
