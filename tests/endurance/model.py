"""What files of a store may hold after a crash.

Operations have numbers that go up. A file keeps, for every page, its content after each operation
that touched it; names and sizes likewise. After a crash a page may be what it was after the last
operation that is *acknowledged* (an fsync that began later was answered), or after any later one
that had *begun*; never a mixture, and nothing else. The names of one client are all as they were at
one such moment.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAGE = 4096
ZERO_PAGE = bytes(PAGE)
FOR_EVER = 1 << 62

Found = Mapping[str, bytes]
"""Files by name, with their whole contents."""


@dataclass(slots=True)
class FileModel:
    """One file, whatever its name is."""

    number: int
    born: int
    """The operation that made it."""
    pages: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    """By page: (operation, content of 4,096 bytes), oldest first. Before the first: zeros."""
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    """(operation, smallest, largest): a file that grows may be found on the way."""
    done: int = 0
    """The last operation on it that was answered."""
    arrived: int = 0
    """The last one of which the kernel holds nothing back from the daemon."""
    is_certain: bool = True
    """Whether it is known what the daemon has: False from a refused operation on."""

    @property
    def size(self) -> int:
        """As of the last operation."""
        return self.sizes[-1][2]

    def page(self, number: int) -> bytes:
        """As of the last operation."""
        versions = self.pages.get(number)
        return versions[-1][1] if versions else ZERO_PAGE

    def content(self) -> bytes:
        """As of the last operation."""
        count = -(-self.size // PAGE)
        return b"".join(map(self.page, range(count)))[: self.size]

    def _put(self, operation: int, page: int, content: bytes) -> None:
        self.pages.setdefault(page, []).append((operation, content))

    def _overwrite(self, operation: int, offset: int, data: bytes) -> None:
        end = offset + len(data)
        for page in range(offset // PAGE, -(-end // PAGE)):
            start, stop = max(offset, page * PAGE), min(end, (page + 1) * PAGE)
            piece = data[start - offset : stop - offset]
            if len(piece) < PAGE:
                content = bytearray(self.page(page))
                content[start - page * PAGE : stop - page * PAGE] = piece
                piece = bytes(content)
            self._put(operation, page, piece)

    def write(self, operation: int, offset: int, data: bytes) -> None:
        """Bytes are written; the file grows as needed."""
        self._overwrite(operation, offset, data)
        if offset + len(data) > self.size:
            self.sizes.append((operation, self.size, offset + len(data)))

    def punch(self, operation: int, offset: int, length: int) -> None:
        """A range becomes zeros; the size stays."""
        end = min(offset + length, self.size)
        if offset < end:
            self._overwrite(operation, offset, bytes(end - offset))

    def truncate(self, operation: int, size: int) -> None:
        """The file is cut, or grows by zeros."""
        if size < self.size:
            self._overwrite(operation, size, bytes(self.size - size))
        self.sizes.append((operation, size, size))

    def versions(self, page: int, acknowledged: int, begun: int) -> list[bytes]:
        """What the page may be after a crash."""
        stored = self.pages.get(page, [])
        first = 0
        while first < len(stored) and stored[first][0] <= acknowledged:
            first += 1
        earliest = [stored[first - 1][1]] if first else [ZERO_PAGE]
        return earliest + [content for number, content in stored[first:] if number <= begun]

    def may_have_size(self, size: int, acknowledged: int, begun: int) -> bool:
        """Whether it may be so long after a crash."""
        first = 0
        while first < len(self.sizes) and self.sizes[first][0] <= acknowledged:
            first += 1
        last_known = self.sizes[max(first - 1, 0)]
        return size == last_known[2] or any(
            low <= size <= high for number, low, high in self.sizes[first:] if number <= begun
        )


def differences(
    file: FileModel, name: str, content: bytes, acknowledged: int, begun: int
) -> list[str]:
    """What is wrong with a file that was found after a crash."""
    wrong = []
    if not file.may_have_size(len(content), acknowledged, begun):
        sizes = [each for each in file.sizes if each[0] <= begun][-4:]
        wrong.append(
            f"{name} has {len(content)} bytes; sizes were {sizes}, acknowledged up to"
            f" {acknowledged}"
        )
    for page in range(-(-len(content) // PAGE)):
        found = content[page * PAGE : (page + 1) * PAGE]
        allowed = file.versions(page, acknowledged, begun)
        if not any(found == each[: len(found)] for each in allowed):
            every = [(number, each) for number, each in file.pages.get(page, [])]
            same = [number for number, each in every if found == each[: len(found)]]
            what = f"as it was at {same}" if same else f"what it never was: {found[:24].hex()}"
            if not any(found):
                what = "zeros"
            wrong.append(
                f"{name} page {page} is {what}; operations {[number for number, _ in every][-6:]}"
                f" wrote it, acknowledged up to {acknowledged}, begun up to {begun}"
            )
    return wrong


class ClientModel:
    """The files that one client makes, and their names, which nobody else changes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.files: dict[int, FileModel] = {}
        self.names: list[tuple[int, dict[str, int]]] = [(0, {})]
        """(operation, files by name), oldest first."""
        self.names_done = 0
        self.begun = 0
        """The last operation that has begun."""

    @property
    def current(self) -> dict[str, int]:
        """Files by name, as of the last operation."""
        return self.names[-1][1]

    def judge(self, found: Found, acknowledged: "Acknowledged", begun: int) -> list[str]:
        """What is wrong with this client's files after a crash; of several moments at which the
        names may have been as they are, the one that explains most counts."""
        known = acknowledged.names.get(self.number, 0)
        first = 0
        while first + 1 < len(self.names) and self.names[first + 1][0] <= known:
            first += 1
        moments = [each for number, each in self.names[first:] if number <= begun or number == 0]
        best: list[str] | None = None
        for moment in reversed(moments):
            if moment.keys() != found.keys():
                continue
            wrong = [
                text
                for name, number in moment.items()
                for text in differences(
                    self.files[number],
                    name,
                    found[name],
                    acknowledged.files.get(number, self.files[number].born),
                    begun,
                )
            ]
            if not wrong:
                return []
            if best is None or len(wrong) < len(best):
                best = wrong
        if best is not None:
            return best
        options = [sorted(each) for each in moments[-3:]]
        return [f"client {self.number} has files {sorted(found)}; they were {options}"]

    def settle(self, operation: int, files: Mapping[str, FileModel]) -> None:
        """These are all files that there are, as of an operation."""
        self.files = {file.number: file for file in files.values()}
        self.names = [(operation, {name: file.number for name, file in files.items()})]
        self.names_done = self.begun = operation


