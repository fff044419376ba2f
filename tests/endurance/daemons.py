"""Mounting daemons with the interposer: real ones, as `difffs mount --foreground` makes them.

Starting Python and importing takes longer than a round. So one process that has done both, with the
interposer preloaded, forks for each daemon; what runs there is the command itself.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from difffs import linux
from tests.endurance import sabotage
from tests.endurance.interposer import Board, Rule, begin, library

_SECONDS = 60.0
"""What a daemon may take to mount or to end."""
_POLL_SECONDS = 0.002
_ROOT = Path(__file__).parents[2]


class Stuck(Exception):
    """A daemon neither did what it should nor ended."""


@dataclass(slots=True)
class Start:
    """How a daemon is started."""

    rules: Sequence[Rule] = ()
    record: Path | None = None
    commit_seconds: float = 5.0
    """How long a change waits for its commit without an fsync: the product's own is 5 s."""
    hints_grow: bool = False
    """Whether hint tables grow when a twentieth of them is in use: again and again, under what
    little the clients write."""
    options: Sequence[str] = ()
    """More arguments of `difffs mount`."""
    sabotage: str = ""
    """A function of tests/endurance/sabotage.py that breaks the daemon: a suite must find it."""


class Daemon:
    """One that was started."""

    def __init__(self, starter: "Starter", process: int, place: "Place") -> None:
        self._starter = starter
        self.process = process
        self._place = place
        self.status: int | None = None
        """How it ended: 0 and more the exit status, -n by signal n; None while it runs."""
        self.held_elsewhere = False
        """Whether another mount namespace has a copy of the mount, so that it lived on there after
        it was unmounted here, and the daemon had to be killed."""

    def poll(self) -> int | None:
        """Its status, if it has ended."""
        if self.status is None:
            self.status = self._starter.ask({"poll": self.process})["status"]
        return self.status

    def wait(self, seconds: float = _SECONDS) -> int:
        """Its status once it has ended."""
        end = time.monotonic() + seconds
        look = time.monotonic() + 3
        while (status := self.poll()) is None:
            if time.monotonic() > look and not self.held_elsewhere:
                look += 3
                self.held_elsewhere = is_held_elsewhere(self._place.mountpoint)
                if self.held_elsewhere:
                    self.send(signal.SIGKILL)
            if time.monotonic() > end:
                raise Stuck(
                    f"the daemon of {self._place.store} did not end in {seconds} s:"
                    f" {self.output()} {_threads(self.process)}"
                )
            time.sleep(_POLL_SECONDS)
        return status

    def wait_until_mounted(self) -> bool:
        """Whether it has mounted; False when it ended instead."""
        parent = os.stat(self._place.mountpoint.parent).st_dev
        end = time.monotonic() + _SECONDS
        while True:
            with contextlib.suppress(OSError):
                if os.stat(self._place.mountpoint).st_dev != parent:
                    return True
            if self.poll() is not None:
                return False
            if time.monotonic() > end:
                raise Stuck(f"{self._place.store} was not mounted in {_SECONDS} s")
            time.sleep(_POLL_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """A signal, if it still runs."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, number)

    def kill(self) -> None:
        """SIGKILL, and what is left of the mount goes away."""
        self.send(signal.SIGKILL)
        self.wait()
        self._place.clear()

    def output(self) -> str:
        """What it wrote to stderr."""
        return self._place.output.read_text(errors="replace")


def is_held_elsewhere(mountpoint: Path) -> bool:
    """Whether the mount is gone here, and there in another mount namespace."""
    line = f" {mountpoint} "
    if line in Path("/proc/self/mountinfo").read_text():
        return False
    for each in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            if line in each.read_text():
                return True
    return False


def _threads(process: int) -> list[str]:
    """Where the threads of a process wait in the kernel."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            name = (task / "comm").read_text().strip()
            found.append(f"{name}: {(task / 'wchan').read_text()}")
    return found


@dataclass(slots=True)
class Place:
    """Where a store, its mount, and what belongs to a run of its daemon are."""

    folder: Path
    store: Path = field(init=False)
    mountpoint: Path = field(init=False)
    board: Path = field(init=False)
    output: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.store = self.folder / "store"
        self.mountpoint = self.folder / "mount"
        self.board = self.folder / "board"
        self.output = self.folder / "output"
        self.mountpoint.mkdir(exist_ok=True)

    def clear(self) -> None:
        """Takes every mount away that is still there."""
        while True:
            try:
                linux.unmount(self.mountpoint, lazy=True)
            except OSError:
                return

    def counted(self) -> Board:
        """What the last daemon met."""
        return Board.read(self.board)


class Starter:
    """The process that forks daemons; a context manager."""

    def __init__(self) -> None:
        environment = os.environ | {
            "LD_PRELOAD": str(library()),
            "PYTHONPATH": os.pathsep.join([str(_ROOT / "scripts"), str(_ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.endurance.daemons"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(self, place: Place, start: Start | None = None) -> Daemon:
        """A daemon that mounts the store of a place, making it if need be."""
        how = start or Start()
        place.board.unlink(missing_ok=True)
        question = {
            "folder": str(place.folder),
            "rules": [rule.as_json() for rule in how.rules],
            "record": str(how.record or ""),
            "commit_seconds": how.commit_seconds,
            "hints_grow": how.hints_grow,
            "options": list(how.options),
            "sabotage": how.sabotage,
        }
        return Daemon(self, self.ask(question)["process"], place)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_SECONDS)
        self._process.stdout.close()

    def __enter__(self) -> "Starter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def place_in(folder: Path) -> Iterator[Place]:
    """A place whose mount is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder)
    try:
        yield place
    finally:
        place.clear()


def _become_daemon(question: dict[str, Any]) -> int:
    """In a fork: the command, with its calls watched."""
    from difffs import volume
    from difffs.cli.main import main
    from difffs.store import hints

    place = Place(Path(question["folder"]))
    os.setsid()
    output = os.open(place.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor, becomes in ((null, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, becomes)
    volume.COMMIT_SECONDS = question["commit_seconds"]
    if question["hints_grow"]:
        hints.FULL = hints.CROWDED = 1 / 20
    if question["sabotage"]:
        sabotage.apply(question["sabotage"])
    rules = [Rule.from_json(each) for each in question["rules"]]
    record = question["record"]
    begin(place.store, Path(record) if record else None, place.board, rules)
    return main(
        ["mount", str(place.store), str(place.mountpoint), "--foreground", *question["options"]]
    )


def _serve() -> None:
    import difffs.cli.main
    import difffs.cli.mount
    import difffs.mount.daemon  # noqa: F401  what every daemon needs, loaded once

    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, int | None] = {}
        if "poll" in question:
            found, status = os.waitpid(question["poll"], os.WNOHANG)
            answer["status"] = os.waitstatus_to_exitcode(status) if found else None
        else:
            answer["process"] = os.fork()
            if answer["process"] == 0:
                code = 70
                try:
                    code = _become_daemon(question)
                except SystemExit as ended:
                    code = ended.code if isinstance(ended.code, int) else 70
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
