"""``python -m recording``: what ``scripts/record-guest`` runs."""

from __future__ import annotations

import shutil
import signal
import sys
import time

from collection.disks import DiskError
from trial import guest
from trial.folder import folder_with_room

from difffs.errors import DifffsError
from difffs.study import live, recording
from recording.options import Options, parse
from recording.record import record

_BEGAN = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def _record(options: Options) -> None:
    with folder_with_room("record", options.mebibytes << 20) as folder:
        recorded = record(options, folder, _say)
    samples = recorded.samples
    last = samples[-1]
    _say(
        f"{options.file}: {len(samples)} samples, saving {last.saving:.1%},"
        f" {recording.mean_rate(samples):,.0f} pages/s, most {recording.peak_rate(samples):,.0f}"
    )


def main(arguments: list[str]) -> int:
    """Run as a command. 0: recorded; 1: the guest failed; 2: usage, something is missing."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reason = live.obstacle()
    if reason is None and shutil.which("qemu-system-x86_64") is None:
        reason = "no QEMU: install the package qemu-system-x86"
    if reason is not None:
        _say(reason)
        return 2
    try:
        _record(options)
    except guest.GuestError as error:
        _say(str(error))
        return 1
    except (DifffsError, DiskError, OSError) as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted; what was recorded stays")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
