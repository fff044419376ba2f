"""The initramfs of the guest: the small guest's, and files of this system to fill memory with."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

INIT = Path(__file__).parent / "guest-init"
_FOLDERS = (Path("/usr/bin"), Path("/usr/lib"), Path("/usr/share"))
_SMALLEST, _LARGEST = 2 << 10, 2 << 20
_BLOCK = 4096
# The kernel takes so much for itself, and unpacks an initramfs into at most half of what is left.
_KERNEL_MEBIBYTES = 64


class CorpusError(Exception):
    """The initramfs could not be made; the text says why."""


def _regular_files(folders: Sequence[Path]) -> Iterator[tuple[Path, int]]:
    for folder in folders:
        for parent, below, names in os.walk(folder):
            below.sort()
            for name in sorted(names):
                path = Path(parent, name)
                try:
                    status = path.lstat()
                except OSError:  # removed since it was listed
                    continue
                if stat.S_ISREG(status.st_mode) and _SMALLEST <= status.st_size <= _LARGEST:
                    yield path, status.st_size


def choose(count: int, seed: int, folders: Sequence[Path] = _FOLDERS) -> list[Path]:
    """Choose files of ``folders`` that take about ``count`` bytes of pages.

    The same seed chooses the same. Programs, libraries, texts: regular files of 2 KiB to 2 MiB, in
    the order of choosing. Fewer bytes where there are no more.
    """
    found = list(_regular_files(folders))
    random.Random(seed).shuffle(found)
    chosen = []
    for path, size in found:
        room = -(-size // _BLOCK) * _BLOCK
        if room <= count:
            chosen.append(path)
            count -= room
    return chosen


def make_initramfs(small: Path, mebibytes: int, seed: int, target: Path) -> None:
    """Write the initramfs for a guest of so many MiB to ``target``.

    ``small`` is that of the small guest (gzip): the kernel unpacks archives that follow each other
    one over the other, so ours only replaces its init and adds files. Raises CorpusError when
    ``busybox`` cannot pack it, OSError when something cannot be read or written.
    """
    room = (mebibytes - _KERNEL_MEBIBYTES << 20) // 3
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        root = Path(folder)
        # "corpus" is there already in the small one, and stays a small part of it
        (root / "corpus/system").mkdir(parents=True)
        shutil.copyfile(INIT, root / "init")
        (root / "init").chmod(0o755)
        for number, path in enumerate(choose(room, seed)):
            shutil.copyfile(path, root / f"corpus/system/{number:05}-{path.name}")
        # the init first: a guest that has no room for all files still starts, and says so
        names = ["init", *sorted(str(path.relative_to(root)) for path in root.glob("corpus/**/*"))]
        done = subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc"],
            cwd=root,
            input="\n".join(names).encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise CorpusError(f"busybox cpio: {done.stderr.decode(errors='replace').strip()}")
    with target.open("wb") as file:
        file.write(small.read_bytes())
        file.write(gzip.compress(done.stdout, 1, mtime=0))
