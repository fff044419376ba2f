"""Suite: every call that a daemon makes on its store fails: once, or from then on for ever.

A workload is run once to see which calls there are. Then, for each call and each error that it may
have, on a fresh copy of the same store: the daemon mounts, clients work, the daemon unmounts, the
call fails. Clients may be refused. But what they read is what was written, the daemon ends by
itself and says what is wrong if it cannot keep everything; and mounted again without errors, the
store is clean, and all that was acknowledged is there. An unmount that exits with 0 acknowledges
everything.
"""

import errno
import pickle
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.endurance.checking import findings, is_there
from tests.endurance.clients import GONE, Client, found_files, make_directory
from tests.endurance.daemons import Daemon, Place, Start, Starter, Stuck, place_in
from tests.endurance.interposer import Action, Board, Rule
from tests.endurance.model import Model
from tests.endurance.report import Report

CLIENTS = 2
_OPERATIONS_BEFORE = 14
_OPERATIONS = 16
_COMMIT_SECONDS = 0.3

_WRITES = ("pwrite", "meta")
_TAKES_ROOM = ("create", "fallocate", "punch", "ftruncate", "rename", "mkdir", "msync")
_SYNCHRONISES = ("fsync", "fdatasync")

WORKLOADS = {
    "old": "in a store that is there",
    "new": "when a store is made",
    "growing": "when hint tables grow",
}
_GROWING = ("digests.new:", "sketches.new:")
_GROWTHS = 3
"""Calls of each point there that fail: a table grows far more often in this workload."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call goes wrong."""

    action: Action
    error: int
    for_ever: bool

    def rule(self, point: str, nth: int) -> Rule:
        """The rule for one call."""
        return Rule(point, self.action, nth, error=self.error, times=-1 if self.for_ever else 1)


def faults_of(point: str) -> list[Fault]:
    """What may go wrong at a point."""
    call = point.split(":")[1]
    errors = [errno.ENOMEM] if call == "mmap" else [errno.EIO]
    if call in _WRITES + _SYNCHRONISES + _TAKES_ROOM:
        errors.append(errno.ENOSPC)
    if call == "open":
        errors.append(errno.EMFILE)
    found = [Fault(Action.FAIL, error, for_ever) for error in errors for for_ever in (False, True)]
    if call in _WRITES:
        found += [Fault(Action.SHORT, 0, for_ever) for for_ever in (False, True)]
    return found


@dataclass(frozen=True, slots=True)
class Base:
    """The store that every try begins with."""

    folder: Path
    """Where it is; none when tries make their own."""
    model: bytes
    """Pickled."""


