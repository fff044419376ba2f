"""A store that is written, discarded and synchronised for long, and whose daemon is killed again
and again: nothing is lost, and neither slack nor memory grows.

In the first half of the time daemons live for some seconds only. The last one lives through the
second half, so that what it takes can be told to grow or not; at the end it is killed as well.

With a tier the store is refined all the time, and at the end compared with one that was made anew.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from difffs.mount.live import read_statistics
from tests.endurance.full_disk.model import PAGE
from tests.endurance.soak.clients import Client
from tests.endurance.soak.refining import Passes, Refined, compare
from tests.integration.harness import Mounted

MOST_SLACK = 0.10
"""Of the payloads' bytes."""
MOST_GROWTH = 0.05
"""Of the daemon's memory in the second half."""
_TELLING_SECONDS = 1800
"""A shorter run ends while the store and the daemon's caches still fill: what it measured is told,
and not judged."""
_VOLUMES = 4
_BEGINNING = 1 / 20
"""Of the time, in which the store fills and its slack is not looked at."""
_WARMING = 1 / 12
"""Of the time, by which the last daemon begins before the second half."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a mount told of itself."""

    at: float
    """Seconds since the beginning."""
    life: int
    """The how manyth daemon."""
    payload: int
    slack: int
    """Right after a commit."""
    slack_before: int
    """Right before it: with the old sides of extents that were rewritten since the last one."""
    metadata: int
    memory: int
    """The daemon's own, without its write buffer, which is bounded, and given back when unused."""
    buffer: int
    """What waits in its write buffer."""


@dataclass(slots=True)
class Report:
    """What was done, measured and found."""

    seed: int
    seconds: float
    kills: int = 0
    written: int = 0
    discarded: int = 0
    synchronised: int = 0
    compared: int = 0
    refined: Refined | None = None
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def slack_shares(self) -> list[float]:
        """Of all samples but those of the beginning."""
        return [each.slack / max(1, each.payload) for each in self._late()]

    def most_before(self) -> float:
        """Likewise, before commits."""
        return max((each.slack_before / max(1, each.payload) for each in self._late()), default=0.0)

    def _late(self) -> list[Sample]:
        late = [each for each in self.samples if each.at >= _BEGINNING * self.seconds]
        return late or self.samples[-1:]

    def memory(self) -> tuple[int, int]:
        """The least and the most of the second half."""
        second = [each.memory for each in self.samples if each.at >= self.seconds / 2]
        return (min(second), max(second)) if second else (0, 0)

    def judge(self) -> None:
        """Slack and memory are within their bounds. Passes take memory and give it back: then it
        is told only."""
        if self.seconds < _TELLING_SECONDS:
            return
        if (most := max(self.slack_shares(), default=0.0)) > MOST_SLACK:
            self.faults.append(f"slack is {most:.1%} of the payloads")
        if self.refined is not None:
            if (fault := self.refined.fault()) is not None:
                self.faults.append(fault)
            return
        least, largest = self.memory()
        if largest > least * (1 + MOST_GROWTH):
            self.faults.append(
                f"the daemon's memory is {least:,} to {largest:,} bytes in the second half"
            )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        shares = self.slack_shares() or [0.0]
        least, largest = self.memory()
        mean = sum(shares) / len(shares)
        lines = [
            f"soak: {self.seconds:.0f} s, {self.kills} daemons killed; {self.written:,} pages"
            f" written, {self.discarded:,} discarded, {self.synchronised:,} fsyncs,"
            f" {self.compared:,} pages compared",
            f"  slack at most {max(shares):.1%} of the payloads, {mean:.1%} in the mean"
            f" ({len(shares)} looks, after commits; before them at most {self.most_before():.1%})",
            f"  the daemon's memory in the second half: {least:,} to {largest:,} bytes"
            f" ({largest / max(1, least) - 1:.1%})",
        ]
        if self.refined is not None:
            lines.append(self.refined.text())
        return "\n".join(lines + [f"  VIOLATION: {fault}" for fault in self.faults[:20]])