@dataclass(slots=True)
class Acknowledged:
    """The last operation that an answered fsync covers, by file and by client (names)."""

    files: dict[int, int] = field(default_factory=dict)
    names: dict[int, int] = field(default_factory=dict)

    def add(self, other: "Acknowledged") -> None:
        """One more fsync was answered."""
        for mine, theirs in ((self.files, other.files), (self.names, other.names)):
            for key, operation in theirs.items():
                mine[key] = max(mine.get(key, 0), operation)

    def as_json(self) -> dict[str, list[list[int]]]:
        """For a record."""
        return {
            "files": [list(each) for each in self.files.items()],
            "names": [list(each) for each in self.names.items()],
        }

    @classmethod
    def parse(cls, data: bytes) -> "Acknowledged":
        """Out of a record."""
        value = json.loads(data)
        return cls(*({each[0]: each[1] for each in value[key]} for key in ("files", "names")))


class Model:
    """All clients of one mount."""

    def __init__(self, clients: int) -> None:
        self.lock = threading.Lock()
        self.clients = [ClientModel(number) for number in range(clients)]
        self.acknowledged = Acknowledged()
        self._operation = 0
        self._file = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = threading.Lock()

    @property
    def operation(self) -> int:
        """The last number given out."""
        return self._operation

    def next_operation(self) -> int:
        """A number above all before."""
        with self.lock:
            self._operation += 1
            return self._operation

    def new_file(self, client: ClientModel, operation: int) -> FileModel:
        """An empty file."""
        file = FileModel(self._next_file(), operation, sizes=[(operation, 0, 0)])
        client.files[file.number] = file
        return file

    def _next_file(self) -> int:
        with self.lock:
            self._file += 1
            return self._file

    def covered(self, synchronised: FileModel | None = None) -> Acknowledged:
        """What an fsync that begins now covers once it is answered: of all names what the daemon
        has, and of its own file what the kernel has; one of a directory, of all files what the
        daemon has."""
        with self.lock:
            covered = Acknowledged()
            for client in self.clients:
                covered.names[client.number] = client.names_done
                if synchronised is None:
                    for number, file in list(client.files.items()):
                        covered.files[number] = file.arrived
            if synchronised is not None:
                is_certain = synchronised.is_certain
                covered.files[synchronised.number] = (
                    synchronised.done if is_certain else synchronised.arrived
                )
            return covered

    def acknowledge(self, covered: Acknowledged) -> None:
        """That fsync was answered."""
        with self.lock:
            self.acknowledged.add(covered)

    def client_of(self, name: str) -> int:
        """The client whose name that is."""
        return int(name.rpartition("/")[2].split("-")[0].removeprefix("c"))

    def judge(
        self,
        found: Found,
        acknowledged: Acknowledged | None = None,
        begun: Mapping[int, int] | None = None,
    ) -> list[str]:
        """What is wrong with the files found after a crash; nothing when the promise is kept."""
        wrong = []
        for client in self.clients:
            mine = {n: c for n, c in found.items() if self.client_of(n) == client.number}
            limit = FOR_EVER if begun is None else begun.get(client.number, 0)
            wrong += client.judge(mine, acknowledged or self.acknowledged, limit)
        return wrong

    def settle(self, found: Found) -> None:
        """Goes on from what was found: nothing else was ever there."""
        operation = self.next_operation()
        self.acknowledged = Acknowledged()
        for client in self.clients:
            files = {}
            for name, content in found.items():
                if self.client_of(name) == client.number:
                    files[name] = self._found_file(operation, content)
            client.settle(operation, files)
            self.acknowledged.names[client.number] = operation

    def _found_file(self, operation: int, content: bytes) -> FileModel:
        file = FileModel(
            self._next_file(), operation, sizes=[(operation, len(content), len(content))]
        )
        for page in range(-(-len(content) // PAGE)):
            piece = content[page * PAGE : (page + 1) * PAGE]
            if any(piece):
                file.pages[page] = [(operation, piece.ljust(PAGE, b"\0"))]
        file.done = file.arrived = operation
        self.acknowledged.files[file.number] = operation
        return file
