"""Suite: the daemon is killed, at any moment and at every step of commit, reclaim and side switch.

A *series* is the life of one store. Each of its rounds mounts it, compares every file with the
model, lets two clients work, and kills the daemon: at a random moment, or at a fault point, where
it first waits for a while so that its other threads go on. Then `check` must find nothing.
"""

import itertools
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import Any

from difffs.store.lock import is_in_use
from tests.endurance.checking import findings, is_there
from tests.endurance.clients import GONE, Client, found_files, make_directory
from tests.endurance.daemons import (
    Daemon,
    Place,
    Start,
    Starter,
    Stuck,
    place_in,
)
from tests.endurance.interposer import Action, Position, Rule
from tests.endurance.model import Model
from tests.endurance.report import Report

CLIENTS = 2
_ROUNDS_A_SERIES = 25
_TRIES_AT_A_STORE = 8
"""Rounds of a series that is for the steps of making a store."""
_LONGEST_SECONDS = 0.7
"""From the start of a daemon to its end at a random moment."""
_TRIES = 3
"""Rounds that aim at a point and do not come to it weigh as one that does."""

_PATIENCE = 10
"""Rounds for each kill at each point before those that have not come are given up."""

DELAYED = (
    "payloads:pwrite",
    "payloads:fdatasync",
    "payloads:punch",
    "index:pwrite",
    "index:fdatasync",
    "index:meta",
    "digests:msync",
)
"""Steps of a commit that are held up in some rounds, while others write, punch and fsync."""


_MADE = frozenset(
    f"{name}:{call}" for name in ("lock", "digests", "sketches") for call in ("create", "ftruncate")
)
"""Met when a store is first opened for writing."""
_LEFT = {
    "format.new:unlink": "format.new",
    "digests.new:unlink": "digests.new",
    "sketches.new:unlink": "sketches.new",
    "compact:unlink": "index-2/compact/data.mdb",
    "compact.directory:rmdir": "index-2/compact",
}
_LEFT_WHILE_MAKING = {
    "index:unlink": "index-2/data.mdb",
    "payloads:unlink": "payloads",
    "index.directory:rmdir": "index-2",
}
"""Met when a daemon was killed and has left the file."""
_SELDOM = _MADE | _LEFT.keys() | _LEFT_WHILE_MAKING.keys()
_GROWING = frozenset(
    f"{name}.new:{call}"
    for name in ("digests", "sketches")
    for call in ("create", "ftruncate", "fallocate", "msync", "rename")
)
"""Met when hint tables grow."""

FILES_OF_COMMITS = frozenset(
    ("payloads", "index", "digests", "sketches", "compact", "compact.directory", "index.directory")
)


def positions(point: str) -> tuple[Position, ...]:
    """When a process can be killed there so that it makes a difference.

    LMDB relies on a meta page being written as a whole, and the kernel does write so few bytes of
    one page as a whole."""
    if point.endswith((":pwrite", ":punch")):
        return (Position.BEFORE, Position.AMIDST, Position.AFTER)
    return (Position.BEFORE, Position.AFTER)


