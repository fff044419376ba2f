"""A medium that loses its power: which states of a store's files may be left.

From the record of a run. A file has blocks of 4,096 bytes. What a block holds on the medium is what
was last synchronised, or anything that it held since: the kernel writes back what and when it
wants. Torn, it is of two such states, cut at a multiple of 512 bytes. Sizes, and what directories
hold, go the same way: what was not synchronised may have reached the medium or not. Names that have
nothing to do with each other, in any order; those that have, in theirs.

A write through a descriptor with O_DSYNC is on the medium when it returns. A synchronising call
that failed leaves doubt about everything that was waiting then, whatever later calls say.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.endurance.record import Event, Kind

BLOCK = 4096
SECTOR = 512
_ZERO = bytes(BLOCK)


@dataclass(slots=True)
class _Block:
    """One block of a file; states[0] is on the medium."""

    states: list[bytes]
    doubtful: int = 0
    """So many states, the first, are doubted: a synchronising call failed when they waited."""


@dataclass(slots=True)
class _File:
    """One file, whatever its name is."""

    blocks: dict[int, _Block] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=lambda: [0])
    """sizes[0] is on the medium."""
    syncs: dict[int, tuple[dict[int, int], int]] = field(default_factory=dict)
    """By number of a synchronising call under way: how many states its blocks had, and sizes."""

    def block(self, number: int) -> _Block:
        found = self.blocks.get(number)
        if found is None:
            found = self.blocks[number] = _Block([_ZERO])
        return found

    def put(self, offset: int, data: bytes) -> set[int]:
        """Bytes are written; the blocks that are others now."""
        end = offset + len(data)
        touched = set()
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            start, stop = max(offset, number * BLOCK), min(end, (number + 1) * BLOCK)
            block = self.block(number)
            piece = data[start - offset : stop - offset]
            if len(piece) < BLOCK:
                content = bytearray(block.states[-1])
                content[start - number * BLOCK : stop - number * BLOCK] = piece
                piece = bytes(content)
            block.states.append(piece)
            touched.add(number)
        return touched

    def grow(self, size: int) -> None:
        if size > self.sizes[-1]:
            self.sizes.append(size)

    def resize(self, size: int) -> None:
        for number, block in self.blocks.items():
            if (number + 1) * BLOCK > size and block.states[-1] != _ZERO:
                keep = max(0, size - number * BLOCK)
                block.states.append(block.states[-1][:keep].ljust(BLOCK, b"\0"))
        self.sizes.append(size)

    def punch(self, offset: int, length: int) -> None:
        """A hole; only blocks that hold anything change."""
        end = offset + length
        for number, block in self.blocks.items():
            start, stop = max(offset, number * BLOCK), min(end, (number + 1) * BLOCK)
            if start < stop and any(block.states[-1]):
                content = bytearray(block.states[-1])
                content[start - number * BLOCK : stop - number * BLOCK] = bytes(stop - start)
                block.states.append(bytes(content))

    def sync_began(self, number: int, first: int, length: int) -> None:
        """`length` 0: all of it."""
        within = range(first // BLOCK, -(-(first + length) // BLOCK)) if length else None
        counts = {
            at: len(block.states)
            for at, block in self.blocks.items()
            if within is None or at in within
        }
        self.syncs[number] = counts, len(self.sizes)

    def sync_ended(self, number: int) -> None:
        counts, sizes = self.syncs.pop(number)
        for at, count in counts.items():
            block = self.blocks[at]
            passed = count - 1
            if passed >= block.doubtful:
                block.states = block.states[passed:]
                block.doubtful = 0
                self._shift(at, passed)
        # All that is left says what came later: a size of before is not seen again.
        self.sizes = self.sizes[sizes - 1 :]
        for others, (those, size) in list(self.syncs.items()):
            self.syncs[others] = those, max(1, size - sizes + 1)

    def _shift(self, at: int, passed: int) -> None:
        """Other calls under way counted states that are no more."""
        for those, _ in self.syncs.values():
            if at in those:
                those[at] = max(1, those[at] - passed)

    def sync_failed(self) -> None:
        for block in self.blocks.values():
            if len(block.states) > 1:
                block.doubtful = len(block.states)

    def settle(self, touched: Iterable[int]) -> None:
        """These blocks are on the medium as they are now."""
        for number in touched:
            block = self.blocks[number]
            self._shift(number, len(block.states) - 1)
            block.states = block.states[-1:]
            block.doubtful = 0
        self.sizes = self.sizes[-1:]
        for number, (those, _) in list(self.syncs.items()):
            self.syncs[number] = those, 1


@dataclass(frozen=True, slots=True)
class _NameChange:
    """One change of names that is not known to be on the medium."""

    kind: Kind
    name: str
    other: str
    object: int
    group: str
    """Changes of one group happen in their order."""


def _group(name: str) -> str:
    """Names that take each other's place belong together."""
    if name.startswith("index-2"):
        return "index-2"
    return name.removesuffix(".new")


