"""``python -m collection``: what ``scripts/collect-images`` runs."""

from __future__ import annotations

import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trial import guest

from collection import disks
from collection.collect import BUILD_FOLDER, Collection
from collection.manifest import Manifest, ManifestError
from collection.options import Options, parse

_BEGAN = time.monotonic()


def _say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"{minutes:3}:{seconds:02} {text}", file=sys.stderr, flush=True)


def _list(options: Options, manifest: Manifest) -> None:
    for member in options.members:
        for file in member.files:
            record = manifest.record(file)
            state = f"{record.zero_page_share:.1%} zero pages" if record else "not collected"
            words = f"{member.work} load {member.load}, {member.mebibytes} MiB"
            print(f"{file:36} Debian {member.system.release}, {words:28} {state}")


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Keep a second run away from the folder; BlockingIOError when one is there already."""
    build_folder = folder / BUILD_FOLDER
    build_folder.mkdir(parents=True, exist_ok=True)
    with (build_folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _collect(options: Options, manifest: Manifest) -> int:
    missing = [member for member in options.members if not manifest.has(member, options.verify)]
    present = len(options.members) - len(missing)
    if present:
        _say(f"{present} of {len(options.members)} guests were collected before")
    if missing:
        if shutil.which("qemu-system-x86_64") is None:
            _say("no QEMU: install the package qemu-system-x86")
            return 2
        accelerator = options.accelerator
        if accelerator == "auto":
            accelerator = guest.accelerator()
        _say(f"{len(missing)} guests to collect, {options.jobs} at once, with {accelerator}")
        collection = Collection(options.folder, manifest, accelerator, options.mirror, _say)
        failures = collection.run(missing, options.jobs)
        if failures:
            _say(f"not collected: {', '.join(failures)}; run it again to go on")
            return 1
    if options.json:
        sys.stdout.write(manifest.text())
    return 0


def main(arguments: list[str]) -> int:
    """Run as a command. 0: all is there; 1: a guest failed; 2: wrong usage; 130: interrupted."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        manifest = Manifest(options.folder)
        if options.only_list:
            _list(options, manifest)
            return 0
        with _own(options.folder):
            return _collect(options, manifest)
    except BlockingIOError:
        _say(f"another run collects into {options.folder}")
    except (ManifestError, disks.DiskError, guest.GuestError, OSError) as error:
        _say(str(error))
    except KeyboardInterrupt:
        _say("interrupted; run it again to go on")
        return 130
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