class Aims:
    """Which fault points there are, and how often a daemon was killed at each."""

    def __init__(self, *, positions_count: bool, each_point: int = 0) -> None:
        """`positions_count`: before, amidst and after a call are points of their own. Those with
        fewer kills than `each_point` come first."""
        self._positions_count = positions_count
        self._each_point = each_point
        self._only: frozenset[str] | None = None
        self.killed: Counter[tuple[str, Position]] = Counter()
        self._since_commit: Counter[str] = Counter()
        """By point: calls between two commits at most."""
        self._calls: Counter[str] = Counter()
        """By point: calls of a daemon at most."""
        self._met: dict[bool, set[str]] = {True: set(), False: set()}
        """Points that daemons meet: True, which make their store; False, which find one."""
        self._missed: Counter[tuple[bool, str, Position]] = Counter()

    def met(self, place: Place, *, makes_store: bool) -> None:
        """Takes note of what a daemon met."""
        board = place.counted()
        for point in board.points.values():
            if point.changes:
                name = point.name
                self._since_commit[name] = max(self._since_commit[name], point.most_since_commit)
                self._calls[name] = max(self._calls[name], point.calls)
                self._met[makes_store].add(name)
        if board.killed_at:
            target = (board.killed_at, board.killed_position)
            self.killed[target] += 1
            self._missed[(makes_store, *target)] -= 1

    def aim_at_steps(self) -> None:
        """From now on only at calls that were met by daemons which found a store, on the files that
        commits and closing write: steps of commit, reclaim, side switch and compaction."""
        self._only = frozenset(
            name for name in self._met[False] if name.split(":")[0] in FILES_OF_COMMITS
        )

    def targets(self) -> list[tuple[str, Position]]:
        """All of them."""
        names = sorted(self._calls if self._only is None else self._only)
        return [(name, position) for name in names for position in positions(name)]

    def kills(self, target: tuple[str, Position]) -> int:
        """At a point."""
        if self._positions_count:
            return self.killed[target]
        return sum(self.killed[(target[0], position)] for position in Position)

    @property
    def all_kills(self) -> int:
        """At all points together."""
        return self.killed.total()

    def fewest(self) -> tuple[str, Position]:
        """The point that had fewest."""
        return min(self.targets(), key=self.kills)

    def _wanted(self, target: tuple[str, Position]) -> int:
        """How many kills a point is short of."""
        return max(0, self._each_point - self.kills(target))

    def stores_are_wanted(self) -> bool:
        """Whether points that come only when a store is made are further behind than others."""
        if self._only is not None:
            return False
        new = self._met[True] - self._met[False] | _MADE
        making, others = self._of(new), self._of(self._met[False] - new)
        if self._each_point:
            wanted = [sum(map(self._wanted, each)) / max(1, len(each)) for each in (making, others)]
            return wanted[0] > wanted[1]
        return min(map(self.kills, making), default=0) < min(map(self.kills, others), default=0)

    def _of(self, names: set[str]) -> list[tuple[str, Position]]:
        return [each for each in self.targets() if each[0] in names]

    def next(self, random: Random, place: Place, *, hints_grow: bool) -> Rule:
        """A rule for one that a daemon has been killed at least often, of those that can come now;
        those that come seldom wait for their turn, but where the store is being made, or the last
        daemon has left something to remove, what comes then only goes first."""
        makes_store = not is_there(place.store)
        seldom = _removed_at_start(place.store) | _made_at_opening(place.store)
        never = _SELDOM - seldom if hints_grow else (_SELDOM | _GROWING) - seldom
        if makes_store:
            seldom |= self._met[True] - self._met[False]
        targets = self._of(self._met[makes_store] - never)
        now_or_never = self._of(seldom - never)
        if self._each_point:
            wanted = [each for each in now_or_never if self._wanted(each)]
            targets = wanted or [each for each in targets if self._wanted(each)] or targets
        elif now_or_never and random.random() < 0.5:
            targets = now_or_never
        if not targets:  # a store has to be made before its steps are met
            return Rule(min(self._met[makes_store]), Action.DELAY, times=0)
        random.shuffle(targets)
        name, position = min(
            targets,
            key=lambda each: self.kills(each) + self._missed[(makes_store, *each)] // _TRIES,
        )
        since_commit = makes_store or random.random() < 0.5
        most = self._since_commit[name] if since_commit else self._calls[name]
        first = not self.kills((name, position)) or random.random() < 0.6
        nth = 1 if first else random.randint(1, min(most, 12))
        self._missed[(makes_store, name, position)] += 1
        return Rule(
            name,
            Action.KILL,
            nth=nth,
            since_commit=since_commit,
            position=position,
            delay_milliseconds=random.choice((0, 0, 3, 25)),
        )

    def by_name(self) -> dict[str, int]:
        """Rounds by `FILE:CALL position`."""
        return {
            f"{name} {position.name.lower()}": self.killed[(name, position)]
            for name, position in self.targets()
        }


def _made_at_opening(store: Path) -> set[str]:
    """The points that the next daemon meets because a file is not there yet."""
    return {each for each in _MADE if not (store / each.split(":")[0]).exists()}