class Names:
    """The names of a store's files: objects by name, None for directories."""

    def __init__(self, names: dict[str, int | None]) -> None:
        self.now = names

    def apply(self, change: _NameChange) -> None:
        """One change, if it makes sense."""
        if change.kind is Kind.CREATED:
            self.now[change.name] = change.object
        elif change.kind is Kind.DIRECTORY_MADE:
            self.now[change.name] = None
        elif change.kind is Kind.RENAMED:
            if change.name in self.now:
                self.now[change.other] = self.now.pop(change.name)
        else:
            self.now.pop(change.name, None)


def _pick(random: Random, count: int, how: str) -> int:
    """Which of `count` states, of which the first is on the medium, is left."""
    if how == "none":
        return 0
    if how == "all":
        return count - 1
    return random.randrange(count)


HOWS = ("none", "all", "any", "torn", "few", "most")
"""How much of what was not synchronised is left in a file: nothing, all, any state of each block,
some blocks torn, one block in ten or nine in ten as they were last."""


class Medium:
    """The medium as of some place in the record."""

    def __init__(self, beginning: Path) -> None:
        """`beginning`: the store as it was when the record began, all of it on the medium; or
        nothing there."""
        self._files: dict[int, _File] = {}
        self._beginning: dict[str, bytes] = {}
        directories: dict[str, int | None] = {}
        if beginning.exists():
            directories[""] = None
            for path in beginning.rglob("*"):
                name = str(path.relative_to(beginning))
                if path.is_dir():
                    directories[name] = None
                else:
                    self._beginning[name] = path.read_bytes()
        # Files that the daemon does not open keep what they hold: numbers below 0.
        self._unopened: dict[str, int] = {}
        names = dict(directories)
        for index, (name, content) in enumerate(self._beginning.items()):
            self._unopened[name] = -1 - index
            names[name] = -1 - index
            self._files[-1 - index] = _file_of(content)
        self._durable = Names(names)
        self._current = Names(dict(names))
        self._changes: list[_NameChange] = []
        self._last_durable: tuple[int, _File, dict[int, list[bytes]]] | None = None

    def play(self, event: Event) -> None:
        """The next record."""
        kind = event.kind
        if kind is Kind.FOUND:
            self._find(event)
        elif kind in (
            Kind.CREATED,
            Kind.RENAMED,
            Kind.UNLINKED,
            Kind.DIRECTORY_MADE,
            Kind.DIRECTORY_REMOVED,
        ):
            self._change_names(event)
        elif kind is Kind.DIRECTORY_SYNCED:
            self._sync_directory(event.name)
        elif kind in (Kind.BEGAN, Kind.ACKNOWLEDGED):
            pass
        else:
            self._change(self._files[event.object], event)

    def _find(self, event: Event) -> None:
        """A file that was there has a number from now on."""
        number = self._current.now[event.name]
        assert number is not None
        self._files[event.object] = self._files[number]
        for names in (self._durable.now, self._current.now):
            for name, each in names.items():
                if each == number:
                    names[name] = event.object

    def _change_names(self, event: Event) -> None:
        if event.kind is Kind.CREATED:
            self._files[event.object] = _File()
        other = os.fsdecode(event.data)
        group = _group(other or event.name)
        change = _NameChange(event.kind, event.name, other, event.object, group)
        self._current.apply(change)
        self._changes.append(change)

    def _sync_directory(self, directory: str) -> None:
        """What was changed in it so far is on the medium, and what that took."""
        groups = {
            change.group
            for change in self._changes
            if directory in (os.path.dirname(change.name), os.path.dirname(change.other))
        }
        for change in self._changes:
            if change.group in groups:
                self._durable.apply(change)
        self._changes = [change for change in self._changes if change.group not in groups]

    def _change(self, file: _File, event: Event) -> None:
        kind = event.kind
        if kind is Kind.WRITTEN:
            touched = file.put(event.offset, event.data)
            file.grow(event.offset + len(event.data))
            if event.flags & 1:
                file.settle(touched)
        elif kind is Kind.RESIZED:
            file.resize(event.offset)
        elif kind is Kind.PUNCHED:
            file.punch(event.offset, event.length)
        elif kind is Kind.ALLOCATED:
            file.grow(event.offset + event.length)
        elif kind is Kind.MAPPED_STATE:
            for at in range(0, len(event.data), BLOCK):
                piece = event.data[at : at + BLOCK]
                number = (event.offset + at) // BLOCK
                if file.block(number).states[-1][: len(piece)] != piece:
                    file.put(event.offset + at, piece)
        elif kind is Kind.SYNC_BEGAN:
            file.sync_began(event.length, event.offset, event.flags)
        elif kind is Kind.SYNC_ENDED:
            file.sync_ended(event.length)
        else:
            assert kind is Kind.SYNC_FAILED
            file.sync_failed()

    @property
    def waiting(self) -> int:
        """Blocks of which more than one state may be left, and changes of names."""
        visible = {number for number in self._current.now.values() if number is not None}
        blocks = sum(
            len(block.states) > 1
            for number in visible
            for block in self._files[number].blocks.values()
        )
        return blocks + len(self._changes)

    def build(self, folder: Path, random: Random, hows: dict[str, str]) -> None:
        """One state that may be left. `hows`: by name of a file how much of what was not
        synchronised is there, "" for all others; of names themselves by "names"."""
        names = Names(dict(self._durable.now))
        how = hows.get("names", "any")
        groups: dict[str, list[_NameChange]] = {}
        for change in self._changes:
            groups.setdefault(change.group, []).append(change)
        for changes in groups.values():
            for change in changes[: _pick(random, len(changes) + 1, how)]:
                names.apply(change)
        for name in sorted(name for name, number in names.now.items() if number is None):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, number in names.now.items():
            if number is None or not (folder / name).parent.is_dir():
                continue
            _build_file(folder / name, self._files[number], random, hows.get(name, hows[""]))


