"""A Debian in a folder, by default a 13 with QEMU 10 and libvirt 11: built once, used as it is.

Building needs root. It takes some two minutes and 400 MB.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from collection.disks import obstacle
from collection.releases import KEYRING, MIRROR

from formats.place import LET_GO, Place

CODENAME = "trixie"
# What libvirt saves with (lzop, zstd and others are programs that it calls) is not required by its
# packages.
PACKAGES = (
    *("qemu-system-x86", "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients"),
    *("gzip", "bzip2", "xz-utils", "lzop", "zstd"),
)
_INSTALL = """\
apt-get -q update
apt-get -q -y --no-install-recommends install "$@"
apt-get clean"""
# A service that a package starts in a root would run on this system.
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_UNMOUNTED_LATER = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
    *("sh", "-c", f'{LET_GO}exec "$@"', "sh"),
)


class RootError(Exception):
    """The Debian could not be built; the text ends with the last lines of the log."""


def stamp(
    mirror: str,
    codename: str = CODENAME,
    packages: Sequence[str] = PACKAGES,
    backports: Sequence[str] = (),
) -> str:
    """Return what changes whenever the root has to be built anew."""
    words = [codename, *packages, *backports, _INSTALL, mirror]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def debian_root(
    folder: Path,
    mirror: str = MIRROR,
    say: Callable[[str], None] = print,
    *,
    codename: str = CODENAME,
    packages: Sequence[str] = PACKAGES,
    backports: Sequence[str] = (),
) -> Path:
    """Return the root in ``folder``; builds it unless it is there and up to date.

    ``packages`` are of the release. ``backports`` are installed behind them, from the archive's
    newer packages for the release: of kernels, the release's own stays beside. A second caller
    waits for the first. Raises RootError.
    """
    root, stamp_file = folder / "root", folder / "stamp"
    wanted = stamp(mirror, codename, packages, backports)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp_file.exists() and stamp_file.read_text() == wanted:
            return root
        if reason := obstacle():
            raise RootError(f"no Debian {codename} can be built: {reason}")
        stamp_file.unlink(missing_ok=True)
        log = folder / "build.log"
        log.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as name:
            made = Path(name, "root")
            made.mkdir(mode=0o755)
            say(f"unpacking a Debian {codename}")
            _run(
                [
                    *(*_UNMOUNTED_LATER, "debootstrap", "--variant=minbase"),
                    *(f"--keyring={KEYRING}", codename, str(made), mirror),
                ],
                log,
            )
            policy = made / "usr/sbin/policy-rc.d"
            policy.write_text(_NO_SERVICES)
            policy.chmod(0o755)
            say(f"installing {len(packages)} packages and what they need in it")
            settings = ["DEBIAN_FRONTEND=noninteractive", "DPKG_FORCE=unsafe-io"]
            if proxy := os.environ.get("http_proxy"):
                settings.append(f"http_proxy={proxy}")
            install = ["env", *settings, "sh", "-ec", _INSTALL, "sh"]
            _run(Place(made).command(folder, [*install, *packages]), log)
            if backports:
                suite = f"{codename}-backports"
                say(f"installing {len(backports)} packages of {suite}")
                with (made / "etc/apt/sources.list").open("a") as sources:
                    sources.write(f"deb {mirror} {suite} main\n")
                newer = [f"{package}/{suite}" for package in backports]
                _run(Place(made).command(folder, [*install, *newer]), log)
            if root.exists():
                root.rename(Path(name, "former"))
            made.rename(root)
        stamp_file.write_text(wanted)
    return root


def _run(command: Sequence[str], log: Path) -> None:
    with log.open("ab") as out:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    if done.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()[-12:]
        last = "\n".join(f"  | {line}" for line in lines)
        raise RootError(f"{command[0]} ended with {done.returncode} (whole log: {log})\n{last}")
