"""Disks of whole Debian systems, built from the archive with debootstrap.

A built disk is a folder with ``disk.raw`` (ext4, no partitions), ``vmlinuz``, ``initrd`` and
``disk.json``. Building needs root: packages are installed in a chroot, in a mount namespace of its
own, so that nothing stays mounted when it is interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from formats.place import LET_GO

from collection.releases import KEYRING, System

GUEST_FILES = Path(__file__).parent / "guest-files"
# In the guest.
LIBRARY = "usr/local/lib/difffs"
_SPARE_MIB = 1536


class DiskError(Exception):
    """A disk could not be built; the text ends with the last lines of the log."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that was built."""

    folder: Path
    release: str
    codename: str
    kernel: str
    """Of the guest, as ``uname -r`` says."""
    packages: int

    @classmethod
    def open(cls, folder: Path) -> Disk:
        """Read what is known about a disk; DiskError when there is none."""
        try:
            values = json.loads((folder / "disk.json").read_text())
            names = ("release", "codename", "kernel", "packages")
            return cls(folder, **{name: values[name] for name in names})
        except (OSError, ValueError, KeyError) as error:
            raise DiskError(
                f"no disk in {folder} ({error!r}): run scripts/collect-images"
            ) from None

    @property
    def image(self) -> Path:
        """The raw image of its ext4 filesystem."""
        return self.folder / "disk.raw"

    @property
    def kernel_file(self) -> Path:
        """The kernel that it is booted with."""
        return self.folder / "vmlinuz"

    @property
    def initrd_file(self) -> Path:
        """The initramfs that it is booted with."""
        return self.folder / "initrd"


def obstacle() -> str | None:
    """Say why no disk can be built here, or None."""
    if os.geteuid() != 0:
        return "not root (debootstrap and chroot need it)"
    for tool, package in (
        ("debootstrap", "debootstrap"),
        ("mke2fs", "e2fsprogs"),
        ("unshare", "util-linux"),
    ):
        if shutil.which(tool) is None:
            return f"no {tool} (install the package {package})"
    return None


def stamp(system: System, mirror: str) -> str:
    """Return what changes whenever a disk has to be built anew."""
    digest = hashlib.sha256(json.dumps([asdict(system), mirror]).encode())
    digest.update(Path(__file__).read_bytes())
    for path in sorted(GUEST_FILES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build(
    system: System,
    build_folder: Path,
    mirror: str,
    say: Callable[[str], None],
    watch: Callable[[], None] = lambda: None,
) -> Disk:
    """Return the disk of a system; builds it unless it is there and up to date.

    Packages are kept in ``build_folder/packages`` and downloaded once. ``watch`` is called some
    times a second; what it raises ends the building. Raises DiskError.
    """
    folder = build_folder / system.name
    wanted = stamp(system, mirror)
    stamp_file = folder / "stamp"
    if stamp_file.exists() and stamp_file.read_text() == wanted:
        return Disk.open(folder)
    if reason := obstacle():
        raise DiskError(f"{system.name} cannot be built: {reason}")
    folder.mkdir(parents=True, exist_ok=True)
    stamp_file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="root-", dir=folder) as root:
        _Builder(system, folder, build_folder / "packages", Path(root), mirror, say, watch).build()
    stamp_file.write_text(wanted)
    return Disk.open(folder)