class Soak:
    """One run."""

    def __init__(self, mounted: Mounted, report: Report, pages: int, pages_a_second: float) -> None:
        """`pages` of all volumes together; no more than so many a second are written,
        discarded and compared."""
        self._mounted = mounted
        self._report = report
        self._random = Random(report.seed)
        self._clients = [
            Client(
                f"v{number}",
                pages // _VOLUMES,
                Random(f"{report.seed}-{number}"),
                pages_a_second / _VOLUMES,
            )
            for number in range(_VOLUMES)
        ]
        self._began = time.monotonic()

    def run(self, say: Callable[[str], None]) -> None:
        """To its end, or the first fault."""
        last = (0.5 - _WARMING) * self._report.seconds
        longest = max(4.0, self._report.seconds / 60)
        while self._passed() < last and not self._report.faults:
            left = last - self._passed()
            self._live(min(left, self._random.uniform(longest / 6, longest)), say)
        if not self._report.faults:
            # What a daemon keeps of its busiest moment, as its write buffer, is there from then on.
            warming = _WARMING * self._report.seconds
            self._live(self._report.seconds - self._passed(), say, unpaced_seconds=warming / 2)
        refined = self._report.refined
        if refined is not None and not self._report.faults:
            compare(self._mounted, [each.volume.name for each in self._clients], refined)
        else:
            self._mounted.unmount()
        self._report.judge()

    def _passed(self) -> float:
        return time.monotonic() - self._began

    def _live(
        self, seconds: float, say: Callable[[str], None], *, unpaced_seconds: float = 0
    ) -> None:
        """One daemon, for so long, and what is there after its end."""
        stop = threading.Event()
        threads = [
            threading.Thread(
                target=client.work,
                args=(self._mounted.path, stop),
                kwargs={"unpaced_seconds": unpaced_seconds},
            )
            for client in self._clients
        ]
        for thread in threads:
            thread.start()
        refined = self._report.refined
        passes = None if refined is None else Passes(self._mounted.path, refined)
        end = self._passed() + seconds
        between = min(10.0, self._report.seconds / 60)
        while (left := end - self._passed()) > 0 and all(each.is_alive() for each in threads):
            time.sleep(min(between, left))
            self._sample()
            say(self._report.text())
        early = not all(each.is_alive() for each in threads)
        self._mounted.kill()
        stop.set()
        for thread in threads:
            thread.join()
        if passes is not None:
            passes.end()
            if passes.fault is not None:
                self._report.faults.append(passes.fault)
        self._count()
        if early:
            raise AssertionError(
                f"the mount ended by itself, or clients did: {self._report.faults}"
                f" {self._mounted.log()[-2000:]}"
            )
        self._report.kills += 1
        self._mounted.check()
        self._mounted.mount()
        for client in self._clients:
            client.look(self._mounted.path)
        self._count()

    def _sample(self) -> None:
        before = read_statistics(self._mounted.path)["bytes"]["slack"]
        self._mounted.commit()
        found = read_statistics(self._mounted.path)
        sizes = found["bytes"]
        self._report.samples.append(
            Sample(
                round(self._passed(), 1),
                self._report.kills,
                sizes["payload"],
                sizes["slack"],
                before,
                sizes["metadata"],
                found["memory"]["daemon_rss"] - found["memory"]["write_buffer_resident"],
                found["memory"]["write_buffer"],
            )
        )
        self._count()

    def _count(self) -> None:
        report, clients = self._report, self._clients
        report.written = sum(each.written for each in clients)
        report.discarded = sum(each.discarded for each in clients)
        report.synchronised = sum(each.synchronised for each in clients)
        report.compared = sum(each.compared for each in clients)
        report.faults = [fault for each in clients for fault in each.faults]


def soak(
    mounted: Mounted,
    seconds: float,
    seed: int,
    mebibytes: int,
    pages_a_second: float,
    say: Callable[[str], None] = lambda _text: None,
    tier: str | None = None,
) -> Report:
    """Run for so long in a mount, which is gone afterwards, with refining to a tier if there is
    one. AssertionError of a command that failed, as of a check that found something."""
    report = Report(seed, seconds, refined=None if tier is None else Refined(tier))
    Soak(mounted, report, (mebibytes << 20) // PAGE, pages_a_second).run(say)
    return report
