"""The demo: see ``scripts/demo``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from trial import cgroup, fio, guest, swap
from trial.command import CommandFailed, difffs
from trial.connection import Connection
from trial.held_hog import HeldHog, HogError
from trial.report import Part, Progress, mebibytes, part_lines, table

HOG_MIB = 256
HOG_RESIDENT_MIB = 96
SWAP_MIB = 512
ROOM_NEEDED = 1 << 30
PART_SECONDS = 180


class DemoError(Exception):
    """A part failed; the text says which and how."""


def fuse_obstacle() -> str | None:
    """Say why nothing can be mounted here, or None."""
    device = Path("/dev/fuse")
    if not device.exists() and os.geteuid() == 0 and shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", "fuse"], check=False, capture_output=True)
    if not device.exists():
        return (
            "no /dev/fuse: as root 'modprobe fuse'; in a container start it with --device /dev/fuse"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return (
            f"/dev/fuse may not be opened by user {os.getuid()}: run the demo as root or with sudo"
        )
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "no fusermount3: install the package fuse3"
    return None


def make_folder(stack: ExitStack) -> tuple[Path, str]:
    """Make the folder for everything: on tmpfs when there is room. Removal goes on the stack.

    As root on a tmpfs of its own, mounted with ``noswap``: a daemon that serves swap must not have
    its own store swapped out to itself, and ordinary tmpfs is swappable.
    """
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    roomy = available > 2 * ROOM_NEEDED
    shared = Path("/dev/shm")
    if os.geteuid() == 0 and roomy:
        folder = Path(tempfile.mkdtemp(prefix="difffs-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        options = f"noswap,mode=700,size={ROOM_NEEDED}"
        tmpfs = ["mount", "-t", "tmpfs", "-o", options, "difffs-demo", str(folder)]
        if subprocess.run(tmpfs, check=False, capture_output=True).returncode == 0:
            stack.callback(
                subprocess.run, ["umount", "--lazy", str(folder)], check=False, capture_output=True
            )
            return folder, "tmpfs"
        kind = "disk: this kernel has no tmpfs with noswap, which came with Linux 6.4"
    elif roomy and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > ROOM_NEEDED:
        folder = Path(tempfile.mkdtemp(prefix="difffs-demo-", dir=shared))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder, "tmpfs"
    else:
        kind = "disk, for want of free memory"
    base = guest.cache_folder()
    if shutil.disk_usage(base).free < ROOM_NEEDED:
        raise DemoError(f"less than 1 GiB free in {base}: make room")
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=base))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder, kind


class Demo:
    """The parts in their order, each timed; what they made is undone when ``stack`` closes."""

    def __init__(self, options: argparse.Namespace, begin: float) -> None:
        self.options = options
        self.progress = Progress(begin)
        self.parts: list[Part] = []
        self.problems: list[str] = []
        self.stack = ExitStack()
        self.statistics: dict[str, Any] | None = None
        self.parts.append(Part("set-up", time.time() - begin, "packages, .venv, guest kernel"))

    def part(self, name: str, action: Callable[[], str]) -> None:
        """Run one part; a failure is noted, and the following parts are still run."""
        self.progress.say(name)
        start = time.monotonic()
        watchdog = threading.Timer(PART_SECONDS, self.give_up, [name])
        watchdog.daemon = True
        watchdog.start()
        try:
            outcome = action()
        except (
            DemoError,
            CommandFailed,
            HogError,
            guest.GuestError,
            OSError,
            subprocess.SubprocessError,
        ) as error:
            outcome = f"FAILED: {str(error).splitlines()[0]}"
            self.problems.append(f"{name}: {error}")
        finally:
            watchdog.cancel()
        self.parts.append(Part(name, time.monotonic() - start, outcome))
        self.progress.say(f"  {outcome}")

    connection: Connection | None = None

    def give_up(self, name: str) -> None:
        """End a part that hangs, by making the mount fail for all who wait for it."""
        self.progress.say(f"{name}: no end after {PART_SECONDS} s, aborting the mount")
        if self.connection is not None:
            self.connection.abort()

    def leave_out(self, name: str, reason: str) -> None:
        """Note a part that this host cannot do, with the remedy in ``reason``."""
        self.progress.say(f"{name}: left out: {reason}")
        self.parts.append(Part(name, 0.0, f"left out: {reason}"))

    # --- the parts ------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything, with or without a mount."""
        self.folder, kind = make_folder(self.stack)
        self.store = self.folder / "store"
        self.mountpoint = self.folder / "mount"
        self.progress.say(f"everything lies in {self.folder} ({kind}) and is removed at the end")
        missing = fuse_obstacle()
        if missing is None:
            self.run_mounted()
        else:
            self.leave_out("mount", missing)
            self.run_offline()

    def run_mounted(self) -> None:
        """The whole demo."""
        self.mountpoint.mkdir()
        mounted = ExitStack()
        self.stack.push(mounted.__exit__)
        self.part("mount the store", lambda: self.mount(mounted))
        if self.problems:
            return
        self.guests_part(self.mountpoint)
        reason_not_to_swap = swap.obstacle() or cgroup.obstacle()
        with ExitStack() as swapping:
            if reason_not_to_swap is None:
                self.part("swap a process of 256 MiB", lambda: self.swapped_hog(swapping))
            else:
                self.leave_out("swap a process of 256 MiB", reason_not_to_swap)
            if (reason := fio.obstacle()) is None:
                self.part("verified fio job", self.fio_job)
            else:
                self.leave_out("verified fio job", reason)
            self.part("commit", self.commit)
            if self.hog is not None:
                self.part("swapped process verifies all", self.finish_hog)
            if reason_not_to_swap is None:
                self.part("end swap", lambda: self.close(swapping, "swapoff, loop device detached"))
        self.part("unmount", lambda: self.close(mounted, "drained and committed"))
        self.part("check the store", self.check)

    def run_offline(self) -> None:
        """What can be shown without a mount: guests on plain files, then import and export."""
        images = self.folder / "images"
        images.mkdir()
        self.guests_part(images)
        if not any(images.iterdir()):
            self.problems.append("without a mount and without guests there is nothing to show")
            return
        for image in sorted(images.iterdir()):
            self.part(f"import and export {image.name}", partial(self.round_trip, image))
        self.statistics = json.loads(difffs("stats", "--json", self.store))
        self.part("check the store", self.check)

    def mount(self, mounted: ExitStack) -> str:
        """Mount a new store; unmounting goes on the stack."""
        difffs("mount", self.store, self.mountpoint)
        mounted.callback(self.unmount)
        self.connection = Connection(self.mountpoint)
        return f"{self.store.name} on {self.mountpoint}"

    def unmount(self) -> None:
        """Unmount; by force when the ordered way fails, so that nothing is left behind."""
        try:
            difffs("umount", self.mountpoint, seconds=180)
        except (CommandFailed, subprocess.SubprocessError):
            subprocess.run(
                ["umount", "--lazy", str(self.mountpoint)], check=False, capture_output=True
            )
            raise

    def guests_part(self, folder: Path) -> None:
        """Boot the guests, or say why not."""
        name = f"{self.options.guests} guests at once"
        if (reason := guest.obstacle()) is None:
            self.part(name, lambda: self.run_guests(folder))
        else:
            self.leave_out(name, reason)

    def run_guests(self, folder: Path) -> str:
        """Boot guests with their RAM in ``folder`` and follow them until they have powered off."""
        options = self.options
        accelerator = options.accel if options.accel != "auto" else guest.accelerator()
        self.progress.say(f"  accelerator: {accelerator}")
        with ExitStack() as running:
            guests = [
                running.enter_context(
                    guest.Guest(
                        name=f"vm{number}",
                        memory=folder / f"vm{number}.mem",
                        folder=self.folder,
                        mebibytes=options.memory,
                        rounds=options.rounds,
                        seed=number,
                        accelerator=accelerator,
                    )
                )
                for number in range(1, options.guests + 1)
            ]
            self.follow(guests)
            steps = sum(event.kind == "step" for one in guests for event in one.events())
        return f"{steps} pieces of work done and verified by the guests, all powered off"

    def follow(self, guests: list[guest.Guest], seconds: float = 240) -> None:
        """Show the guests' events as they come. Raises GuestError as Guest.follow does."""
        deadline = time.monotonic() + seconds
        shown = {one.name: 0 for one in guests}
        while True:
            running = any(one.running for one in guests)
            for one in guests:
                for event in one.events()[shown[one.name] :]:
                    shown[one.name] += 1
                    words = " ".join(
                        f"{key}={event.values[key]}"
                        for key in ("kernel", "work", "round", "files", "reason")
                        if key in event.values and not (event.kind == "done" and key == "work")
                    )
                    self.progress.say(f"  {one.name} {event.kind} {words}")
            if not running:
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        for one in guests:
            one.wait_until_off(seconds=0)

    hog: HeldHog | None = None

    def swapped_hog(self, swapping: ExitStack) -> str:
        """Run a process that needs more memory than it may have resident; leave it swapped out."""
        loop = swapping.enter_context(swap.LoopSwap(self.mountpoint / "swap", SWAP_MIB << 20))
        group = swapping.enter_context(
            cgroup.MemoryCgroup(f"difffs-demo-{os.getpid()}", HOG_RESIDENT_MIB << 20)
        )
        hog = swapping.enter_context(HeldHog(group, HOG_MIB, rounds=2))
        self.hog = hog
        verified = hog.verified()
        out = loop.used()
        if out < (HOG_MIB - HOG_RESIDENT_MIB) << 19:  # half of what cannot be resident
            others = ", ".join(loop.others()) or "nowhere else"
            raise DemoError(f"only {mebibytes(out)} were swapped to the store (others: {others})")
        return (
            f"{verified:,} pages verified with {HOG_RESIDENT_MIB} MiB resident,"
            f" {mebibytes(out)} swapped out to the store"
        )

    def finish_hog(self) -> str:
        """Let the hog verify all its pages once more, which brings them back from the store."""
        assert self.hog is not None
        return f"{self.hog.finish():,} pages verified after they came back"

    def fio_job(self) -> str:
        """Run fio on the mount."""
        folder = self.mountpoint / "fio"
        folder.mkdir()
        result = fio.run(folder)
        return (
            f"{mebibytes(result.written)} written at {mebibytes(result.write_rate)}/s,"
            f" verified at {mebibytes(result.read_rate)}/s"
        )

    def commit(self) -> str:
        """Bring everything written to the store, then take the figures of the table."""
        for path in sorted(self.mountpoint.rglob("*")):
            if path.is_file():
                descriptor = os.open(path, os.O_RDWR)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self.statistics = json.loads(difffs("stats", "--json", self.mountpoint))
        return "fsync of every file"

    @staticmethod
    def close(stack: ExitStack, words: str) -> str:
        """Close a stack now instead of at the end; the last to be opened first."""
        stack.close()
        return words

    def check(self) -> str:
        """Every invariant and checksum of the store."""
        difffs("check", self.store, seconds=180)
        return "clean: every invariant holds, every payload decodes to its page"

    def round_trip(self, image: Path) -> str:
        """Import an image and compare its export."""
        difffs("import", self.store, image)
        back = image.with_suffix(".back")
        difffs("export", self.store, image.name, back)
        if back.read_bytes() != image.read_bytes():
            raise DemoError(f"the export of {image.name} differs from the image")
        back.unlink()
        return f"{mebibytes(image.stat().st_size)} imported, exported, bit-identical"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the options that ``scripts/demo`` documents."""
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.add_argument("--guests", type=int, default=2, metavar="N")
    parser.add_argument("--memory", type=int, default=160, metavar="MIB")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--accel", choices=("auto", "tcg", "kvm"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.guests < 1 or options.rounds < 1 or options.memory < 96:
        parser.error("at least one guest, one round and 96 MiB")
    return options


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupted(number: int, _: object) -> None:
    """Turn a signal into an exception, so that everything is undone, once and undisturbed."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(arguments: list[str]) -> int:
    """Run the demo; 0 when every part that this host can do went well."""
    options = parse(arguments)
    begin = float(os.environ.get("DIFFFS_DEMO_BEGIN") or time.time())
    for number in SIGNALS:
        signal.signal(number, interrupted)
    demo = Demo(options, begin)
    status = 0
    try:
        with demo.stack:
            demo.run()
    except KeyboardInterrupt:
        print("interrupted; what was made has been undone", file=sys.stderr)
        return 130
    except (DemoError, CommandFailed, OSError, subprocess.SubprocessError) as error:
        demo.problems.append(str(error))
    total = time.time() - begin
    demo.parts.append(Part("all", total, ""))
    print()
    if demo.statistics is not None:
        print(table(demo.statistics, demo.parts))
    else:
        print("\n".join(part_lines(demo.parts)))
    if options.json is not None:
        report = {
            "schema_version": 1,
            "statistics": demo.statistics,
            "parts": [
                {"name": p.name, "seconds": p.seconds, "outcome": p.outcome} for p in demo.parts
            ],
            "problems": demo.problems,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    for problem in demo.problems:
        print(f"\nPROBLEM {problem}", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