@dataclass(frozen=True, slots=True)
class _Builder:
    system: System
    folder: Path
    packages: Path
    root: Path
    mirror: str
    say: Callable[[str], None]
    watch: Callable[[], None]

    @property
    def _log(self) -> Path:
        return self.folder / "build.log"

    def build(self) -> None:
        self._log.unlink(missing_ok=True)
        cache = (self.packages / self.system.codename).resolve()
        (cache / "partial").mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        self._say("unpacking the base system")
        self._run(
            *("debootstrap", "--variant=minbase", f"--cache-dir={cache}", f"--keyring={KEYRING}"),
            *(self.system.codename, str(self.root), self.mirror),
        )
        self._configure()
        self._say(f"installing {len(self.system.packages)} packages and what they need")
        self._in_root(
            'apt-get -q update && apt-get -q -y --no-install-recommends install "$@"',
            *self.system.packages,
        )
        for source in self.system.sources:
            self._say(f"fetching the source of {source}")
            self._in_root(
                "mkdir -p /srv/sources /tmp/source && cd /tmp/source"
                # the package's signature is checked by apt; no dpkg-dev is there to unpack it
                ' && apt-get -q --download-only source "$1"'
                " && mv ./*.orig.tar.* /srv/sources/ && rm -r /tmp/source",
                source,
            )
        self._say("preparing the workloads")
        self._in_root(f"/{LIBRARY}/prepare {self.system.name}")
        self._make_image()

    def _say(self, text: str) -> None:
        self.say(f"{self.system.name}: {text}")

    def _configure(self) -> None:
        """Write what debootstrap leaves open. The root password stays locked."""
        etc = self.root / "etc"
        lines = [f"deb {self.mirror} {self.system.codename} main"]
        if self.system.sources:
            lines.append(f"deb-src {self.mirror} {self.system.codename} main")
        (etc / "apt/sources.list").write_text("\n".join(lines) + "\n")
        (etc / "fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        (etc / "hostname").write_text(f"{self.system.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.system.name}\n")
        # services are for the guest to start, not for the host
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        # an initramfs with what this virtual machine needs, unpacked in a fraction of the time
        (etc / "initramfs-tools/conf.d").mkdir(parents=True)
        (etc / "initramfs-tools/conf.d/difffs").write_text("MODULES=list\nCOMPRESS=gzip\n")
        (etc / "initramfs-tools/modules").write_text(
            "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\ncrc32c_intel\n"
        )
        shutil.copytree(GUEST_FILES, self.root / LIBRARY)
        unit = "difffs-workload.service"
        (self.root / LIBRARY / unit).rename(etc / "systemd/system" / unit)
        wants = etc / "systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")

    def _in_root(self, script: str, *words: str) -> None:
        """Run a line of shell in the root, with the host's package cache and ``/proc``."""
        cache = (self.packages / self.system.codename).resolve()
        mounts = (
            f"{LET_GO}"
            'set -e; root=$1; cache=$2; shift 2; mount -t proc proc "$root/proc"; '
            'mount -t tmpfs tmp "$root/tmp"; '
            # PostgreSQL keeps shared memory there
            'mount -t tmpfs shm "$root/dev/shm"; '
            'mount --bind "$cache" "$root/var/cache/apt/archives"; '
            'exec chroot "$root" /bin/sh -ec "$@"'
        )
        environment = [
            *("HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            # a damaged root is built anew, so dpkg need not wait for the disk
            "DPKG_FORCE=unsafe-io",
        ]
        proxy = os.environ.get("http_proxy")
        self._run(
            *("env", "-i", *environment, *([f"http_proxy={proxy}"] if proxy else [])),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
            *("sh", "-c", mounts, "sh", str(self.root), str(cache), script, "sh", *words),
        )

    def _make_image(self) -> None:
        self._say("writing the disk")
        (self.root / "usr/sbin/policy-rc.d").unlink()
        kernel = max((self.root / "boot").glob("vmlinuz-*"))
        version = kernel.name.removeprefix("vmlinuz-")
        shutil.copyfile(kernel, self.folder / "vmlinuz")
        shutil.copyfile(self.root / f"boot/initrd.img-{version}", self.folder / "initrd")
        installed = (self.root / "var/lib/dpkg/status").read_text(errors="replace")
        used = int(self._run("du", "-sm", str(self.root)).split()[0])
        image = self.folder / "disk.raw"
        image.unlink(missing_ok=True)
        self._run(
            *("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(self.root), str(image)),
            f"{used + used // 8 + _SPARE_MIB}M",
        )
        values = {
            "release": self.system.release,
            "codename": self.system.codename,
            "kernel": version,
            "packages": installed.count("\nStatus: install ok installed\n"),
        }
        (self.folder / "disk.json").write_text(json.dumps(values, indent=1) + "\n")

    def _run(self, *command: str) -> str:
        """Run a tool; returns what it says, which also goes to the log."""
        with self._log.open("a+", errors="replace") as log:
            log.write(f"+ {' '.join(command)}\n")
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # ended as a whole
            )
            try:
                while process.poll() is None:
                    self.watch()
                    time.sleep(0.1)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            log.seek(begin)
            said = log.read()
        if process.returncode != 0:
            last = "\n".join(f"  | {line}" for line in said.splitlines()[-12:])
            raise DiskError(
                f"{self.system.name}: {command[0]} ended with {process.returncode}"
                f" (whole log: {self._log})\n{last}"
            )
        return said
