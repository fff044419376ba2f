"""The guest, as QEMU boots it and as it reports on its console."""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from collection.releases import MIRROR
from trial import guest
from trial.guest import QemuGuest

from booting import disk
from booting.disk import Disks, Kernel

BOOT_SECONDS = 900.0
"""From power on to power off, under emulation on a busy machine."""


def obstacle() -> str | None:
    """Say why no guest can be made and booted here, or None."""
    reason = disk.obstacle() or guest.obstacle()
    if reason is not None:
        return reason
    try:
        with urllib.request.urlopen(f"{MIRROR}/dists/stable/InRelease", timeout=20):
            return None
    except (urllib.error.URLError, TimeoutError) as error:
        return f"the Debian archive cannot be reached: {error}"


class Report(NamedTuple):
    """One thing that the guest told."""

    kind: str
    values: dict[str, str]


@dataclass(kw_only=True)
class BootedGuest(QemuGuest):
    """A guest booted from ``disks``, which keep what it writes. Its RAM is QEMU's own."""

    disks: Disks
    kernel: Kernel | None = None
    """The release's own unless given."""
    append: tuple[str, ...] = ("quiet",)
    """What the kernel's command line has beside what every guest needs."""
    seconds: float = BOOT_SECONDS
    """From power on to power off, at most."""
    silence: float = math.inf
    """Seconds without a report, at most."""

    def command(self) -> list[str]:
        """Return the call of QEMU."""
        # QEMU 7.2 leaves wrong flags behind cmpxchg16b, on which kernels from 6.5 on fall over.
        accelerator = {"tcg": ["tcg,tb-size=64", "-cpu", "qemu64,-cx16"], "kvm": ["kvm"]}[
            self.chosen_accelerator()
        ]
        drives = [
            word
            for image in (self.disks.root, self.disks.swap)
            for word in ("-drive", f"file={image},format=raw,if=virtio,cache=unsafe")
        ]
        kernel = self.kernel or self.disks.kernels[0]
        words = ("root=/dev/vda", "rw", "console=ttyS0", "panic=-1", "systemd.show_status=0")
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-nic", "none", "-machine", "q35", "-accel", *accelerator),
            *("-smp", "2", "-m", f"{self.mebibytes}M", *drives, "-device", "virtio-rng-pci"),
            *("-kernel", str(kernel.image), "-initrd", str(kernel.initrd)),
            *("-append", " ".join([*words, *self.append])),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-serial", "chardev:console", "-qmp", f"unix:{self.socket},server=on,wait=off"),
        ]

    def report(self) -> list[Report]:
        """Wait until it has powered off, or wants to have its plug pulled; return what it told.

        ``GuestError`` when it reports a failure or takes too long.
        """
        told = []
        for report in self.reports():
            told.append(report)
            if report.kind == "pull":
                break
        return told

    def reports(self) -> Iterator[Report]:
        """Yield what it tells as it comes, until it has powered off. ``GuestError`` as above."""
        for event in self.follow(self.seconds, silence=self.silence):
            yield Report(event.kind, {key: unquote(text) for key, text in event.values.items()})
