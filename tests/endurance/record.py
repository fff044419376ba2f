"""The record of a run: what a daemon did to the files of its store, and what its clients were told,
in one order (interposer.c writes it)."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct

from tests.endurance.clients import Marks
from tests.endurance.model import Acknowledged

_HEADER = Struct("<IIQqqIIQ")
_MAGIC = 0x44524345


class Kind(IntEnum):
    """What a record tells; interposer.c has the same numbers."""

    CREATED = 1
    FOUND = 2
    WRITTEN = 3
    RESIZED = 4
    PUNCHED = 5
    ALLOCATED = 6
    SYNC_BEGAN = 7
    SYNC_ENDED = 8
    RENAMED = 9
    UNLINKED = 10
    DIRECTORY_MADE = 11
    DIRECTORY_REMOVED = 12
    DIRECTORY_SYNCED = 13
    MAPPED_STATE = 14
    SYNC_FAILED = 15
    BEGAN = 100
    """A client begins an operation."""
    ACKNOWLEDGED = 101
    """A client was answered an fsync."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record."""

    kind: Kind
    object: int
    """The file, whatever it is called; of BEGAN the client."""
    offset: int
    length: int
    flags: int
    name: str
    data: bytes


def read_record(path: Path) -> Iterator[Event]:
    """All records in order; one that was cut off at the end is left out."""
    content = path.read_bytes()
    at = 0
    while at + _HEADER.size <= len(content):
        magic, kind, number, offset, length, flags, name_bytes, data_bytes = _HEADER.unpack_from(
            content, at
        )
        if magic != _MAGIC:
            raise ValueError(f"{path} holds no record at {at}")
        name_at = at + _HEADER.size
        data_at = name_at + name_bytes
        at = data_at + data_bytes
        if at > len(content):
            return
        name = os.fsdecode(content[name_at:data_at])
        yield Event(Kind(kind), number, offset, length, flags, name, content[data_at:at])


class RecordedMarks(Marks):
    """Marks that go into the record."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _append(self, kind: Kind, number: int, length: int, data: bytes) -> None:
        header = _HEADER.pack(_MAGIC, kind, number, 0, length, 0, 0, len(data))
        if os.write(self._file, header + data) != _HEADER.size + len(data):
            raise OSError("the record cannot be written")

    def began(self, client: int, operation: int) -> None:
        """Before anything of it is done."""
        self._append(Kind.BEGAN, client, operation, b"")

    def acknowledged(self, covered: Acknowledged) -> None:
        """An fsync was answered that covers this."""
        self._append(Kind.ACKNOWLEDGED, 0, 0, json.dumps(covered.as_json()).encode())

    def close(self) -> None:
        """No more comes."""
        os.close(self._file)
