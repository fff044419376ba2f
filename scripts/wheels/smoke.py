"""What an installed difffs has to do on a machine without a compiler; prints one JSON object.

``python -m wheels.smoke [--bare] [--guest] LIBRARY=VERSION...`` with the Python of the
environment that difffs was installed in. ``--bare``: the machine has no compiler and no headers,
which is looked at first. ``--guest``: a guest has to run on the mount; DIFFFS_CACHE has its
kernel. Without ``--guest`` a mount is tried where the machine can have one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path
from typing import Any

from trial.guest import Guest, GuestError

PAGE = 4096
PAGES = 4096
_SECONDS = 300
_PROGRAM = Path(sys.executable).with_name("difffs")


class SmokeError(Exception):
    """The installed difffs does not do what it should."""


def difffs(*words: str | Path) -> str:
    """Run the installed command; return its stdout."""
    done = subprocess.run(
        [_PROGRAM, *words], check=False, capture_output=True, text=True, timeout=_SECONDS
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise SmokeError(f"difffs {' '.join(map(str, words))}: exit {done.returncode}: {said}")
    return done.stdout


def image(pages: int = PAGES, seed: int = 1) -> bytes:
    """Zero, equal, similar, compressible and random pages: the same on every machine."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(3, 12)) for _ in range(500)]
    kinds = [lambda: bytes(PAGE), lambda: chance.randbytes(8) * (PAGE // 8)]
    texts: list[bytes] = []

    def text() -> bytes:
        texts.append(b"".join(chance.choice(words) for _ in range(PAGE // 3))[:PAGE])
        return texts[-1]

    def similar() -> bytes:
        page = bytearray(chance.choice(texts))
        for _ in range(20):
            page[chance.randrange(PAGE)] = chance.randrange(256)
        return bytes(page)

    text()
    kinds += [lambda: chance.randbytes(PAGE), lambda: chance.choice(texts), similar, text, text]
    return b"".join(chance.choice(kinds)() for _ in range(pages))


def _versions(wanted: Sequence[str]) -> list[str]:
    lines = difffs("--version").splitlines()
    if not lines[0].startswith("difffs "):
        raise SmokeError(f"difffs --version begins with {lines[0]}")
    for one in wanted:
        if one.replace("=", " ") not in lines:
            raise SmokeError(f"difffs --version has no {one}: {lines}")
    return lines


def _bare() -> None:
    found = [name for name in ("cc", "gcc", "clang", "c99") if shutil.which(name)]
    header = Path(sysconfig.get_path("include"), "Python.h")
    found += [str(file) for file in (header, Path("/usr/include/zstd.h")) if file.exists()]
    if found:
        raise SmokeError(
            f"the machine has {', '.join(found)}: nothing is shown by what works on it"
        )


def _in_and_out(folder: Path, content: bytes) -> dict[str, Any]:
    original, restored = folder / "original", folder / "restored"
    original.write_bytes(content)
    difffs("import", folder / "store", original, "image")
    difffs("check", folder / "store")
    difffs("export", folder / "store", "image", restored)
    if restored.read_bytes() != content:
        raise SmokeError("what was exported is not what was imported")
    found: dict[str, Any] = json.loads(difffs("stats", "--json", folder / "store"))
    _refined(folder, content)
    return found


def _refined(folder: Path, content: bytes) -> None:
    """Groups by LZMA, and back: liblzma is called by nothing else."""
    report = json.loads(difffs("refine", "--tier", "rest", "--json", folder / "store"))
    if not report["groups"]:
        raise SmokeError("nothing was refined")
    difffs("check", folder / "store")
    restored = folder / "refined"
    difffs("export", folder / "store", "image", restored)
    if restored.read_bytes() != content:
        raise SmokeError("what was exported after refining is not what was imported")


def mount_obstacle() -> str | None:
    """Say why nothing can be mounted here, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse that this user may open"
    if "libfuse cannot" in (said := difffs("--version")) or "\nlibfuse 3." not in said:
        return "no libfuse3"
    return None


def _on_a_mount(folder: Path, content: bytes, *, guest: bool) -> str:
    """The image through a mount, then a guest that works and checks what it did."""
    store, mount = folder / "mounted", folder / "mount"
    mount.mkdir()
    said = ""
    difffs("mount", store, mount)
    try:
        (mount / "image").write_bytes(content)
        if guest:
            said = _run_guest(mount / "guest.mem", folder)
    finally:
        difffs("umount", mount)
    difffs("check", store)
    difffs("mount", store, mount)
    try:
        if (mount / "image").read_bytes() != content:
            raise SmokeError("what was read from the mount is not what was written")
    finally:
        difffs("umount", mount)
    return said


def _run_guest(memory: Path, folder: Path) -> str:
    with Guest("smoke", memory, folder, accelerator="tcg") as guest:
        done = guest.wait_until_off(_SECONDS)
    return " ".join(f"{name}={value}" for name, value in done.values.items())


def _shared_files() -> None:
    """The manual and the completion lie where their programs look."""
    share = Path(sys.prefix, "share")
    for name in ("man/man1/difffs.1", "bash-completion/completions/difffs"):
        if not (share / name).is_file():
            raise SmokeError(f"no {share / name}")
    if not any("licenses/LICENSE.libzstd" in str(file) for file in files("difffs") or ()):
        raise SmokeError("no licence of libzstd")


def smoke(arguments: Sequence[str]) -> dict[str, Any]:
    """Do everything; return what was found. Raises SmokeError, GuestError."""
    parser = argparse.ArgumentParser(prog="smoke", allow_abbrev=False)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--guest", action="store_true")
    parser.add_argument("versions", nargs="*", metavar="LIBRARY=VERSION")
    chosen = parser.parse_args(arguments)
    if chosen.bare:
        _bare()
    versions = _versions(chosen.versions)
    _shared_files()
    content = image()
    obstacle = mount_obstacle()
    if obstacle and chosen.guest:
        raise SmokeError(f"no guest can run on a mount: {obstacle}")
    guest = ""
    with tempfile.TemporaryDirectory(prefix="difffs-smoke-") as name:
        stored = _in_and_out(Path(name), content)
        if obstacle is None:
            guest = _on_a_mount(Path(name), content, guest=chosen.guest)
    return {
        "python": sys.version.split()[0],
        "versions": versions,
        "pages": stored["pages"],
        "bytes": stored["bytes"],
        "mounted": obstacle is None,
        "not_mounted_because": obstacle,
        "guest": guest,
    }


if __name__ == "__main__":
    try:
        json.dump(smoke(sys.argv[1:]), sys.stdout)
    except (SmokeError, GuestError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"smoke: {error}")
