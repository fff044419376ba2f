"""The guest, as QEMU boots it and as it reports on its console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from trial.guest import QemuGuest

from booting.disk import Disks

BOOT_SECONDS = 900.0
"""From power on to power off, under emulation on a busy machine."""


class Report(NamedTuple):
    """One thing that the guest told."""

    kind: str
    values: dict[str, str]


@dataclass(kw_only=True)
class BootedGuest(QemuGuest):
    """A guest booted from ``disks``, which keep what it writes. Its RAM is QEMU's own."""

    disks: Disks

    def command(self) -> list[str]:
        """Return the call of QEMU."""
        accelerator = {"tcg": "tcg,tb-size=64", "kvm": "kvm"}[self.chosen_accelerator()]
        drives = [
            word
            for image in (self.disks.root, self.disks.swap)
            for word in ("-drive", f"file={image},format=raw,if=virtio,cache=unsafe")
        ]
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-nic", "none", "-machine", "q35", "-accel", accelerator),
            *("-smp", "2", "-m", f"{self.mebibytes}M", *drives, "-device", "virtio-rng-pci"),
            *("-kernel", str(self.disks.kernel), "-initrd", str(self.disks.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0"),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-serial", "chardev:console", "-qmp", f"unix:{self.socket},server=on,wait=off"),
        ]

    def report(self) -> list[Report]:
        """Wait until it has powered off, or wants to have its plug pulled; return what it told.

        ``GuestError`` when it reports a failure or takes too long.
        """
        told = []
        for event in self.follow(BOOT_SECONDS):
            told.append(
                Report(event.kind, {key: unquote(text) for key, text in event.values.items()})
            )
            if event.kind == "pull":
                break
        return told
