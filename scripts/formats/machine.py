"""The guest, and how QEMU is asked to write its memory."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trial.guest import QemuGuest

from formats.place import Place
from formats.plan import (
    ELF,
    ELF_PAGING,
    KDUMP_FLAT,
    KDUMP_RAW,
    MAPPED_RAM,
    MIGRATION,
    MULTIFD,
    SAVEVM,
    Format,
    Waiting,
)

KERNEL = "vmlinuz"
INITRAMFS = "initramfs.gz"
MACHINE = "q35"
ACCELERATOR = "tcg,tb-size=32"  # without a limit translated code takes up to 1 GiB
READY_SECONDS = 1200.0
_FILE_NODE, _DISK_NODE = "disk-file", "disk"
_DISK_BYTES = 1 << 20
_SNAPSHOT = "paused"
_JOB_SECONDS = 300.0


def kernel_line(name: str, seed: int) -> str:
    """Return the kernel's command line: what ``guest-init`` reads."""
    return f"console=ttyS0 quiet panic=-1 difffs.name={name} difffs.seed={seed}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(kw_only=True)
class PlacedGuest(QemuGuest):
    """A guest that a program in ``place`` runs in ``folder``, with the work of ``guest-init``."""

    place: Place
    seed: int = 1
    vga: bool = False

    def wait_for_tick(self, seconds: float = READY_SECONDS) -> None:
        """Wait until the guest has reported once more that all its memory is as it should be."""
        self.wait_for("tick", seconds, start=len(self.events()))

    def work(self, seconds: float) -> None:
        """Let the guest work for so many seconds; GuestError when it fails or ends."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(event.kind == "failed" for event in self.events()):
                raise self.error("reports a failure")
            if not self.running:
                raise self.error("has ended")
            time.sleep(0.1)


@dataclass(kw_only=True)
class FormatsGuest(PlacedGuest):
    """A guest without disks, whose RAM is the file ``memory`` in ``folder``.

    ``folder`` also holds kernel and initramfs and takes what is written. One that ``waits`` for
    something does not boot: see :meth:`load`.
    """

    waits: Waiting = "nothing"
    _jobs: int = field(default=0, init=False, repr=False)

    def command(self) -> list[str]:
        """Return the call of QEMU; all paths are relative to ``folder``."""
        if self.socket.parent != self.folder:
            raise ValueError(f"the path is too long for a socket: {self.folder}")
        size = f"{self.mebibytes}M"
        words = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-nic", "none", "-machine", f"{MACHINE},memory-backend=ram"),
            *("-accel", ACCELERATOR, "-smp", "1", "-m", size),
            "-object",
            f"memory-backend-file,id=ram,size={size},mem-path={self.memory.name},share=on",
            *("-kernel", KERNEL, "-initrd", INITRAMFS),
            *("-append", kernel_line(self.name, self.seed)),
            *("-chardev", f"file,id=console,path={self.console.name},append=on"),
            *("-serial", "chardev:console", "-qmp", f"unix:{self.socket.name},server=on,wait=off"),
            *(["-device", "VGA"] if self.vga else []),
            *{"nothing": [], "incoming": ["-incoming", "defer"], "stopped": ["-S"]}[self.waits],
        ]
        return self.place.command(self.folder, words)

    def stop_processor(self) -> None:
        """Pause: from now on the file ``memory`` stays as it is."""
        self.monitor.command("stop")

    def go_on(self) -> None:
        """Go on after a pause."""
        self.monitor.command("cont")

    def write(self, form: Format, name: str) -> None:
        """Write the memory of the paused guest to the file ``name`` in ``folder``.

        Raises GuestError when QEMU refuses or does not finish.
        """
        (self.folder / name).unlink(missing_ok=True)
        if form in (ELF, ELF_PAGING):
            self._ask("dump-guest-memory", protocol=f"file:{name}", paging=form is ELF_PAGING)
        elif form in (KDUMP_FLAT, KDUMP_RAW):
            kind = "kdump-zlib" if form is KDUMP_FLAT else "kdump-raw-zlib"
            self._ask("dump-guest-memory", protocol=f"file:{name}", paging=False, format=kind)
        elif form is SAVEVM:
            self._save_in_disk(name)
        else:
            if form in (MAPPED_RAM, MULTIFD):
                self._set_capabilities("mapped-ram", *(["multifd"] if form is MULTIFD else []))
            mapped = form in (MAPPED_RAM, MULTIFD)
            self._ask("migrate", uri=f"file:{name}" if mapped else f"exec:cat >'{name}'")
            self._await_migration()

    def load(self, name: str, form: Format = MIGRATION) -> None:
        """Load a file of ``folder`` into a guest that ``waits`` for its form.

        That is ``incoming`` for migrations and ``stopped`` for a snapshot in a disk. The guest
        stays paused, as it was when it was written. Raises GuestError when QEMU refuses.
        """
        if form is SAVEVM:
            self._ask("blockdev-add", driver="file", filename=name, **{"node-name": _FILE_NODE})
            self._with_disk("snapshot-load")
            return
        mapped = form in (MAPPED_RAM, MULTIFD)
        if mapped:
            self._set_capabilities("mapped-ram", *(["multifd"] if form is MULTIFD else []))
        self._ask("migrate-incoming", uri=f"file:{name}" if mapped else f"exec:cat '{name}'")
        self._await_migration()

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.monitor.command(command, **arguments)
        return answer

    def _set_capabilities(self, *names: str) -> None:
        capabilities = [{"capability": name, "state": True} for name in names]
        self._ask("migrate-set-capabilities", capabilities=capabilities)

    def _await_migration(self) -> None:
        deadline = time.monotonic() + _JOB_SECONDS
        while time.monotonic() < deadline:
            answer = self._ask("query-migrate")
            if answer.get("status") == "completed":
                return
            if answer.get("status") in ("failed", "cancelled"):
                raise self.error(f"could not be migrated: {answer.get('error-desc', 'no reason')}")
            time.sleep(0.05)
        raise self.error(f"was not migrated within {_JOB_SECONDS:.0f} s")

    def _save_in_disk(self, name: str) -> None:
        """Make a small qcow2 image and save into it, as ``savevm`` does into the guest's disk."""
        image = {"driver": "file", "filename": name}
        self._work_off("blockdev-create", options={**image, "size": 0})
        self._ask("blockdev-add", **image, **{"node-name": _FILE_NODE})
        form = {"driver": "qcow2", "file": _FILE_NODE, "size": _DISK_BYTES}
        self._work_off("blockdev-create", options=form)
        self._with_disk("snapshot-save")

    def _with_disk(self, command: str) -> None:
        self._ask("blockdev-add", driver="qcow2", file=_FILE_NODE, **{"node-name": _DISK_NODE})
        self._work_off(command, tag=_SNAPSHOT, vmstate=_DISK_NODE, devices=[_DISK_NODE])
        self._ask("blockdev-del", **{"node-name": _DISK_NODE})  # writes what it kept in memory
        self._ask("blockdev-del", **{"node-name": _FILE_NODE})

    def _work_off(self, command: str, **arguments: Any) -> None:
        """Run a command that becomes a job, and wait for the job's end."""
        self._jobs += 1
        name = f"job-{self._jobs}"
        self._ask(command, **{"job-id": name}, **arguments)
        deadline = time.monotonic() + _JOB_SECONDS
        while True:
            jobs: Any = self._ask("query-jobs")
            found = next(job for job in jobs if job["id"] == name)
            if found["status"] == "concluded":
                break
            if time.monotonic() > deadline:
                raise self.error(f"did not finish {command} within {_JOB_SECONDS:.0f} s")
            time.sleep(0.05)
        self._ask("job-dismiss", id=name)
        if "error" in found:
            raise self.error(f"refuses {command}: {found['error']}")
