"""Boots guests, pauses them twice and has their memory written in every format."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trial.guest import GuestError

from formats.libvirt import LibvirtGuest
from formats.machine import FormatsGuest, PlacedGuest, sha256_of
from formats.manifest import FileRecord, Manifest
from formats.place import Place
from formats.plan import (
    MIGRATION,
    PAUSES,
    Format,
    Waiting,
    file_name,
    formats_of,
    save_formats_of,
    tool_name,
)


@dataclass
class Making:
    """One run: ``work`` holds kernel, initramfs and RAM, ``folder`` gets the files."""

    folder: Path
    work: Path
    manifest: Manifest
    mebibytes: int
    seed: int
    seconds: float
    vga: bool
    say: Callable[[str], None]
    tools: set[str] = field(default_factory=set)
    """That have written their files in this run."""

    def begin(self, tool: str) -> None:
        """Remove what a tool wrote in an earlier run: it does not belong to what comes."""
        self.tools.add(tool)
        self.manifest.forget(tool)

    def keep(self, made: FileRecord) -> None:
        """Move a file that is complete to its folder, and note it in the manifest."""
        source = self.work / made.file
        partial = self.folder / (made.file + ".partial")
        try:
            _copy_sparse(source, partial)
            partial.replace(self.folder / made.file)
        finally:
            partial.unlink(missing_ok=True)
        source.unlink()
        self.manifest.add(made)
        self.say(f"{made.file}: {made.bytes / 2**20:.1f} MiB in {made.seconds:.1f} s")

    def record(
        self, name: str, form: str, program: str, version: str, pause: int, raw: str, began: float
    ) -> FileRecord:
        """Describe a file of ``work`` that was begun at ``began`` (``time.monotonic``)."""
        seconds = round(time.monotonic() - began, 2)
        path = self.work / name
        return FileRecord(
            file=name,
            format=form,
            program=program,
            version=version,
            guest=raw.partition(".pause-")[0],
            pause=pause,
            raw=raw,
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
            seconds=seconds,
        )


def write_with_qemu(making: Making, place: Place) -> None:
    """Boot a guest in a place and write both pauses in all formats of its QEMU.

    A QEMU that has migrated its guest must let it run before it migrates again. So further formats
    of migration come from a second QEMU, which has loaded the first stream and never ran. Raises
    GuestError when a guest fails, or when the memory is not what it was at the pause.
    """
    version, numbers = place.qemu_version(making.work)
    tool = tool_name("qemu", numbers)
    forms = formats_of(numbers)
    if tool in making.tools:
        making.say(f"{tool} is what wrote the files before: not again")
        return
    making.begin(tool)
    with _guest(making, place, tool) as guest:
        making.say(f"{tool}: booting a guest of {making.mebibytes} MiB")
        guest.wait_for_tick()
        making.say(_at_work(tool, guest))
        for pause in PAUSES:
            if pause != PAUSES[0]:
                guest.go_on()
                guest.work(making.seconds)
                guest.wait_for_tick()
            guest.stop_processor()
            _write_pause(making, guest, tool, version, pause, forms)


def _write_pause(
    making: Making,
    guest: FormatsGuest,
    tool: str,
    version: str,
    pause: int,
    forms: list[Format],
) -> None:
    began = time.monotonic()
    raw = file_name(tool, pause, "raw")
    _copy_sparse(guest.memory, making.work / raw)
    of_raw = making.record(raw, "raw", "QEMU", version, pause, raw, began)
    making.keep(of_raw)
    stream = making.work / "stream"
    for form in forms:
        name = file_name(tool, pause, form.name)
        began = time.monotonic()
        if form.ends and form is not MIGRATION:
            with _guest(making, guest.place, "second", waits="incoming") as second:
                second.load(stream.name)
                began = time.monotonic()
                second.write(form, name)
                _check(second, of_raw, form)
        else:
            guest.write(form, name)
            if form is MIGRATION:
                shutil.copyfile(making.work / name, stream)
        making.keep(making.record(name, form.name, "QEMU", version, pause, raw, began))
    _check(guest, of_raw, forms[-1])
    stream.unlink(missing_ok=True)


def write_with_libvirt(making: Making, place: Place) -> None:
    """Boot a domain in a place and save both pauses in all formats of ``virsh save``.

    Saving ends a domain. So it is restored, without running, from what was saved first, and its
    memory compared, before it is saved in the next format; and it runs on from there to the second
    pause. Raises GuestError when it fails, or when the memory is not what it was at the pause.
    """
    with LibvirtGuest(
        *("libvirt", making.work / "unused", making.work, making.mebibytes, "tcg"),
        place=place,
        seed=making.seed,
        vga=making.vga,
    ) as guest:
        version, numbers = guest.version()
        tool = tool_name("libvirt", numbers)
        making.begin(tool)
        making.say(f"{tool}: booting a domain of {making.mebibytes} MiB")
        guest.create()
        guest.wait_for_tick()
        making.say(_at_work(tool, guest))
        for pause in PAUSES:
            if pause != PAUSES[0]:
                guest.restore("saved", paused=False)
                guest.work(making.seconds)
                guest.wait_for_tick()
            guest.stop_processor()
            _save_pause(making, guest, tool, version, pause, save_formats_of(numbers))


def _save_pause(
    making: Making,
    guest: LibvirtGuest,
    tool: str,
    version: str,
    pause: int,
    forms: dict[str, tuple[str, ...]],
) -> None:
    began = time.monotonic()
    raw = file_name(tool, pause, "raw")
    _copy_sparse(guest.memory_file(), making.work / raw)
    of_raw = making.record(raw, "raw", "libvirt", version, pause, raw, began)
    making.keep(of_raw)
    first = making.work / "saved"
    first.unlink(missing_ok=True)
    for form, words in forms.items():
        name = file_name(tool, pause, f"save-{form}")
        if first.exists():
            guest.restore(first.name, paused=True)
            if sha256_of(guest.memory_file()) != of_raw.sha256:
                raise GuestError(f"restored before save-{form}, it is not what {raw} holds")
        began = time.monotonic()
        guest.save(name, *words)
        made = making.record(name, f"save-{form}", "libvirt", version, pause, raw, began)
        if not first.exists():
            _copy_sparse(making.work / name, first)
        making.keep(made)


def _at_work(tool: str, guest: PlacedGuest) -> str:
    ready = next(event for event in guest.events() if event.kind == "ready")
    return f"{tool}: the guest works, Linux {ready.values['kernel']}, {ready.values['free']} % free"


@contextmanager
def _guest(
    making: Making, place: Place, name: str, waits: Waiting = "nothing"
) -> Iterator[FormatsGuest]:
    """Run a guest for the length of a block; its RAM goes with it."""
    memory = making.work / f"{name}.ram"
    try:
        with FormatsGuest(
            *(name, memory, making.work, making.mebibytes, "tcg"),
            place=place,
            seed=making.seed,
            vga=making.vga,
            waits=waits,
        ) as guest:
            yield guest
    finally:
        memory.unlink(missing_ok=True)


def _check(guest: FormatsGuest, raw: FileRecord, form: Format) -> None:
    if sha256_of(guest.memory) != raw.sha256:
        raise GuestError(f"after {form.name} the memory is not what {raw.file} holds")


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a file and keep its holes: pages of zeros and gaps of mapped-ram are most of some."""
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            end = os.lseek(reader.fileno(), at, os.SEEK_HOLE)
            while at < end:
                block = os.pread(reader.fileno(), min(1 << 20, end - at), at)
                at += os.pwrite(writer.fileno(), block, at)
