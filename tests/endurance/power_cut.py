"""Suite: the power fails. From recorded runs, states of the store's files that the order of
synchronising calls allows, each looked at as the next start would.

A run mounts a store and has clients work in it, while every call that changes a file is recorded
(record.py). Then the power is cut at any place in the record, and medium.py makes a state that may
be left. The store of it must open, `check` must find nothing, and everything must be there whose
fsync had been answered; it must also open for writing, take more, and be clean after that.
"""

import errno
import json
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from difffs.engine import Engine
from difffs.errors import DifffsError
from difffs.store import Store
from tests.endurance.checking import Died, findings, in_child, is_there, stored_files
from tests.endurance.clients import Client, make_directory
from tests.endurance.contents import pages_of
from tests.endurance.daemons import Place, Start, Starter, place_in
from tests.endurance.interposer import Action, Rule
from tests.endurance.medium import HOWS, Medium
from tests.endurance.model import Acknowledged, Model
from tests.endurance.record import Event, Kind, RecordedMarks, read_record
from tests.endurance.report import Report

CLIENTS = 2
STATES_A_RUN = 50
_PAYLOADS, _INDEX = "payloads", "index-2/data.mdb"

_HOWS: Sequence[dict[str, str]] = (
    {"": "any"},
    {"": "torn"},
    {"": "none"},
    {"": "all"},
    {"": "none", _INDEX: "all", "names": "all"},
    {"": "all", _INDEX: "none", "names": "none"},
    {"": "all", _PAYLOADS: "none", "names": "all"},
    {"": "none", _PAYLOADS: "all", "names": "none"},
    {"": "torn", _PAYLOADS: "few", _INDEX: "most"},
    {"": "any", _PAYLOADS: "most", _INDEX: "few"},
    {"": "any", _PAYLOADS: "none", _INDEX: "torn"},
    {"": "any", _PAYLOADS: "torn", _INDEX: "none"},
)
"""Files may have their dirty blocks written at quite different times."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What clients do in a run."""

    name: str
    weights: dict[str, int]
    """By name of an operation; all others have their own."""
    operations: int
    commit_seconds: float
    begins_empty: bool
    """Whether the run makes its store, so that power can fail while it does."""
    hints_grow: bool = False
    """Whether hint tables grow, see Start."""


WORKLOADS = (
    Workload("files", {"rename": 15, "unlink": 12, "truncate": 12}, 60, 5.0, True),
    Workload(
        "overwrites", {"overwrite_all": 25, "write_mapped": 20, "idle": 8}, 50, 0.1, False, True
    ),
    Workload("holes", {"punch": 40, "unlink": 10, "overwrite_all": 10}, 90, 0.3, False),
)


@dataclass(slots=True)
class Run:
    """What was recorded."""

    beginning: Path
    """The store as it was before."""
    events: list[Event]
    model: Model
    acknowledged_before: Acknowledged
    begun_before: dict[int, int]
    workload: str
    wrong: list[str] = field(default_factory=list)


class HeldElsewhere(Exception):
    """Another mount namespace got hold of the mount: the run did not end as it should."""


class RecordingClient(Client):
    """A client whose operations have the weights of a workload."""

    weights: dict[str, int]

    def _choices(self) -> Any:
        return [
            (method, self.weights.get(method.__name__, weight))
            for method, weight in super()._choices()
        ]


def record(
    starter: Starter,
    place: Place,
    workload: Workload,
    seed: str,
    rules: Sequence[Rule] = (),
    sabotage: str = "",
) -> Run:
    """One run of a workload. Its second half follows a first that is not recorded, but for those
    that begin with no store."""
    random = Random(seed)
    model = Model(CLIENTS)
    log = place.folder / "record"
    wrong: list[str] = []
    if not workload.begins_empty:
        wrong += _work(
            starter, place, workload, model, random, Start(hints_grow=workload.hints_grow)
        )
        model.acknowledge(model.covered())
    beginning = place.folder / "beginning"
    if place.store.exists():
        shutil.copytree(place.store, beginning)
    before = Acknowledged(dict(model.acknowledged.files), dict(model.acknowledged.names))
    begun = {client.number: client.begun for client in model.clients}
    start = Start(
        rules=rules,
        record=log,
        commit_seconds=workload.commit_seconds,
        hints_grow=workload.hints_grow,
        sabotage=sabotage,
    )
    wrong += _work(starter, place, workload, model, random, start)
    events = list(read_record(log))
    return Run(beginning, events, model, before, begun, workload.name, wrong)


