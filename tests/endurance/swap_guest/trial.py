"""A guest whose only swap is a store, and whose programs need more memory than it has.

The guest is a whole Debian (``booting.disk``) with difffs installed and its unit started, so that
all of what swaps is on trial: the kernel, the loop device, the daemon, and the file system that its
store lies on. A hung task, or an oops, panics it, which its console shows.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.data import generate
from benchmark.generator import PAGE
from booting import disk
from booting.disk import Contents, Disks
from booting.guest import BootedGuest, Report
from trial import guest
from trial.guest import GuestError

CHECKOUT = Path(__file__).resolve().parents[3]
GUEST_FILES = Path(__file__).parent / "guest-files"
STORES = ("disk", "tmpfs")
BESIDE = ("nothing", "forks", "files")
PROGRAMS = 2
"""That use memory, an equal part each."""
RAM_MIB = 512
_OVERHEAD_SECONDS = 3600.0
"""Beside the minutes of work: to boot, fill memory, look at all of it, bring it back, check."""
_SILENCE_SECONDS = 300.0
"""After which a guest is given up that neither tells of its work nor panics."""
LIMITS_MIB = {"disk": 300, "tmpfs": 0}
"""What leaves daemon, kernel and file system the memory that they need."""
REALTIME = {"disk": False, "tmpfs": True}
"""Where the daemon alone needs memory that nobody else gets."""
_NO_NOSWAP = {"bookworm": "linux-image-cloud-amd64"}
"""Releases whose own kernel has no tmpfs that cannot be swapped out, and the package that has."""
_IO_ERROR = re.compile(r"(Read|Write)-error on swap-device|I/O error")


@dataclass(frozen=True, slots=True)
class Trial:
    """What a guest is to do."""

    store: str
    """What the store lies on: ``disk``, or ``tmpfs``."""
    beside: str
    """What works beside the programs that use memory."""
    minutes: float
    more_mib: int
    """What the programs use beyond the guest's RAM."""
    limit_mib: int
    """Of the memory of all services but difffs's; 0 is none."""
    realtime: bool = False
    """Whether the daemon has real-time scheduling, and so a reserve of memory."""

    @property
    def program_bytes(self) -> int:
        """What each program uses, in whole pages."""
        return ((RAM_MIB + self.more_mib) << 20) // PROGRAMS // PAGE * PAGE


