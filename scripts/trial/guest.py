"""Guests under QEMU, watched through their serial console and QMP."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from trial.monitor import GuestError as GuestError  # whoever uses guests finds it here
from trial.monitor import Monitor
from trial.suspension import await_migration, load_devices, save_devices

CHECKOUT = Path(__file__).resolve().parents[2]
RUN_GUEST = CHECKOUT / "vm-configs" / "run-guest"
_LINE = re.compile(r"DIFFFS-GUEST (\w+) (.*)")


@dataclass(frozen=True, slots=True)
class Event:
    """One ``DIFFFS-GUEST`` line of the console: ``step``, ``{"work": "sort", "cs": "92", ...}``."""

    kind: str
    values: Mapping[str, str]


def cache_folder() -> Path:
    """Where the built guest lies: ``$DIFFFS_CACHE`` or ``.cache`` in the checkout."""
    return Path(os.environ.get("DIFFFS_CACHE") or CHECKOUT / ".cache")


def obstacle() -> str | None:
    """Say why no guest can be booted here, or None."""
    if shutil.which("qemu-system-x86_64") is None:
        return "no QEMU (install the package qemu-system-x86)"
    if not (cache_folder() / "guest" / "vmlinuz").exists():
        return "no guest kernel (run scripts/make-guest)"
    return None


@functools.cache
def accelerator() -> str:
    """Return ``kvm`` where a guest really boots under it, else ``tcg``; tried once a host boot."""
    probe = [str(RUN_GUEST), "--probe", "--guest", str(cache_folder() / "guest")]
    done = subprocess.run(
        probe, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    if done.returncode != 0:
        raise GuestError(f"run-guest --probe: {done.stderr.strip()}")
    return done.stdout.strip()


@dataclass
class QemuGuest:
    """A QEMU process whose RAM is the file ``memory``; leaving the context ends it.

    ``folder`` takes the console log and the monitor's socket. What is booted is for subclasses to
    say: they implement :meth:`command`.
    """

    name: str
    memory: Path
    folder: Path
    mebibytes: int = 128
    accelerator: str = "auto"
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _monitor: Monitor | None = field(default=None, init=False, repr=False)

    @property
    def console(self) -> Path:
        """The log of the serial console; one that is resumed goes on in the same file."""
        return self.folder / f"{self.name}.console"

    def command(self) -> list[str]:
        """Return the command that becomes the QEMU process, with a monitor at ``socket``."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the environment of the QEMU process."""
        return dict(os.environ)

    def __enter__(self) -> Self:
        self.socket.unlink(missing_ok=True)
        command, environment = self.command(), self.environment()
        with self._errors.open("wb") as errors:
            # a session of its own: Ctrl-C is for us, and we end the guest in order
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env=environment,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def chosen_accelerator(self) -> str:
        """Return ``kvm`` or ``tcg``, whatever ``accelerator`` says."""
        return accelerator() if self.accelerator == "auto" else self.accelerator

    @property
    def socket(self) -> Path:
        """Where the monitor listens."""
        path = self.folder / f"{self.name}.qmp"
        if len(os.fsencode(path)) < 100:  # the kernel takes 107 bytes
            return path
        return Path(tempfile.gettempdir()) / f"difffs-{os.getpid()}-{self.name}.qmp"

    @property
    def _errors(self) -> Path:
        return self.folder / f"{self.name}.errors"

    def stop(self) -> None:
        """End QEMU, whatever it is doing."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        self.socket.unlink(missing_ok=True)
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)

    @property
    def running(self) -> bool:
        """Whether QEMU still runs."""
        return self.process is not None and self.process.poll() is None

    def events(self) -> list[Event]:
        """What the guest has said so far, whole lines only."""
        try:
            text = self.console.read_text(errors="replace")
        except FileNotFoundError:
            return []
        found = []
        for line in text[: text.rfind("\n") + 1].splitlines():
            if match := _LINE.search(line):
                pairs = (word.partition("=") for word in match[2].split())
                found.append(Event(match[1], {key: value for key, _, value in pairs}))
        return found

    def follow(
        self, seconds: float, start: int = 0, *, silence: float = math.inf
    ) -> Iterator[Event]:
        """Yield events from number ``start`` on as they come; end when QEMU has ended.

        Raises GuestError after ``seconds``, when none has come for ``silence`` seconds, or when the
        guest itself reports a failure.
        """
        deadline = time.monotonic() + seconds
        heard = time.monotonic()
        seen = start
        while True:
            running = self.running  # asked first, so that the last lines are not missed
            for event in self.events()[seen:]:
                seen += 1
                heard = time.monotonic()
                if event.kind == "failed":
                    raise self.error(f"reports a failure: {dict(event.values)}")
                yield event
            if not running:
                return
            if time.monotonic() > deadline:
                raise self.error(f"did not finish within {seconds:.0f} s")
            if time.monotonic() - heard > silence:
                raise self.error(f"has said nothing for {silence:.0f} s")
            time.sleep(0.05)

    def wait_for(self, kind: str, seconds: float = 120, start: int = 0) -> Event:
        """Wait for the first event of a kind among those from number ``start`` on."""
        for event in self.follow(seconds, start):
            if event.kind == kind:
                return event
        raise self.error(f"ended without '{kind}'")

    def error(self, text: str) -> GuestError:
        """Return an error about this guest, with the last lines of QEMU and the console."""
        lines: list[str] = []
        for path in (self._errors, self.console):
            with contextlib.suppress(FileNotFoundError):
                lines += path.read_text(errors="replace").splitlines()[-5:]
        return GuestError(
            f"guest {self.name} {text}\n" + "\n".join(f"  | {line}" for line in lines)
        )

    @property
    def monitor(self) -> Monitor:
        """The QMP connection, made when first asked for."""
        if self._monitor is None:
            self._monitor = Monitor(self.socket, lambda: self.running)
        return self._monitor


@dataclass
class Guest(QemuGuest):
    """The small guest that ``scripts/make-guest`` builds, booted by ``vm-configs/run-guest``.

    ``work``, ``rounds``, ``seed`` and ``end`` are explained in ``vm-configs/guest/init``.
    """

    work: str = "archive,copies,sort,words,noise"
    rounds: int = 1
    seed: int = 1
    end: str = "off"
    machine: str = "q35"
    incoming: bool = False
    ram: str = "file"
    """Or ``plain``, or ``mergeable`` for KSM: then ``memory`` is not used."""
    clone: bool = False
    """One of several that go on from a state: what it writes to its RAM is its own."""

    def command(self) -> list[str]:
        """Return the call of ``run-guest``."""
        append = (
            f"difffs.name={self.name} difffs.work={self.work} difffs.rounds={self.rounds}"
            f" difffs.seed={self.seed} difffs.end={self.end}"
        )
        return [
            str(RUN_GUEST),
            *(("--memory", str(self.memory)) if self.ram == "file" else ("--ram", self.ram)),
            *("--size", f"{self.mebibytes}M"),
            *("--machine", self.machine, "--accel", self.chosen_accelerator()),
            *("--append", append, "--serial", str(self.console), "--qmp", str(self.socket)),
            *(["--clone"] if self.clone else ["--incoming"] if self.incoming else []),
        ]

    def wait_until_off(self, seconds: float = 120) -> Event:
        """Wait until the guest has done its work and powered off; return its ``done``."""
        last = None
        for event in self.follow(seconds):
            if event.kind == "done":
                last = event
        if last is None or last.values.get("ok") != "1":
            raise self.error("ended without having done its work")
        return last

    # --- suspend and resume: RAM stays in its file, only the devices' state is saved -------------

    def suspend(self, state: Path) -> None:
        """Stop the guest, save its devices' state to a file and end QEMU."""
        self.monitor.command("stop")
        with self._with_console():
            save_devices(self.monitor, state)
        self.monitor.command("quit")
        assert self.process is not None
        self.process.wait(30)

    def resume(self, state: Path) -> None:
        """In a guest started with ``incoming``: load a saved state and go on."""
        with self._with_console():
            load_devices(self.monitor, state)
        self.monitor.command("cont")

    # --- the same with all of RAM in the stream, as `virsh save` and live migration do it ---------

    def save(self, stream: Path) -> None:
        """Stop the guest and write its memory and devices to a migration stream; it stays."""
        self.monitor.command("stop")
        self.monitor.command("migrate", uri=f"exec:cat > '{stream}'")
        with self._with_console():
            await_migration(self.monitor)

    def load(self, stream: Path) -> None:
        """In a guest started with ``incoming``: load such a stream and go on."""
        self.monitor.command("migrate-incoming", uri=f"exec:cat '{stream}'")
        with self._with_console():
            await_migration(self.monitor)
        self.monitor.command("cont")

    @contextlib.contextmanager
    def _with_console(self) -> Iterator[None]:
        """Add the last console lines to an error of the monitor's."""
        try:
            yield
        except GuestError as error:
            raise self.error(str(error)) from None
