"""The disks of the guest: a Debian of this machine's release with this checkout's wheel in it.

What takes long and stays the same, a Debian of a kernel, systemd and Python, is kept. The release
is that of this machine, so that a wheel built here runs there. Needs root.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from collection import disks
from formats.debian_root import debian_root
from formats.place import Place

CHECKOUT = Path(__file__).resolve().parents[2]
GUEST_FILES = Path(__file__).parent / "guest-files"
RELEASES = ("bookworm", "trixie")
PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "kmod", "dbus"),
    *("e2fsprogs", "mount", "fuse3", "python3", "python3-pip"),
)
# Not of a wheel's sources: what builds, tests and collected images leave in a checkout.
_LEFT = shutil.ignore_patterns(".*", "*.so", "*.egg-info", "__pycache__", "build", "corpora")
UNITS = ("difffs@.service", "difffs-swap@.service")

PREPARE = """\
pip3 install --no-index --find-links wheels --break-system-packages --quiet difffs
systemctl enable "$@"
systemctl mask getty.target serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer
update-initramfs -u -k all
"""


# Where the two disks are mounted.
FSTAB = ("/dev/vda / ext4 defaults 0 1", "/dev/vdb /srv ext4 defaults 0 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a guest has beside a Debian with difffs."""

    files: Path
    """A folder of units, files of /etc (``.conf``), and programs."""
    enabled: tuple[str, ...]
    """Units that a boot starts."""
    mounts: tuple[str, ...] = ()
    """Lines of its fstab, beside those of its disks."""
    swap_stores: Mapping[str, str] = field(default_factory=dict)
    """Of ``difffs-swap@`` units, those whose store lies on a file system of its own."""
    copied: Mapping[str, Path] = field(default_factory=dict)
    """More files, by their path in the guest without its first slash."""
    backports: tuple[str, ...] = ()
    """Newer packages, beside those of the release."""
    root_mib: int = 1024
    swap_mib: int = 512


BOOTS = Contents(
    files=GUEST_FILES,
    enabled=("difffs@guests.service", "difffs-swap@main.service", "difffs-report.service"),
    mounts=(
        # Stores mounted by mount(8) as well: one at boot, one when it is looked at.
        "/var/lib/difffs/images /mnt/images fuse.difffs nofail 0 0",
        "/var/lib/difffs/lazy /mnt/lazy fuse.difffs noauto,x-systemd.automount 0 0",
    ),
    swap_stores={"main": "/srv/swap"},
)
"""The guest that boots again and again, and tells how its units did."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of the guest's system, with its initramfs."""

    image: Path
    initrd: Path


@dataclass(frozen=True, slots=True)
class Disks:
    """What a guest is booted from: kernels, and the images of two ext4 file systems."""

    kernels: tuple[Kernel, ...]
    """The oldest first, which is that of the release."""
    root: Path
    swap: Path
    """Mounted on /srv; the store that is swapped to lies there."""


class DiskError(Exception):
    """The disks could not be made; the text ends with what the tool said."""


def obstacle() -> str | None:
    """Say why no disks can be made here, or None."""
    try:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME")
    except OSError:
        codename = None
    if codename not in RELEASES:
        return f"neither Debian 12 nor 13, but {codename}: a wheel built here would not run there"
    return disks.obstacle()


def build(
    cache: Path,
    folder: Path,
    say: Callable[[str], None] = print,
    contents: Contents = BOOTS,
) -> Disks:
    """Make the disks in ``folder``; what they are made from is kept in ``cache``.

    ``DiskError`` and ``formats.debian_root.RootError`` tell what went wrong.
    """
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    kept = debian_root(
        cache / f"boot-{codename}{'-backports' if contents.backports else ''}",
        say=say,
        codename=codename,
        packages=PACKAGES,
        backports=contents.backports,
    )
    say("building the wheel")
    wheels = folder / "wheels"
    _build_wheels(folder / "sources", wheels)
    say("installing it")
    root = folder / "root"
    _run("cp", "-a", "--reflink=auto", str(kept), str(root))
    _configure(root, contents)
    _run(*Place(root).command(folder, ["sh", "-ec", PREPARE, "sh", *contents.enabled]))
    say("writing the disks")
    made = Disks(_copy_kernels(root, folder), folder / "root.raw", folder / "swap.raw")
    size = f"{contents.root_mib}M"
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(made.root), size)
    _run("mke2fs", "-q", "-t", "ext4", str(made.swap), f"{contents.swap_mib}M")
    for used in (root, wheels, folder / "sources"):
        shutil.rmtree(used)
    return made


def _copy_kernels(root: Path, folder: Path) -> tuple[Kernel, ...]:
    """Copy all that are installed; the oldest is the first."""

    def numbers(path: Path) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", path.name)]

    kernels = []
    for image in sorted((root / "boot").glob("vmlinuz-*"), key=numbers):
        initrd = image.with_name(image.name.replace("vmlinuz", "initrd.img"))
        copies = Kernel(folder / image.name, folder / initrd.name)
        shutil.copyfile(image, copies.image)
        shutil.copyfile(initrd, copies.initrd)
        kernels.append(copies)
    return tuple(kernels)


def _build_wheels(sources: Path, wheels: Path) -> None:
    """Build difffs's wheel and get those that it needs, in the versions of the lock."""
    shutil.copytree(CHECKOUT, sources, ignore=_LEFT)
    _run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation"),
        *("--constraint", str(CHECKOUT / "scripts/requirements.lock")),
        *("--wheel-dir", str(wheels), str(sources)),
    )


def _configure(root: Path, contents: Contents) -> None:
    etc = root / "etc"
    (etc / "fstab").write_text("\n".join([*FSTAB, *contents.mounts, ""]))
    (etc / "hostname").write_text("booted\n")
    (etc / "hosts").write_text("127.0.0.1 localhost booted\n")
    # an initramfs with what this virtual machine needs, unpacked in a fraction of the time
    (etc / "initramfs-tools/conf.d").mkdir(exist_ok=True)
    (etc / "initramfs-tools/conf.d/difffs").write_text("MODULES=list\nCOMPRESS=gzip\n")
    (etc / "initramfs-tools/modules").write_text(
        "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\ncrc32c_intel\n"
    )
    (root / "var/log/journal").mkdir(exist_ok=True)  # of the boot before as well
    policy = root / "usr/sbin/policy-rc.d"
    policy.unlink(missing_ok=True)
    units = etc / "systemd/system"
    for name in UNITS:
        shutil.copy(CHECKOUT / "vm-configs" / name, units)
    for path in contents.files.iterdir():
        if path.suffix == ".service":
            shutil.copy(path, units)
        elif path.suffix == ".conf":
            shutil.copy(path, etc)
        else:
            shutil.copy(path, root / "usr/local/bin")
    # as the unit's own comment says for a store on a file system of its own
    for name, store in contents.swap_stores.items():
        addition = units / f"difffs-swap@{name}.service.d"
        addition.mkdir()
        (addition / "override.conf").write_text(f"[Unit]\nRequiresMountsFor={store}\n")
    for place, file in contents.copied.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / place)


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        last = "\n".join(f"  | {line}" for line in done.stdout.splitlines()[-12:])
        raise DiskError(f"{command[0]} ended with {done.returncode}\n{last}")
