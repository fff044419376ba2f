"""The interposer (interposer.c) from outside: building it, its rules, and what it counted."""

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Any

_SOURCE = Path(__file__).with_name("interposer.c")
_FLAGS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
_NAME_BYTES = 48
_POINT_LIMIT = 192
_BOARD = Struct(f"<{_NAME_BYTES}sqqqqQ")
_POINT = Struct(f"<{_NAME_BYTES}sQQQQQ")
BOARD_BYTES = _BOARD.size + _POINT_LIMIT * _POINT.size


class Action(IntEnum):
    """What happens with a call."""

    KILL = 1
    FAIL = 2
    SHORT = 3
    SWALLOW = 4
    """A synchronising call does nothing and succeeds."""
    DELAY = 5


class Position(IntEnum):
    """When a process is killed."""

    BEFORE = 0
    AMIDST = 1
    """After half of a write or a punch."""
    AFTER = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """Something to happen at a point."""

    point: str
    """FILE:CALL"""
    action: Action
    nth: int = 1
    """Which call, from 1; 0: each."""
    since_commit: bool = False
    """Whether calls are counted since the last commit ended, or all."""
    position: Position = Position.BEFORE
    error: int = 0
    """The errno of FAIL."""
    times: int = 1
    """How often at most; -1: from the nth on for ever."""
    delay_milliseconds: int = 0
    """Of DELAY, and before KILL: what other threads have to go on."""

    def as_json(self) -> dict[str, Any]:
        """For a file to replay from."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Rule":
        """Out of such a file."""
        known = value | {
            "action": Action(value["action"]),
            "position": Position(value["position"]),
        }
        return cls(**known)

    def __str__(self) -> str:
        what = f"{self.action.name.lower()} {self.point}#{self.nth or 'each'}"
        if self.action is Action.KILL:
            what += f" {self.position.name.lower()}"
        if self.error:
            what += f" {os.strerror(self.error)}"
        return what + (" for ever" if self.times < 0 else "")


@dataclass(frozen=True, slots=True)
class Point:
    """A point that a process met."""

    name: str
    calls: int
    most_since_commit: int
    """The largest number of calls between two commits."""
    changes: bool
    """Whether it changes the store: False for reads."""


@dataclass(frozen=True, slots=True)
class Board:
    """What a process met, as it stands in a file."""

    killed_at: str
    """The point, or "" when no rule killed the process."""
    killed_nth: int
    killed_position: Position
    failed: int
    """Calls that were failed or cut short."""
    commits: int
    points: dict[str, Point]

    @classmethod
    def read(cls, path: Path) -> "Board":
        """A file that the interposer has made; an empty board where there is none."""
        data = path.read_bytes() if path.exists() else b""
        if len(data) < BOARD_BYTES:
            return cls("", 0, Position.BEFORE, 0, 0, {})
        killed, nth, position, failed, commits, count = _BOARD.unpack_from(data)
        points = {}
        for index in range(count):
            at = _BOARD.size + index * _POINT.size
            name, calls, _, most, _, changes = _POINT.unpack_from(data, at)
            point = Point(_text(name), calls, most, bool(changes))
            points[point.name] = point
        return cls(_text(killed), nth, Position(position), failed, commits, points)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode()


@cache
def library() -> Path:
    """The built interposer; made anew when its source has changed."""
    source = _SOURCE.read_bytes()
    digest = hashlib.sha256(source + " ".join(_FLAGS).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"difffs-interposer-{os.getuid()}-{digest}.so"
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}")
        command = ["gcc", *_FLAGS, "-Werror", "-o", str(made), str(_SOURCE), "-ldl", "-pthread"]
        subprocess.run(command, check=True)
        made.rename(path)
    return path


def begin(store: Path, log: Path | None, board: Path, rules: Sequence[Rule]) -> None:
    """In a process that has the interposer preloaded: watches what it does with a store."""
    loaded = ctypes.CDLL(None, use_errno=True)
    loaded.endurance_rule.argtypes = [
        *(ctypes.c_char_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ]
    loaded.endurance_board_bytes.restype = ctypes.c_size_t
    if loaded.endurance_board_bytes() != BOARD_BYTES:
        raise AssertionError("interposer.c and interposer.py differ about the board")
    for rule in rules:
        loaded.endurance_rule(
            *(rule.point.encode(), rule.action, rule.nth, rule.since_commit, rule.position),
            *(rule.error, rule.times, rule.delay_milliseconds),
        )
    names = (os.fsencode(store), os.fsencode(log or ""), os.fsencode(board))
    if loaded.endurance_begin(*names) != 0:
        raise OSError(ctypes.get_errno(), "the interposer could not begin")
