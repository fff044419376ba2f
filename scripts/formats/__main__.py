"""``python -m formats``: what ``scripts/make-formats`` runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trial import guest

from formats.corpus import CorpusError, make_initramfs
from formats.debian_root import RootError, debian_root
from formats.machine import INITRAMFS, KERNEL
from formats.make import Making, write_with_libvirt, write_with_qemu
from formats.manifest import Manifest, ManifestError
from formats.options import Options, parse
from formats.place import Place

_BEGAN = time.monotonic()
_SHARED_MEMORY = Path("/dev/shm")
# The RAM of two guests, a stream, and the file that is being written.
_ROOM = 6


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def _work_folder(options: Options) -> Iterator[Path]:
    """An empty folder for RAM and sockets: in memory where there is room."""
    base = options.folder
    wanted = _ROOM * options.mebibytes << 20
    if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free > 2 * wanted:
        base = _SHARED_MEMORY
    with tempfile.TemporaryDirectory(prefix="difffs-formats-", dir=base) as name:
        yield Path(name)


def _make(options: Options) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    about = {"memory_mib": options.mebibytes, "seed": options.seed, "vga": options.vga}
    manifest = Manifest(options.folder, about)
    cache = guest.cache_folder()
    root = None
    if options.programs != ("host",):
        root = debian_root(cache / "debian-13", options.mirror, _say)
    failed = []
    with _work_folder(options) as work:
        _say(f"packing files of this system for a guest of {options.mebibytes} MiB")
        shutil.copyfile(cache / "guest" / KERNEL, work / KERNEL)
        small = cache / "guest" / INITRAMFS
        make_initramfs(small, options.mebibytes, options.seed, work / INITRAMFS)
        making = Making(
            folder=options.folder,
            work=work,
            manifest=manifest,
            mebibytes=options.mebibytes,
            seed=options.seed,
            seconds=options.seconds,
            vga=options.vga,
            say=_say,
        )
        for program in options.programs:
            try:
                if program == "libvirt":
                    write_with_libvirt(making, Place(root))
                else:
                    write_with_qemu(making, Place(None if program == "host" else root))
            except (guest.GuestError, subprocess.CalledProcessError, OSError) as error:
                failed.append(program)
                _say(f"{program} failed: {error}")
    files = manifest.records
    _say(f"{len(files)} files, {sum(one.bytes for one in files) / 2**20:,.0f} MiB")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    """Run as a command. 0: all is there; 1: a program failed; 2: wrong usage; 130: interrupted."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if reason := guest.obstacle():
        _say(reason)
        return 2
    try:
        return _make(options)
    except (ManifestError, CorpusError, RootError, OSError) as error:
        _say(str(error))
    except KeyboardInterrupt:
        _say("interrupted; files that are in the manifest are complete")
        return 130
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
