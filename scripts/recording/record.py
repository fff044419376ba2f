"""Runs a guest on a new store's mount and samples the mount until the time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from collection.collect import BUILD_FOLDER
from collection.disks import Disk
from collection.guests import CollectedGuest
from trial import guest

from difffs.mount.live import read_statistics
from difffs.mount.write_back import write_back
from difffs.page_cache import cached_bytes_of
from difffs.study.live import mounted
from difffs.study.peers.host import kernel
from difffs.study.recording import Event, Recording, sample
from recording.options import Options

BOOT_SECONDS = 1800.0
_TICK = 0.05


def make_guest(options: Options, mountpoint: Path, folder: Path) -> guest.QemuGuest:
    """Return the guest, not booted yet, with its RAM in the mount.

    Raises DiskError or GuestError when what it boots from is not there.
    """
    memory = mountpoint / "guest.mem"
    accelerator = options.accelerator if options.accelerator != "auto" else guest.accelerator()
    if options.collection is None:
        if reason := guest.obstacle():
            raise guest.GuestError(reason)
        return guest.Guest(
            "guest",
            memory,
            folder,
            options.mebibytes,
            accelerator,
            rounds=1_000_000,  # it is ended before
        )
    member = options.member
    disk = Disk.open(options.collection / BUILD_FOLDER / member.system_name)
    return CollectedGuest(
        member.name,
        memory,
        folder,
        options.mebibytes,
        accelerator,
        disk=disk,
        work=member.work,
        load=member.load,
        seed=member.seed,
    )


def describe(options: Options, one: guest.QemuGuest) -> dict[str, Any]:
    """What a reader of the recording should know."""
    about: dict[str, Any] = {
        "mebibytes": one.mebibytes,
        "accelerator": one.accelerator,
        "recipe": options.recipe,
        "interval": options.interval,
        "send": options.send,
        "host_kernel": kernel(),
    }
    if isinstance(one, CollectedGuest):
        about |= {"system": one.disk.release, "work": one.work, "load": one.load, "seed": one.seed}
    elif isinstance(one, guest.Guest):
        about |= {"system": "small", "work": one.work}
    return about


@contextmanager
def _sent(mountpoint: Path, seconds: float) -> Iterator[None]:
    """Have the kernel send what was written to the mount every so often; 0: leave it alone."""
    end = threading.Event()

    def send() -> None:
        while not end.wait(seconds):
            write_back(mountpoint)

    if not seconds:
        yield
        return
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def record(options: Options, folder: Path, say: Callable[[str], None]) -> Recording:
    """Boot the guest, let it work, write samples and events to the file; return all of it.

    Raises GuestError when the guest fails or ends.
    """
    with mounted(folder / "store", folder / "mount", options.recipe) as mountpoint:
        one = make_guest(options, mountpoint, folder)
        name = (
            f"{options.member.corpus}/{options.member.name}"
            if options.collection
            else "small guest"
        )
        recorded = Recording(name, describe(options, one))
        say(f"booting {name}, {one.mebibytes} MiB, {one.accelerator}")
        with options.file.open("w") as file:
            recorded.begin(file)
            with one, _sent(mountpoint, options.send):
                _follow(options, one, mountpoint, recorded, file, say)
        return recorded


def _follow(
    options: Options,
    one: guest.QemuGuest,
    mountpoint: Path,
    recorded: Recording,
    file: TextIO,
    say: Callable[[str], None],
) -> None:
    began = time.monotonic()

    def elapsed() -> float:
        return round(time.monotonic() - began, 3)

    end = began + BOOT_SECONDS
    due = began
    seen = 0
    working = False
    while (now := time.monotonic()) < end:
        if now >= due:
            due += options.interval * (1 + int((now - due) / options.interval))
            statistics = read_statistics(mountpoint)
            cached = cached_bytes_of(one.memory)
            recorded.append(file, sample(statistics, elapsed(), cached))
        for event in one.events()[seen:]:
            seen += 1
            text = " ".join(
                [
                    event.kind,
                    *(event.values[key] for key in ("work", "number") if key in event.values),
                ]
            )
            recorded.append(file, Event(elapsed(), text))
            say(f"{text}, saving {recorded.samples[-1].saving:.1%}")
            if event.kind == "failed":
                raise one.error("reports a failure")
            if event.kind == "ready" and not working:
                working = True
                end = now + options.seconds
        if not one.running:
            raise one.error("has ended")
        time.sleep(_TICK)
    if not working:
        raise one.error(f"was not up within {BOOT_SECONDS:.0f} s")