@dataclass(slots=True)
class Outcome:
    """What a guest came to."""

    trial: Trial
    settings: dict[str, str] = field(default_factory=dict)
    """Of its kernel, its swap area, and what the store lies on."""
    work: dict[str, str] = field(default_factory=dict)
    """Seconds, bytes swapped out at most, and the kernel's counters over the work."""
    programs: list[dict[str, str]] = field(default_factory=list)
    """How each ended, and the last that it counted."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """``difffs stats`` while the memory was full."""
    store: dict[str, str] = field(default_factory=dict)
    """State of the unit at the end, and what ``difffs check`` said afterwards."""
    kernel: list[str] = field(default_factory=list)
    """Lines of the kernel about memory, errors and stalls."""
    journal: list[str] = field(default_factory=list)
    """Lines of the unit."""
    finished: bool = False
    last: str = ""
    """The end of the console of a guest that did not finish."""
    faults: list[str] = field(default_factory=list)

    def take(self, report: Report) -> None:
        """Note one thing that the guest told."""
        match report.kind:
            case "settings":
                self.settings = report.values
            case "work":
                self.work = report.values
            case "program":
                self.programs.append(report.values)
            case "statistics":
                self.statistics = json.loads(report.values["json"] or "{}")
            case "store":
                self.store = report.values
            case "kernel":
                self.kernel.append(report.values["text"])
            case "journal":
                self.journal.append(report.values["text"])
            case "done":
                self.finished = True

    def judge(self) -> None:
        """Find what must not have been."""
        faults = self.faults
        if not self.finished:
            faults.append(f"the guest did not live to its end\n{self.last}")
        for name in ("hung_task_panic", "panic_on_oops"):
            if self.settings.get(name) != "1":
                faults.append(f"{name} was not set: nothing is proven")
        if self.trial.realtime and self.settings.get("realtime") != "True":
            faults.append("the daemon was not scheduled in real time: nothing is proven")
        if self.work.get("oom_kill", "0") != "0":
            faults.append(f"processes were killed for want of memory: {self.work['oom_kill']}")
        for program in self.programs:
            if (program["code"], program["state"]) != ("0", "done"):
                faults.append(f"a program did not end well: {program}")
        faults += [line for line in self.kernel if _IO_ERROR.search(line)]
        if self.finished:
            self._judge_end()

    def _judge_end(self) -> None:
        if len(self.programs) != PROGRAMS + (self.trial.beside != "nothing"):
            self.faults.append(f"programs are missing: {self.programs}")
        if int(self.work["peak_swapped"]) < self.trial.more_mib << 20:
            self.faults.append(f"hardly anything was swapped out: {self.work}")
        if "ActiveState=active" not in self.store["unit"] or self.store["code"] != "0":
            self.faults.append(f"the store is not as it should be: {self.store}")

    @property
    def stalls(self) -> int:
        """How often a task of the whole machine had to reclaim memory itself (direct reclaim)."""
        return sum(int(value) for name, value in self.work.items() if name.startswith("allocstall"))

    def count(self, name: str) -> int:
        """Sum of what the programs counted under a name."""
        return sum(int(program.get(name, 0)) for program in self.programs)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        trial, work = self.trial, self.work
        lines = [
            f"swap-guest: store on {trial.store}, beside {trial.beside}, limit of other services"
            f" {f'{trial.limit_mib} MiB' if trial.limit_mib else 'none'}"
            f"{', the daemon scheduled in real time' if trial.realtime else ''}"
        ]
        if self.settings:
            lines.append(
                f"  kernel {self.settings['kernel']}, {int(self.settings['memory']) >> 20} MiB of"
                f" memory to use, {PROGRAMS * trial.program_bytes >> 20} MiB used;"
                f" {' '.join(self.settings['store'].split())}"
            )
        if work:
            lines += [
                f"  {work['filling_seconds']} s to fill, {work['working_seconds']} s at work,"
                f" {work['last_look_seconds']} s for the last look; the guest's own watch was"
                f" held up for {work['longest_look']} s at most",
                f"  {self.count('used'):,} pages used, of which every eighth was replaced, and"
                f" {self.count('verified'):,} more verified",
                f"  swapped out at most {int(work['peak_swapped']) >> 20} MiB; pages out"
                f" {int(work['pswpout']):,}, in {int(work['pswpin']):,}; killed for want of"
                f" memory: {work['oom_kill']}; had to find memory for themselves when the machine"
                f" was short: {self.stalls} times",
            ]
        for program in self.programs:
            if program["name"] in BESIDE:
                counts = {key: value for key, value in program.items() if key != "name"}
                lines.append(f"  {program['name']}: {counts}")
        if sizes := self.statistics.get("bytes"):
            lines.append(
                f"  in the store {sizes['logical'] >> 20} MiB as {sizes['stored'] >> 20} MiB"
            )
        lines += [f"  kernel: {line}" for line in self.kernel]
        return "\n".join(lines + [f"  VIOLATION: {fault}" for fault in self.faults])


def _end_of(console: Path, lines: int = 60) -> str:
    text = console.read_text(errors="replace") if console.exists() else ""
    return "".join(f"  | {line}\n" for line in text.splitlines()[-lines:])


class SwapGuest:
    """A guest that is made once, and booted from copies of its disks."""

    def __init__(
        self,
        folder: Path,
        more_mib: int,
        seed: int,
        say: Callable[[str], None],
        *,
        newest_kernel: bool,
    ) -> None:
        """Make it in ``folder``; with ``newest_kernel`` it has one for a store on tmpfs.

        ``DiskError`` and ``formats.debian_root.RootError`` tell what went wrong.
        """
        self._folder = folder
        self._more_mib = more_mib
        self._say = say
        codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
        newer = _NO_NOSWAP.get(codename) if newest_kernel else None
        size = Trial("disk", "nothing", 0, more_mib, 0).program_bytes
        say(f"making {PROGRAMS * size >> 20} MiB of pages")
        images = {}
        for number in range(1, PROGRAMS + 1):
            images[f"var/lib/pages/{number}"] = folder / f"pages-{number}"
            generate(folder / f"pages-{number}", size, PROGRAMS * seed + number)
        contents = Contents(
            files=GUEST_FILES,
            enabled=("difffs-trial.service",),
            mounts=("tmpfs /mem tmpfs noswap,size=60%,mode=755,nofail 0 0",),
            swap_stores={"disk": "/srv/swap", "tmpfs": "/mem/swap"},
            copied={**images, "usr/local/bin/hog.py": CHECKOUT / "scripts/benchmark/hog.py"},
            backports=(newer,) if newer else (),
            root_mib=1536 + PROGRAMS * size // (1 << 20),
            swap_mib=2048,
        )
        self._disks = disk.build(guest.cache_folder(), folder, say, contents)
        for image in images.values():
            image.unlink()

    def run(self, trial: Trial, *, newest_kernel: bool = False) -> Outcome:
        """Boot it, have it work, and judge what came of it.

        Its kernel is that of the release, if that will do. ``console`` and ``swap.raw`` of the
        last run stay in the folder.
        """
        assert trial.more_mib <= self._more_mib
        newest = newest_kernel or trial.store == "tmpfs"
        outcome = Outcome(trial)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            disks = self._copies(Path(name))
            booted = BootedGuest(
                "swap",
                Path(name, "no-file"),
                Path(name),
                RAM_MIB,
                disks=disks,
                kernel=disks.kernels[-1 if newest else 0],
                append=(
                    *("loglevel=5", "sysctl.kernel.hung_task_panic=1"),
                    *("sysctl.kernel.panic_on_oops=1", "oops=panic"),
                    f"difffs.store={trial.store}",
                    f"difffs.minutes={trial.minutes}",
                    f"difffs.beside={trial.beside}",
                    f"difffs.bytes={trial.program_bytes}",
                    f"difffs.limit={trial.limit_mib << 20}",
                    f"difffs.realtime={int(trial.realtime)}",
                ),
                seconds=_OVERHEAD_SECONDS + trial.minutes * 60,
                silence=_SILENCE_SECONDS,
            )
            try:
                with booted:
                    for report in booted.reports():
                        outcome.take(report)
                        if report.kind == "beat":
                            self._say(str(report.values))
            except GuestError as error:
                outcome.last = str(error)
            finally:
                if not outcome.finished:
                    outcome.last += _end_of(booted.console)
                for kept in (booted.console, disks.swap):
                    if kept.exists():
                        kept.replace(self._folder / kept.name)
        outcome.judge()
        return outcome

    def _copies(self, folder: Path) -> Disks:
        copies = []
        for image in (self._disks.root, self._disks.swap):
            copies.append(folder / image.name)
            subprocess.run(["cp", "--sparse=always", image, copies[-1]], check=True)
        return Disks(self._disks.kernels, *copies)

    def keep(self, folder: Path) -> None:
        """Copy what the last run has left."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in (self._folder / "swap.console", self._folder / "swap.raw"):
            if path.exists():
                subprocess.run(["cp", "--sparse=always", path, folder], check=True)
