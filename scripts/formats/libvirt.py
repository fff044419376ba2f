"""A guest that libvirt runs, and ``virsh save`` of it: libvirtd in a place, for one guest."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from trial.guest import GuestError

from formats.machine import INITRAMFS, KERNEL, MACHINE, PlacedGuest, kernel_line
from formats.place import Place
from formats.plan import Version, version_of

_SOCKET = "libvirt-sock"
_START_SECONDS = 60.0
_DAEMON_SETTINGS = """\
unix_sock_dir = "{seen}"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
# No security module, no user of its own, no logging daemon, no control groups: what a container
# lacks. None of it changes a byte of what is saved.
_QEMU_SETTINGS = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
memory_backing_dir = "{seen}/memory"
"""
# This libvirt's state and settings hide those of one that the system may have. libvirtd does not
# start without the user that Debian 12 makes with another package (libvirt-daemon-system), although
# the settings name another. The first process of the namespace collects what daemons leave to it.
_RUN = """\
set -e
mkdir -p /run/libvirt /var/lib/libvirt /var/log/libvirt
for folder in /run/libvirt /var/lib/libvirt /var/log/libvirt; do
    mount -t tmpfs own "$folder"
done
[ -e /etc/libvirt/qemu.conf ] || { mkdir -p /etc/libvirt; : >/etc/libvirt/qemu.conf; }
mount --bind qemu.conf /etc/libvirt/qemu.conf
for list in passwd group; do
    getent $list libvirt-qemu >/dev/null && continue
    cp /etc/$list $list
    case $list in
        passwd) echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' ;;
        group) echo 'libvirt-qemu:x:64055:' ;;
    esac >>$list
    mount --bind $list /etc/$list
done
libvirtd --config "$1/libvirtd.conf" & wait $!"""


def obstacle(place: Place) -> str | None:
    """Say why no domain can be run in a place, or None."""
    if os.geteuid() != 0:
        return "not root (a libvirt of its own needs mounts of its own)"
    for program, package in (
        ("libvirtd", "libvirt-daemon"),
        ("virsh", "libvirt-clients"),
        ("qemu-system-x86_64", "qemu-system-x86"),
    ):
        if not place.has(program):
            return f"no {program} (install the package {package})"
    return None


def domain_text(name: str, seen: Path, mebibytes: int, seed: int, vga: bool) -> str:
    """Return the domain's XML: emulated, without disks, its RAM in a file.

    ``seen`` is where libvirt sees the folder with kernel and initramfs: it takes absolute paths.
    """
    video = "<video><model type='vga'/></video>" if vga else ""
    return f"""\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{mebibytes}</memory>
  <memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>
  <os>
    <type arch='x86_64' machine='{MACHINE}'>hvm</type>
    <kernel>{seen}/{KERNEL}</kernel>
    <initrd>{seen}/{INITRAMFS}</initrd>
    <cmdline>{kernel_line(name, seed)}</cmdline>
  </os>
  <features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{seen}/{name}.console' append='on'/></serial>
    <memballoon model='none'/>{video}
  </devices>
</domain>
"""


@dataclass(kw_only=True)
class LibvirtGuest(PlacedGuest):
    """A domain, and libvirtd for the length of the context.

    ``memory`` is where a copy of its RAM may go; libvirt's own file lasts as long as the domain.
    """

    def command(self) -> list[str]:
        """Return the call of libvirtd, after writing what it is told."""
        seen = self._seen
        self.folder.joinpath("libvirtd.conf").write_text(_DAEMON_SETTINGS.format(seen=seen))
        self.folder.joinpath("qemu.conf").write_text(_QEMU_SETTINGS.format(seen=seen))
        self.folder.joinpath("domain.xml").write_text(
            domain_text(self.name, seen, self.mebibytes, self.seed, self.vga)
        )
        self.folder.joinpath(_SOCKET).unlink(missing_ok=True)
        return self.place.alone(self.folder, ["sh", "-c", _RUN, "sh", str(seen)])

    @property
    def _seen(self) -> Path:
        return self.place.seen(self.folder)

    def version(self) -> tuple[str, Version]:
        """Return libvirt's version, whole and its two first numbers; waits for libvirtd."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.folder.joinpath(_SOCKET).exists():
            if not self.running or time.monotonic() > deadline:
                raise self.error("has no libvirtd")
            time.sleep(0.1)
        said = self.virsh("version", "--daemon")
        line = next(line for line in said.splitlines() if line.startswith("Running against daemon"))
        return line.partition(": ")[2], version_of(line)

    def virsh(self, *words: str) -> str:
        """Run a command of virsh and return what it prints; GuestError with what it complains."""
        address = f"qemu+unix:///system?socket={self._seen}/{_SOCKET}"
        try:
            return self.place.said(self.folder, "virsh", "--quiet", "--connect", address, *words)
        except subprocess.CalledProcessError as error:
            raise GuestError(f"virsh {' '.join(words)}: {error.stderr.strip()}") from None

    def create(self) -> None:
        """Boot the domain."""
        self.virsh("create", f"{self._seen}/domain.xml")

    def stop_processor(self) -> None:
        """Pause: from now on its memory stays as it is."""
        self.virsh("suspend", self.name)

    def go_on(self) -> None:
        """Go on after a pause."""
        self.virsh("resume", self.name)

    def save(self, name: str, *words: str) -> None:
        """Save the paused domain to the file ``name`` of ``folder``, which ends it.

        ``words`` are further ones for ``virsh save``: see ``formats.plan.SAVE_FORMATS``.
        """
        self.virsh("save", self.name, f"{self._seen}/{name}", "--paused", *words)

    def restore(self, name: str, *, paused: bool) -> None:
        """Make the domain go on from a saved file."""
        self.virsh("restore", f"{self._seen}/{name}", "--paused" if paused else "--running")

    def memory_file(self) -> Path:
        """Return the file that is the domain's RAM now; GuestError when there is not just one."""
        found = [path for path in self.folder.glob("memory/**/*") if path.is_file()]
        if len(found) != 1:
            raise GuestError(f"libvirt has {len(found)} files of memory, not one")
        return found[0]