def _file_of(content: bytes) -> _File:
    file = _File(sizes=[len(content)])
    for number in range(-(-len(content) // BLOCK)):
        piece = content[number * BLOCK : (number + 1) * BLOCK]
        if any(piece):
            file.blocks[number] = _Block([piece.ljust(BLOCK, b"\0")])
    return file


def _build_file(path: Path, file: _File, random: Random, how: str) -> None:
    size_how = random.choice(("none", "all", "any")) if how in ("torn", "few", "most") else how
    size = file.sizes[_pick(random, len(file.sizes), size_how)]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size)
        for number, block in file.blocks.items():
            content = _state_of(block, random, how)
            at = number * BLOCK
            if at < size and any(content):
                os.pwrite(descriptor, content[: size - at], at)
    finally:
        os.close(descriptor)


def _state_of(block: _Block, random: Random, how: str) -> bytes:
    states = block.states
    if len(states) == 1:
        return states[0]
    if how in ("few", "most"):
        return states[-1] if (random.random() < 0.1) == (how == "few") else states[0]
    if how == "torn" and random.random() < 0.5:
        one, other = random.choice(states), random.choice(states)
        cut = random.randrange(1, BLOCK // SECTOR) * SECTOR
        return one[:cut] + other[cut:]
    return states[_pick(random, len(states), "any" if how == "torn" else how)]