def _removed_at_start(store: Path) -> set[str]:
    """The points that the next daemon meets because of what the last one has left."""
    paths = dict(_LEFT_WHILE_MAKING if not is_there(store) else {}) | _LEFT
    return {point for point, path in paths.items() if (store / path).exists()}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done in rounds."""

    moment_share: float = 0.35
    """Of the rounds, killed at a random moment."""
    operations: tuple[int, ...] = (10, 30, 60)
    """Of each client in a round."""
    delayed_share: float = 0.6
    """Of the rounds, with steps of a commit held up."""


class Series:
    """One store's life."""

    def __init__(
        self,
        starter: Starter,
        place: Place,
        report: Report,
        aims: Aims,
        seed: str,
        sabotage: str,
        effort: Effort,
    ) -> None:
        self._starter = starter
        self._place = place
        self._report = report
        self._aims = aims
        self._seed = seed
        self._sabotage = sabotage
        self._effort = effort
        self._random = Random(seed)
        self._model = Model(CLIENTS)
        self._plans: list[dict[str, Any]] = []
        self._refused: list[str] = []
        self._history: list[str] = []
        """Since the mount was last compared."""
        self._hints_grow = self._random.random() < 0.5

    def run(
        self,
        rounds: int,
        plans: list[dict[str, Any]] | None = None,
        *,
        survey: bool = False,
        makes_store: bool = False,
    ) -> None:
        """So many rounds, or those of a replay; ends early with the first violation, and with
        `makes_store` when there is a store."""
        for index in range(len(plans) if plans is not None else rounds):
            if makes_store and is_there(self._place.store):
                break
            random = Random(f"{self._seed}-{index}")
            plan = plans[index] if plans is not None else self._plan(random, survey=survey)
            self._plans.append(plan)
            if not self._round(random, plan):
                return
        self._last_look()

    def _plan(self, random: Random, *, survey: bool) -> dict[str, Any]:
        """What a round is to do, as JSON keeps it."""
        rules = []
        moment = None
        if survey:
            pass
        elif random.random() < self._effort.moment_share and not self._aims.stores_are_wanted():
            moment = random.uniform(0, _LONGEST_SECONDS)
        else:
            rules.append(self._aims.next(random, self._place, hints_grow=self._hints_grow))
        if random.random() < self._effort.delayed_share and not survey:
            for point in random.sample(DELAYED, random.randint(1, 2)):
                milliseconds = random.choice((1, 3, 10))
                rules.append(
                    Rule(point, Action.DELAY, nth=0, times=-1, delay_milliseconds=milliseconds)
                )
        return {
            "rules": [rule.as_json() for rule in rules],
            "moment": moment,
            "operations": random.choice(self._effort.operations),
            "commit_seconds": random.choice((5.0, 0.2)),
            "rests": random.random() < 0.05,
        }

    def _round(self, random: Random, plan: dict[str, Any]) -> bool:
        """Whether the promise was kept."""
        rules = [Rule.from_json(each) for each in plan["rules"]]
        makes_store = not is_there(self._place.store)
        start = Start(
            rules=rules,
            commit_seconds=plan["commit_seconds"],
            hints_grow=self._hints_grow,
            sabotage=self._sabotage,
        )
        daemon = self._starter.start(self._place, start)
        began = time.monotonic()
        timer = None
        if plan["moment"] is not None:
            timer = threading.Timer(plan["moment"], daemon.send, (signal.SIGKILL,))
            timer.start()
        wrong: list[str] = []
        self._refused = []
        try:
            if daemon.wait_until_mounted():
                wrong = self._work(random, plan, daemon)
            status = daemon.wait()
        except Stuck as stuck:
            wrong = [str(stuck)]
            daemon.send(signal.SIGKILL)
            status = daemon.wait()
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()
        self._place.clear()
        wrong += self._still_in_use()
        self._aims.met(self._place, makes_store=makes_store)
        self._count(plan, status, time.monotonic() - began)
        self._history.append(f"the daemon ended with {status}")
        if status != -signal.SIGKILL:  # a dying one may have refused something
            wrong += self._refused
        if status not in (0, -signal.SIGKILL):
            wrong.append(f"the daemon ended with {status}: {daemon.output()[-2000:]}")
        elif status == 0 and not wrong:
            self._model.acknowledge(self._model.covered())  # an unmount commits all of it
        wrong += findings(self._place.store)
        if wrong:
            replay = {
                "seed": self._seed,
                "plans": self._plans,
                "history": self._history,
                "log": daemon.output(),
            }
            self._report.violated(wrong, self._place.store, replay)
        return not wrong

    def _still_in_use(self) -> list[str]:
        """A child of the daemon, which ends with it, may have the store's lock for a moment."""
        end = time.monotonic() + 10
        while is_in_use(self._place.store):
            if time.monotonic() > end:
                return ["the store is still locked though its daemon is dead"]
            time.sleep(0.002)
        return []

    def _count(self, plan: dict[str, Any], status: int, seconds: float) -> None:
        self._report.rounds += 1
        counts = self._report.counts
        counts["milliseconds of daemons"] += int(1000 * seconds)
        if status != -signal.SIGKILL:
            counts["rounds whose point did not come, unmounted"] += 1
        elif plan["moment"] is None:
            counts["killed at a fault point"] += 1
        else:
            counts["killed at a random moment"] += 1

    def _work(self, random: Random, plan: dict[str, Any], daemon: Daemon) -> list[str]:
        """In a mount: compares, works, unmounts. What was wrong."""
        root = self._place.mountpoint
        try:
            make_directory(root)
            found = found_files(root)
        except OSError as error:
            if error.errno in GONE:
                return []
            return [f"reading the mount: {error}"]
        self._report.counts["mounts compared with the model"] += 1
        self._report.counts["pages compared"] += sum(len(each) // 4096 for each in found.values())
        if wrong := self._model.judge(found):
            daemon.send(signal.SIGKILL)
            return wrong
        self._model.settle(found)
        self._history = [f"operation {self._model.operation}: as found"]
        clients = [
            Client(self._model, number, root, Random(random.getrandbits(64)))
            for number in range(CLIENTS)
        ]
        threads = [
            threading.Thread(target=client.run, args=(plan["operations"],)) for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._history += sorted(line for client in clients for line in client.history)
        self._report.counts["operations of clients"] += sum(each.operations for each in clients)
        if plan["rests"]:
            time.sleep(0.5)
        if not any(client.gone.is_set() for client in clients):
            daemon.send(signal.SIGTERM)
        wrong = [text for client in clients for text in client.wrong]
        self._refused = [f"refused: {error}" for client in clients for error in client.refused]
        return wrong

    def _last_look(self) -> None:
        """The store once more, in a mount without rules and opened for writing."""
        plan: dict[str, Any] = {
            "rules": [],
            "moment": None,
            "operations": 0,
            "commit_seconds": 5.0,
            "rests": False,
        }
        self._plans.append(plan)
        if self._round(Random(0), plan):
            self._report.rounds -= 1
            self._report.counts["rounds whose point did not come, unmounted"] -= 1
            if wrong := findings(self._place.store, read_only=False):
                replay = {"seed": self._seed, "plans": self._plans}
                self._report.violated(wrong, self._place.store, replay)


def run(
    report: Report,
    folder: Path,
    rounds: int,
    *,
    each_point: int = 0,
    positions_count: bool = True,
    steps_only: bool = False,
    seconds: float = float("inf"),
    replay: dict[str, Any] | None = None,
    sabotage: str = "",
    effort: Effort | None = None,
) -> None:
    """At least so many rounds, and until each fault point was killed at `each_point` times, of
    which before, amidst and after a call are three, unless not `positions_count`; with
    `steps_only` see Aims.aim_at_steps. Ends early after so many seconds."""
    end = time.monotonic() + seconds
    aims = Aims(positions_count=positions_count, each_point=each_point)
    if effort is None:
        effort = Effort(moment_share=0.12) if each_point else Effort()
    with Starter() as starter:
        for number in itertools.count():
            seed = replay["seed"] if replay else f"{report.seed}-{number}"
            with place_in(folder / str(number)) as place:
                series = Series(starter, place, report, aims, seed, sabotage, effort)
                if replay:
                    series.run(0, replay["plans"])
                    return
                if number == 0:
                    series.run(2, survey=True)  # lists the points
                    report.rounds = 0
                    report.counts.clear()
                    if steps_only:
                        aims.aim_at_steps()
                else:
                    makes_store = aims.stores_are_wanted()
                    length = min(_ROUNDS_A_SERIES, max(rounds - report.rounds, 5))
                    if each_point > 1 and number % 2:
                        length = 6  # hint tables grow while a store is young
                    series.run(
                        _TRIES_AT_A_STORE if makes_store else length, makes_store=makes_store
                    )
                    report.progress(_progress(report, aims))
            report.points = aims.by_name()
            rmtree(folder / str(number), ignore_errors=True)
            enough = aims.kills(aims.fewest()) >= each_point
            given_up = report.rounds > max(rounds, _PATIENCE * each_point * len(aims.targets()))
            if number and report.rounds >= rounds and (enough or given_up):
                break
            if time.monotonic() > end:
                break
    if each_point:
        report.unmet = sorted({each[0] for each in aims.targets() if not aims.kills(each)})


def _progress(report: Report, aims: Aims) -> str:
    fewest = aims.fewest()
    return (
        f"{report.rounds} rounds, {aims.all_kills} killed, {len(aims.targets())} fault points,"
        f" fewest {aims.kills(fewest)} at {fewest[0]} {fewest[1].name.lower()}"
    )
