"""Guests of the collection: whole Debian systems that work as soon as they are up.

    from collection.disks import Disk
    from collection.guests import CollectedGuest

    disk = Disk.open(Path("corpora/.build/debian-12"))
    with CollectedGuest("web", mountpoint / "web.mem", folder, 256, disk=disk, work="web") as guest:
        guest.wait_until_steady()
        ...                                # it works, on RAM in a difffs mount
        with guest.paused():
            copy(guest.memory)             # a suspend image: page i lies at byte 4096 * i

The disk is shared and stays as it is: what a guest writes is thrown away when it ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trial.guest import Event, QemuGuest

from collection.disks import Disk

# Under emulation a whole system takes minutes to boot, and more when others want the processor.
STEADY_SECONDS = 1800.0


@dataclass(kw_only=True)
class CollectedGuest(QemuGuest):
    """A guest booted from a collected disk, with its RAM on the file ``memory``.

    ``memory`` is made when it is not there; ``folder`` takes console, monitor socket and what the
    guest writes to its disk. ``work``, ``load`` and ``seed`` are explained in
    ``scripts/collection/guest-files/workload``. The guest has no network but its own loopback.
    """

    disk: Disk
    work: str = "none"
    load: int = 1
    seed: int = 1

    def command(self) -> list[str]:
        """Return the call of QEMU."""
        for path in (self.memory, self.folder, self.disk.folder):
            if "," in str(path):
                raise ValueError(f"QEMU takes no comma in a path: {path}")
        size = f"{self.mebibytes}M"
        # without a limit the buffer for translated code takes up to 1 GiB
        accelerator = {"tcg": "tcg,tb-size=64", "kvm": "kvm"}[self.chosen_accelerator()]
        append = (
            "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0"
            f" systemd.hostname={self.name} difffs.name={self.name} difffs.work={self.work}"
            f" difffs.load={self.load} difffs.seed={self.seed}"
        )
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-nic", "none", "-machine", "q35,memory-backend=ram"),
            *("-accel", accelerator, "-smp", "1", "-m", size),
            *("-object", f"memory-backend-file,id=ram,size={size},mem-path={self.memory},share=on"),
            *("-kernel", str(self.disk.kernel_file), "-initrd", str(self.disk.initrd_file)),
            *("-append", append),
            "-drive",
            f"file={self.disk.image},format=raw,if=none,id=root,snapshot=on,discard=unmap",
            *("-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci"),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-serial", "chardev:console", "-qmp", f"unix:{self.socket},server=on,wait=off"),
        ]

    def environment(self) -> dict[str, str]:
        """Let QEMU keep what the guest writes to its disk in ``folder`` (an unlinked file)."""
        return {**os.environ, "TMPDIR": str(self.folder.resolve())}

    def wait_until_steady(
        self, seconds: float = STEADY_SECONDS, watch: Callable[[], None] = lambda: None
    ) -> Event:
        """Wait until the workload has gone round once and memory is in use; return its ``ready``.

        ``watch`` is called some times a second. Raises GuestError when the guest fails or ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            watch()
            self.check()
            for event in self.events():
                if event.kind == "ready":
                    return event
            if time.monotonic() > deadline:
                raise self.error(f"was not at work within {seconds:.0f} s")
            time.sleep(0.2)

    def rounds(self) -> int:
        """Return how many rounds of its work the guest has reported."""
        return sum(event.kind == "round" for event in self.events())

    def check(self) -> None:
        """Raise GuestError when the guest has ended or reported a failure."""
        if any(event.kind == "failed" for event in self.events()):
            raise self.error("reports a failure")
        if not self.running:
            raise self.error("has ended")

    def pause(self) -> None:
        """Stop its processor; ``memory`` then holds an image that stays as it is."""
        self.monitor.command("stop")

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.monitor.command("cont")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause for the length of a block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def quit(self) -> None:
        """End QEMU at once, as leaving the context does."""
        self.stop()