def _work(
    starter: Starter, place: Place, workload: Workload, model: Model, random: Random, start: Start
) -> list[str]:
    """A mount in which clients work, then unmounted."""
    marks = RecordedMarks(start.record) if start.record else None
    daemon = starter.start(place, start)
    fails = any(rule.action is Action.FAIL for rule in start.rules)
    if not daemon.wait_until_mounted():
        if fails and daemon.wait() > 0:
            return []
        return [f"the daemon did not mount: {daemon.output()}"]
    with suppress(OSError) if fails else nullcontext():
        make_directory(place.mountpoint)
    clients = []
    for number in range(CLIENTS):
        client = RecordingClient(model, number, place.mountpoint, Random(random.getrandbits(64)))
        client.weights = workload.weights
        client.marks = marks or client.marks
        clients.append(client)
    threads = [
        threading.Thread(target=client.run, args=(workload.operations,)) for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    daemon.send(signal.SIGTERM)
    status = daemon.wait()
    place.clear()
    if marks is not None:
        marks.close()
    if daemon.held_elsewhere:
        raise HeldElsewhere
    wrong = [text for client in clients for text in client.wrong]
    if status < 0:
        wrong.append(f"the daemon died by signal {-status}")
    if not fails:
        wrong += [f"refused: {error}" for client in clients for error in client.refused]
        wrong += [f"the daemon ended with {status}: {daemon.output()}"] if status else []
    return wrong


def cuts(run: Run, count: int, random: Random) -> list[int]:
    """Places in the record where the power fails: between any two records, more often around those
    that synchronise or end a commit."""
    interesting = [
        at
        for at, event in enumerate(run.events)
        if event.kind
        in (Kind.SYNC_BEGAN, Kind.SYNC_ENDED, Kind.ACKNOWLEDGED, Kind.PUNCHED, Kind.RENAMED)
        or (event.kind is Kind.WRITTEN and event.flags & 1)
    ]
    chosen = []
    for _ in range(count):
        if random.random() < 0.6 and interesting:
            at = random.choice(interesting) + random.choice((0, 1, 1, 2))
        else:
            at = random.randrange(len(run.events))
        chosen.append(min(at, len(run.events)))
    return sorted(chosen)


def look_at(
    run: Run, store: Path, acknowledged: Acknowledged, begun: dict[int, int], seed: str
) -> list[str]:
    """What is wrong with a store that a power cut has left."""
    if not is_there(store):
        # Its making was cut off: nothing may have been acknowledged, and it can be made.
        wrong = run.model.judge({}, acknowledged, begun)
        return [f"no store is left: {text}" for text in wrong] or _use(store, seed)

    def look() -> list[str]:
        try:
            with Store.open(store, read_only=True) as opened:
                wrong = [f"check: {finding}" for finding in opened.check()]
                return wrong + run.model.judge(stored_files(opened), acknowledged, begun)
        except DifffsError as error:
            return [f"{type(error).__name__}: {error}"]

    try:
        found: list[str] = in_child(look)
    except Died as error:
        found = [str(error)]
    return found or _use(store, seed)


def _use(store: Path, seed: str) -> list[str]:
    """The store is opened for writing, takes some pages, and is closed."""
    pages = pages_of(Random(seed), 7, 0, 40, 1 << 40)

    def use() -> list[str]:
        with Store.open_or_create(store) as opened, Engine(opened) as engine:
            before = [f"check, when writing: {finding}" for finding in opened.check()]
            inode = opened.namespace.create("/later")
            opened.namespace.set_size(inode, len(pages))
            engine.write(inode.number, range(40), pages)
            engine.commit()
            if stored_files(opened)["later"] != pages:
                before.append("pages written afterwards are others")
            return before

    try:
        wrong: list[str] = in_child(use)
    except Died as error:
        return [f"when writing: {error}"]
    return wrong or [f"afterwards, {text}" for text in findings(store)]


def try_states(
    run: Run, report: Report, folder: Path, count: int, seed: str, only: int | None = None
) -> None:
    """So many states of one run, or only the one of that number."""
    random = Random(f"{seed}-cuts")
    medium = Medium(run.beginning)
    acknowledged = Acknowledged(
        dict(run.acknowledged_before.files), dict(run.acknowledged_before.names)
    )
    begun = dict(run.begun_before)
    played = 0
    for index, cut in enumerate(cuts(run, count, random)):
        for event in run.events[played:cut]:
            medium.play(event)
            if event.kind is Kind.BEGAN:
                begun[event.object] = event.length
            elif event.kind is Kind.ACKNOWLEDGED:
                acknowledged.add(Acknowledged.parse(event.data))
        played = cut
        hows = dict(random.choice(_HOWS))
        if random.random() < 0.2:
            hows[random.choice((_PAYLOADS, _INDEX, "digests", "sketches", "names"))] = (
                random.choice(HOWS)
            )
        if only is not None and index != only:
            continue
        store = folder / "state"
        shutil.rmtree(store, ignore_errors=True)
        medium.build(store, Random(f"{seed}-{index}"), hows)
        report.rounds += 1
        report.counts[f"states of {run.workload}"] += 1
        report.counts["blocks and names that might have been otherwise"] += medium.waiting
        if wrong := look_at(run, store, acknowledged, begun, seed):
            around = [
                f"{at} {event.kind.name} {event.object} {event.name} {event.offset}"
                f" {event.length or len(event.data)} {event.flags}"
                for at, event in enumerate(run.events[max(0, cut - 40) : cut], max(0, cut - 40))
            ]
            replay = {"seed": seed, "state": index, "states": count, "hows": hows}
            replay["around"] = around
            shutil.rmtree(store, ignore_errors=True)  # looking at it has changed it
            medium.build(store, Random(f"{seed}-{index}"), hows)
            kept = report.violated(wrong, store, replay)
            if run.beginning.exists():
                shutil.copytree(run.beginning, kept / "beginning")
            (kept / "run").write_bytes(pickle.dumps(run))
    shutil.rmtree(folder / "state", ignore_errors=True)


def run(
    report: Report,
    folder: Path,
    states: int,
    *,
    rules: Sequence[Rule] = (),
    sabotage: str = "",
    states_a_run: int = STATES_A_RUN,
    seconds: float = float("inf"),
) -> None:
    """So many states, of runs of all workloads in turn; fewer after so many seconds."""
    end = time.monotonic() + seconds
    with Starter() as starter:
        number = 0
        while report.rounds < states and time.monotonic() < end:
            workload = WORKLOADS[number % len(WORKLOADS)]
            seed = f"{report.seed}-{number}"
            number += 1
            with place_in(folder / seed) as place:
                chosen = rules or _failing(Random(seed), number)
                report.counts["runs in which a synchronising call failed"] += bool(chosen)
                try:
                    recorded = record(starter, place, workload, seed, chosen, sabotage)
                except HeldElsewhere:
                    report.counts["runs given up, held in another mount namespace"] += 1
                    continue
                report.counts["recorded runs"] += 1
                report.counts["recorded calls"] += sum(
                    event.kind < Kind.BEGAN for event in recorded.events
                )
                if recorded.wrong:
                    report.violated(recorded.wrong, place.store, {"seed": seed})
                    continue
                count = min(states_a_run, states - report.rounds)
                try_states(recorded, report, place.folder, count, seed)
                report.progress(f"{report.rounds} states")
            shutil.rmtree(folder / seed, ignore_errors=True)


def _failing(random: Random, number: int) -> list[Rule]:
    """In every fourth run a synchronising call fails once: nothing that waited then may be taken
    for durable because a later call succeeds."""
    if number % 4:
        return []
    point = random.choice(("payloads:fdatasync", "payloads:fdatasync", "index:fdatasync"))
    nth = random.randint(2, 6)
    return [Rule(point, Action.FAIL, nth, error=random.choice((errno.EIO, errno.ENOSPC)))]


def replay(report: Report, folder: Path, kept: Path) -> None:
    """One state that was kept."""
    told = json.loads((kept / "replay.json").read_text())
    recorded: Run = pickle.loads((kept / "run").read_bytes())
    recorded.beginning = kept / "beginning"
    try_states(recorded, report, folder, told["states"], told["seed"], told["state"])


def swallowed(point: str) -> Rule:
    """A synchronising call that does nothing: this suite must see it."""
    return Rule(point, Action.SWALLOW, nth=0, times=-1)