class Trying:
    """One workload, tried with one fault after the other."""

    def __init__(
        self,
        starter: Starter,
        place: Place,
        report: Report,
        base: Base,
        seed: str,
        sabotage: str = "",
        workload: str = "old",
    ) -> None:
        self.workload = workload
        self._starter = starter
        self._place = place
        self._report = report
        self._base = base
        self._seed = seed
        self._sabotage = sabotage

    def survey(self) -> Board:
        """What the workload's daemon meets, with nothing going wrong."""
        self._try(None)
        return self._place.counted()

    def _try(self, rule: Rule | None) -> tuple[list[str], str]:
        """What was wrong, and what the daemon said."""
        shutil.rmtree(self._place.store, ignore_errors=True)
        if self._base.folder.exists():
            shutil.copytree(self._base.folder, self._place.store)
        model: Model = pickle.loads(self._base.model)
        rules = [rule] if rule is not None else []
        start = Start(
            rules=rules,
            commit_seconds=_COMMIT_SECONDS,
            hints_grow=self.workload == "growing",
            sabotage=self._sabotage,
        )
        daemon = self._starter.start(self._place, start)
        wrong: list[str] = []
        try:
            mounted = daemon.wait_until_mounted()
            if mounted:
                wrong += self._work(model, daemon)
            status = daemon.wait()
        except Stuck as stuck:
            daemon.send(signal.SIGKILL)
            daemon.wait()
            self._place.clear()
            return [f"{stuck}"], daemon.output()
        self._place.clear()
        said = daemon.output()
        if daemon.held_elsewhere:
            self._report.counts["tries given up, held in another mount namespace"] += 1
            return [], said
        counted = self._place.counted()
        if rule is None:
            if status != 0:
                wrong.append(f"without an error, the daemon ended with {status}")
        elif counted.failed == 0:
            self._report.counts["calls that did not come"] += 1
        else:
            self._report.counts["calls that failed"] += 1
            self._report.points[rule.point] = self._report.points.get(rule.point, 0) + 1
        wrong += _judge_end(status, said, mounted=mounted)
        if status == 0 and mounted:
            model.acknowledge(model.covered())
        board = self._place.board.read_bytes()
        wrong += self._look_again(model)
        self._place.board.write_bytes(board)
        return wrong, said

    def _work(self, model: Model, daemon: Daemon) -> list[str]:
        root = self._place.mountpoint
        wrong = []
        try:
            wrong += model.judge(found_files(root))
            make_directory(root)
        except OSError as error:
            self._report.counts["mounts whose first look was refused"] += 1
            if error.errno in GONE:
                return wrong
        random = Random(self._seed)
        clients = [
            Client(model, number, root, Random(random.getrandbits(64))) for number in range(CLIENTS)
        ]
        threads = [threading.Thread(target=client.run, args=(_OPERATIONS,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            wrong += client.wrong
            self._report.counts["operations of clients"] += client.operations
            self._report.counts["operations that were refused"] += len(client.refused)
            if client.gone.is_set():
                wrong.append("the daemon has died while clients worked")
        time.sleep(0.05)
        daemon.send(signal.SIGTERM)
        return wrong

    def _look_again(self, model: Model) -> list[str]:
        """Mounted once more, with the errors gone."""
        if not is_there(self._place.store) and self._base.folder.exists():
            return ["the store is no store any more"]
        daemon = self._starter.start(self._place)
        try:
            if not daemon.wait_until_mounted():
                return [f"mounting again ended with {daemon.wait()}: {daemon.output()}"]
            wrong = []
            try:
                wrong += model.judge(found_files(self._place.mountpoint))
            except OSError as error:
                wrong.append(f"reading again: {error}")
            daemon.send(signal.SIGTERM)
            status = daemon.wait()
        except Stuck as stuck:
            daemon.send(signal.SIGKILL)
            daemon.wait()
            return [f"mounted again: {stuck}"]
        finally:
            self._place.clear()
        if status != 0 and not daemon.held_elsewhere:
            wrong.append(f"unmounting again ended with {status}: {daemon.output()}")
        return wrong + findings(self._place.store)

    def try_fault(self, point: str, nth: int, fault: Fault) -> bool:
        """One call, gone wrong in one way; whether it came."""
        rule = fault.rule(point, nth)
        before = self._report.counts["calls that failed"]
        wrong, said = self._try(rule)
        self._report.rounds += 1
        if wrong:
            replay: dict[str, Any] = {
                "seed": self._seed,
                "rule": rule.as_json(),
                "workload": self.workload,
                "said": said,
            }
            self._report.violated([f"{rule}", *wrong], self._place.store, replay)
        return self._report.counts["calls that failed"] > before


def _judge_end(status: int, said: str, *, mounted: bool) -> list[str]:
    """Whether a daemon ended as it may, and said why."""
    lines = [line for line in said.splitlines() if line.strip()]
    wrong = []
    if status < 0:
        wrong.append(f"the daemon died by signal {-status}: {lines[-3:]}")
    if status == 70:
        wrong.append(f"the daemon ended by an exception: {lines[-3:]}")
    if "internal error" in said:
        wrong.append(f"an error that nobody foresaw: {lines}")
    if status > 0 and not any(line.startswith("difffs: ") for line in lines):
        wrong.append(f"the daemon ended with {status} and said nothing")
    if status == 0 and not mounted:
        wrong.append("the daemon ended with 0 without mounting")
    return wrong


def make_base(starter: Starter, place: Place, seed: str, *, empty: bool) -> Base:
    """A store with some files; or none, and what is to be there then."""
    model = Model(CLIENTS)
    folder = place.folder / "base"
    if not empty:
        daemon = starter.start(place)
        if not daemon.wait_until_mounted():
            raise Stuck(daemon.output())
        make_directory(place.mountpoint)
        random = Random(f"{seed}-base")
        for number in range(CLIENTS):
            client = Client(model, number, place.mountpoint, Random(random.getrandbits(64)))
            client.run(_OPERATIONS_BEFORE)
        found = found_files(place.mountpoint)
        daemon.send(signal.SIGTERM)
        daemon.wait()
        place.clear()
        if wrong := model.judge(found):
            raise Stuck(f"the base is not what was written: {wrong}")
        model.settle(found)
        shutil.copytree(place.store, folder)
    return Base(folder, pickle.dumps(model))


def tries_of(board: Board, workload: str) -> list[tuple[str, int, Fault]]:
    """All calls with all that may go wrong; of the workload in which hint tables grow, those that
    come in no other."""
    calls = {name: point.calls for name, point in board.points.items()}
    if workload == "growing":
        calls = {
            name: min(count, _GROWTHS) for name, count in calls.items() if name.startswith(_GROWING)
        }
    return [
        (name, nth, fault)
        for name, count in sorted(calls.items())
        for nth in range(1, count + 1)
        for fault in faults_of(name)
    ]


Try = tuple[Trying, str, int, Fault]
"""A workload, a point, which of its calls, and how it goes wrong."""


def _in_turns(tries: list[Try], random: Random) -> list[Try]:
    """By chance, but each call once before any comes again."""
    random.shuffle(tries)
    turns: Counter[tuple[int, str, int]] = Counter()
    with_turn = []
    for each in tries:
        trying, point, nth, _ = each
        turns[id(trying), point, nth] += 1
        with_turn.append((turns[id(trying), point, nth], each))
    return [each for _, each in sorted(with_turn, key=lambda pair: pair[0])]


def run(
    report: Report,
    folder: Path,
    rounds: int | None = None,
    *,
    seconds: float = float("inf"),
    replay: dict[str, Any] | None = None,
) -> None:
    """Every call with every fault, or a sample of so many; of a store that is there, of one that is
    made, and of one whose hint tables grow. Each call fails once before any fails in a second way;
    ends after so many seconds."""
    end = time.monotonic() + seconds
    tries: list[Try] = []
    random = Random(report.seed)
    with Starter() as starter, ExitStack() as cleanup:
        for workload, name in WORKLOADS.items():
            seed = replay["seed"] if replay else f"{report.seed}-{workload}"
            if replay and replay["workload"] != workload:
                continue
            place = cleanup.enter_context(place_in(folder / seed))
            base = make_base(starter, place, seed, empty=workload == "new")
            trying = Trying(starter, place, report, base, seed, workload=workload)
            if replay:
                rule = Rule.from_json(replay["rule"])
                fault = Fault(rule.action, rule.error, rule.times < 0)
                trying.try_fault(rule.point, rule.nth, fault)
                return
            board = trying.survey()
            some = [(trying, *each) for each in tries_of(board, workload)]
            report.counts[f"calls {name}"] = len({each[1:3] for each in some})
            tries += _in_turns(some, random)[: rounds and max(1, rounds // len(WORKLOADS))]
        _try_all(report, _in_turns(tries, random), end)
    if rounds is None and time.monotonic() < end:
        report.unmet = sorted({point for _, point, _, _ in tries} - set(report.points))


def _try_all(report: Report, tries: list[Try], end: float) -> None:
    failed = set()
    for trying, point, nth, fault in tries:
        if time.monotonic() > end:
            report.counts["tries left out for want of time"] += 1
        else:
            if trying.try_fault(point, nth, fault):
                failed.add((id(trying), point, nth))
            report.progress(f"{report.rounds} of {len(tries)} tries")
    report.counts["calls that failed at least once"] = len(failed)


def run_one(report: Report, folder: Path, point: str, fault: Fault, sabotage: str) -> None:
    """The first call at a point, in a daemon that is broken: a violation is to be found."""
    with Starter() as starter, place_in(folder / "one") as place:
        base = make_base(starter, place, "one", empty=False)
        Trying(starter, place, report, base, "one", sabotage).try_fault(point, 1, fault)
