"""A fresh, minimal Debian in a folder: a wheel, or the checkout, tried where nothing is installed.

Needs root and debootstrap. Each is made anew, below the cache folder, and goes away.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collection.releases import MIRROR
from formats.debian_root import RootError, debian_root
from formats.place import LET_GO, Place

from wheels.checkout import copy_tracked_files
from wheels.running import CHECKOUT, SCRIPTS, WheelError, environment, run
from wheels.sources import SOURCES

USING = ("python3-venv", "fuse3", "qemu-system-x86")
"""What the README asks for where a wheel is installed and guests run: no compiler, no headers."""
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@contextmanager
def fresh_debian(
    codename: str, packages: Sequence[str], cache: Path, say: Callable[[str], None]
) -> Iterator[tuple[Place, Path]]:
    """A new root, and a working folder that it sees; both go away. Raises WheelError."""
    with tempfile.TemporaryDirectory(prefix="fresh-", dir=cache) as name:
        work = Path(name, "work")
        work.mkdir()
        try:
            root = debian_root(
                Path(name, "debian"), MIRROR, say, codename=codename, packages=packages
            )
        except RootError as error:
            raise WheelError(str(error)) from None
        yield Place(root), work


def _settings(place: Place, work: Path, more: Mapping[str, str]) -> list[str]:
    """The words of env(1) that let pip find in a root what it finds here."""
    settings = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    for name in _CERTIFICATES:
        if file := os.environ.get(name):
            shutil.copy(file, work / "certificates.crt")
            settings["PIP_CERT"] = str(place.seen(work) / "certificates.crt")
            break
    return ["env", *(f"{name}={value}" for name, value in {**settings, **more}.items())]


def try_in_debian(
    wheel: Path, codename: str, cache: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Install the wheel, import, export, mount, boot a guest on the mount. Raises WheelError."""
    run([SCRIPTS / "make-guest"])
    with fresh_debian(codename, USING, cache, say) as (place, work):
        tell = "import sys; print('%d.%d' % sys.version_info[:2])"
        version = run(place.command(work, ["python3", "-c", tell])).strip()
        _wheels_of(wheel, version, work)
        shutil.copytree(SCRIPTS / "trial", work / "scripts/trial")
        shutil.copytree(SCRIPTS / "wheels", work / "scripts/wheels")
        shutil.copytree(CHECKOUT / "vm-configs", work / "vm-configs")
        (work / "cache/guest").mkdir(parents=True)
        for name in ("vmlinuz", "initramfs.gz"):
            shutil.copy(cache / "guest" / name, work / "cache/guest")
        say(f"installing {wheel.name} with Python {version}, without an index in reach")
        seen = place.seen(work)
        run(place.command(work, ["python3", "-m", "venv", "venv"]))
        pip = ["venv/bin/python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        run(place.command(work, [*pip, "--no-index", "--find-links", "wheels", "difffs"]))
        say("importing, exporting, mounting, booting a guest on the mount")
        versions = [f"{source.name}={source.version}" for source in SOURCES]
        settings = _settings(
            place,
            work,
            {
                "PYTHONPATH": str(seen / "scripts"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "DIFFFS_CACHE": str(seen / "cache"),
            },
        )
        smoke = ["venv/bin/python", "-m", "wheels.smoke", "--bare", "--guest", *versions]
        found: dict[str, Any] = json.loads(run(place.command(work, [*settings, *smoke])))
        return found


def _wheels_of(wheel: Path, version: str, work: Path) -> None:
    """Download what the wheel requires, for another Python."""
    with tempfile.TemporaryDirectory(prefix="difffs-pip-") as name:
        python = environment(Path(name, "venv"), Path(sys.executable))
        run(
            [
                *(python, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"),
                *("--python-version", version, "--dest", work / "wheels", wheel.resolve()),
            ]
        )


def _as_booted() -> str:
    """Shell that mounts in a root what a booted Debian has: terminals, settings of the kernel that
    can be written, and control groups in this system's version, for programs with little memory."""
    folder = "/sys/fs/cgroup"
    common = "mount -t devpts -o ptmxmode=666 devpts /dev/pts; mount -o remount,rw /sys"
    if Path(folder, "cgroup.controllers").exists():
        return f"{common}; mount -t cgroup2 cgroup2 {folder}"
    memory = f"{folder}/memory"
    return (
        f"{common}; mount -t tmpfs cgroup {folder}; mkdir {memory};"
        f" mount -t cgroup -o memory cgroup {memory}"
    )


def _on_a_mount(root: Path, command: Sequence[str]) -> list[str]:
    """The command with the root as a mount: below a mere folder, unshare(1) cannot be used."""
    script = LET_GO + 'mount --bind "$1" "$1"; shift; exec "$@"'
    own = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh")
    return [*own, str(root), *command]


def try_checkout(
    codename: str, commands: Sequence[str], cache: Path, say: Callable[[str], None], log: Path
) -> Iterator[tuple[str, float]]:
    """Run commands of a copy of the checkout in a Debian where nothing is installed.

    Yields each with the seconds that it took. Raises WheelError.
    """
    with fresh_debian(codename, (), cache, say) as (place, work):
        copy_tracked_files(work / "difffs")
        assert place.root is not None
        settings = _settings(place, work, {})
        for command in commands:
            say(f"{codename}: {command} (log: {log})")
            # the shell stays, as the first process of its namespace: orphans are waited for by it
            inside = ["sh", "-ec", f"{_as_booted()}; cd difffs; {command}; exit"]
            began = time.monotonic()
            with log.open("ab") as out:
                done = subprocess.run(
                    _on_a_mount(place.root, place.command(work, [*settings, *inside])),
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            if done.returncode != 0:
                last = log.read_text(errors="replace").splitlines()[-15:]
                raise WheelError("\n".join([f"{codename}: {command}: {done.returncode}", *last]))
            yield command, time.monotonic() - began
