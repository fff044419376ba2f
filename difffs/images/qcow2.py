"""Snapshots with the guest's memory (``savevm``) inside a disk image of QEMU's format qcow2.

    header: "QFI" 0xFB, version (2 or 3), ..., where the table of snapshots is
    snapshots: each an L1 table of its own, name, date, bytes of VM state
    L1 table -> L2 tables -> clusters of 512 bytes to 2 MiB, anywhere in the file

all big endian (QEMU's docs/interop/qcow2). A snapshot's VM state is a migration stream. It lies
behind the disk's last cluster, as if the disk went on there: the L1 entry after the disk's last.

So the file is read in no order, through ``Source.read_at``, and is a container: the inner file is
the VM states of all snapshots one after the other, from the oldest on, and the outer one is these
clusters where they lie and bytes between them. The memory is the newest snapshot's; those of the
others are kept page by page too, as pages that were replaced later.
"""

import bisect
import heapq
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from sys import byteorder
from typing import cast

from difffs.errors import ImageDamaged
from difffs.images.assembly import Assembly, Block
from difffs.images.format import Format, NotThisFormat
from difffs.images.migration import MAGIC as STREAM_MAGIC
from difffs.images.migration import read_stream
from difffs.images.ranges import MOST_RANGES, Ranges
from difffs.images.source import PositionedRead, Source

_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4xI12xIQI24xIQ")
"""Version, bits of a cluster, size of the disk, encryption, snapshots, where their table is."""
_FEATURES = struct.Struct(">Q")
"""Version 3: features without whose knowledge the file cannot be read."""
_SNAPSHOT = struct.Struct(">QIHHII8xII")
"""Where its L1 table is, entries of that, lengths of id and name, seconds, nanoseconds, bytes of VM
state, length of more fields (the first of which is the bytes of VM state once more, in 64 bits).
"""

_EXTERNAL_DATA = 1 << 2
_EXTENDED_L2 = 1 << 4
_KNOWN_FEATURES = (1 << 5) - 1

_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_ZERO = 1
_SUBCLUSTERS = 32

_MOST_SNAPSHOTS = 65_536
_MOST_WITH_STATE = 256
_MOST_RUNS = 1 << 20
"""Runs of clusters that lie one after the other: 20 bytes each while the file is read."""
_SORTED = 1 << 14
_LEFT_PART = 2 << 20
"""Bytes of memory of which it is known whether an older snapshot has told something of them."""

_PIECE = 256 << 10
"""Bytes that are read at a time: they stay in the processor's cache, and the stream's reader is
twice as fast as with 1 MiB."""
_ZEROS_LEAST = 64 << 10
_ZEROS = bytes(_ZEROS_LEAST)


class _Reader:
    """Reads anywhere in the file, whose size is known."""

    def __init__(self, source: Source, read_at: PositionedRead, size: int) -> None:
        self._source = source
        self._read_at = read_at
        self.size = size

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Exactly `count` bytes (2 MiB at most); ImageDamaged where there are fewer."""
        if not 0 <= offset <= self.size - count:
            raise self.damaged(
                f"{what} of {count:,} bytes is behind the file's end, {self.size:,}", offset
            )
        parts = []
        at, left = offset, count
        while left:
            part = self._read_at(at, left)
            if not part:
                raise self.damaged(f"it has become shorter: {what} is missing", at)
            parts.append(part)
            at += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def damaged(self, text: str, position: int) -> ImageDamaged:
        return self._source.damaged(text, position)


@dataclass(frozen=True, slots=True)
class _Disk:
    """The header, as far as it matters here."""

    version: int
    cluster_bits: int
    size: int
    """Bytes of the disk, of which none are looked at."""
    snapshots: int
    snapshots_at: int
    extended: bool
    """Whether entries of L2 tables have 16 bytes, and tell parts of clusters."""

    @property
    def cluster(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of an L2 table, which has the length of a cluster."""
        return self.cluster // (16 if self.extended else 8)

    @classmethod
    def of(cls, reader: _Reader) -> "_Disk":
        """What the file begins with; NotThisFormat where there can be no VM state that is read."""
        version, cluster_bits, size, encryption, snapshots, snapshots_at = _HEADER.unpack(
            reader.read(0, _HEADER.size, "qcow2's header")
        )
        if version not in (2, 3):
            raise NotThisFormat(f"a qcow2 image of version {version}, which is not known")
        features = 0
        if version == 3:
            (features,) = _FEATURES.unpack(
                reader.read(_HEADER.size, _FEATURES.size, "qcow2's header")
            )
        if features & ~_KNOWN_FEATURES:
            raise NotThisFormat("a qcow2 image with features that are not known")
        if encryption:
            raise NotThisFormat("an encrypted qcow2 image: its snapshots cannot be read")
        if features & _EXTERNAL_DATA:
            raise NotThisFormat("a qcow2 image whose data is in another file")
        if not 9 <= cluster_bits <= 21:
            raise reader.damaged(f"clusters of 2^{cluster_bits} bytes are not possible", 20)
        if snapshots > _MOST_SNAPSHOTS:
            raise reader.damaged(f"{snapshots:,} snapshots are not possible", 60)
        extended = bool(features & _EXTENDED_L2)
        if extended and cluster_bits < 14:
            raise reader.damaged(f"clusters of 2^{cluster_bits} bytes have no parts", 20)
        return cls(version, cluster_bits, size, snapshots, snapshots_at, extended)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """An entry of the snapshots' table."""

    l1_at: int
    l1_entries: int
    date: tuple[int, int]
    """Seconds since 1970, nanoseconds."""
    state_bytes: int
    name: str


def _snapshots(reader: _Reader, disk: _Disk) -> list[_Snapshot]:
    """The snapshots that have a VM state, the oldest first."""
    found = []
    at = disk.snapshots_at
    for _ in range(disk.snapshots):
        at = -(-at // 8) * 8
        head = reader.read(at, _SNAPSHOT.size, "a snapshot")
        l1_at, l1_entries, id_length, name_length, *date, state_bytes, more = _SNAPSHOT.unpack(head)
        more_at = at + _SNAPSHOT.size
        if more >= 8:
            (state_bytes,) = struct.unpack(">Q", reader.read(more_at, 8, "a snapshot"))
        name_at = more_at + more + id_length
        name = reader.read(name_at, name_length, "a snapshot's name")
        at = name_at + name_length
        if state_bytes:
            text = name.decode(errors="replace")
            found.append(_Snapshot(l1_at, l1_entries, (date[0], date[1]), state_bytes, text))
            if len(found) > _MOST_WITH_STATE:
                raise NotThisFormat(
                    f"a qcow2 image with more than {_MOST_WITH_STATE} snapshots of memory"
                )
    # The order of equal dates is the table's: new ones come last.
    return sorted(found, key=lambda snapshot: snapshot.date)


@dataclass(frozen=True, slots=True)
class _State:
    """A snapshot's VM state, as a part of the inner file."""

    name: str
    start: int
    bytes: int


class _Clusters:
    """The inner file: the VM states one after the other, as runs of bytes that follow each other
    in the outer file too."""

    def __init__(self, reader: _Reader, disk: _Disk) -> None:
        self._reader = reader
        self._disk = disk
        self._starts = array("Q")
        """Of each run: its first byte in the inner file."""
        self._offsets = array("Q")
        """Of each run: its first byte in the outer file; 0 for zeros that are not in it."""
        self._next_offset = 0
        """What would go on with the last run."""
        self.bytes = 0

    def add(self, snapshot: _Snapshot) -> _State:
        """Reads a snapshot's L1 and L2 tables. ImageDamaged where an offset is not possible."""
        disk, reader = self._disk, self._reader
        if snapshot.state_bytes > reader.size:
            raise reader.damaged(
                f"snapshot {snapshot.name!r} has {snapshot.state_bytes:,} bytes of VM state, more"
                " than the file",
                disk.snapshots_at,
            )
        state = _State(snapshot.name, self.bytes, snapshot.state_bytes)
        covered = disk.cluster * disk.l2_entries
        first = -(-disk.size // covered)
        tables = -(-state.bytes // covered)
        if first + tables > snapshot.l1_entries:
            raise reader.damaged(
                f"the L1 table of snapshot {snapshot.name!r} is shorter than its VM state",
                snapshot.l1_at,
            )
        self._next_offset = 0
        for table in range(first, first + tables):
            end = min(self.bytes + covered, state.start + state.bytes)
            at = snapshot.l1_at + 8 * table
            (entry,) = struct.unpack(">Q", reader.read(at, 8, "an L1 table"))
            l2_at = entry & _OFFSET
            if l2_at % disk.cluster:
                raise reader.damaged(f"an L2 table at {l2_at:,} is at no cluster's start", at)
            if l2_at:
                self._add_table(l2_at, end)
            else:
                self._add(0, end - self.bytes)
        return state

    def _add_table(self, at: int, end: int) -> None:
        """Adds the clusters of an L2 table, until the inner file ends at `end`."""
        cluster = self._disk.cluster
        extended = self._disk.extended
        count = -(-(end - self.bytes) // cluster)
        words = array("Q", self._reader.read(at, count * (16 if extended else 8), "an L2 table"))
        if byteorder == "little":
            words.byteswap()
        entries = words[::2] if extended else words
        for index, entry in enumerate(entries):
            used = min(cluster, end - self.bytes)
            parts = words[2 * index + 1] if extended else None
            self._add(self._offset(entry, parts, used, at), used)

    def _offset(self, entry: int, parts: int | None, used: int, table_at: int) -> int:
        """Where a cluster, of which `used` bytes count, lies in the file; 0 for zeros. `parts` is
        the second half of an extended entry: which parts are there, and which are zeros."""
        disk, reader = self._disk, self._reader
        if entry & _COMPRESSED:
            raise NotThisFormat("a qcow2 image with compressed clusters in its VM state")
        offset = entry & _OFFSET
        if parts is not None:
            needed = (1 << -(-used // (disk.cluster // _SUBCLUSTERS))) - 1
            if not parts & needed:
                return 0
            if parts & needed != needed or parts >> 32 & needed:
                raise NotThisFormat("a qcow2 image with holes within clusters of its VM state")
        elif disk.version == 3 and entry & _ZERO:
            return 0
        if offset % disk.cluster:
            raise reader.damaged(f"a cluster at {offset:,} is at no cluster's start", table_at)
        if offset > reader.size - used:
            raise reader.damaged(f"a cluster at {offset:,} is behind the file's end", table_at)
        return offset

    def _add(self, offset: int, length: int) -> None:
        if offset != self._next_offset or not offset:
            if len(self._starts) == _MOST_RUNS:
                raise NotThisFormat("a qcow2 image whose VM state is scattered over the file")
            self._starts.append(self.bytes)
            self._offsets.append(offset)
        self.bytes += length
        self._next_offset = offset + length if offset else 0

    def _run(self, index: int) -> tuple[int, int, int]:
        start = self._starts[index]
        after = index + 1
        end = self._starts[after] if after < len(self._starts) else self.bytes
        return start, self._offsets[index], end - start

    def in_file_order(self) -> Iterator[tuple[int, int, int]]:
        """(first byte in the inner file, first byte in the outer file, length) of all runs that are
        in the file, by their place there. ImageDamaged where some lie on others."""
        # Sorted in parts: one list of all would take several times the arrays' room.
        parts = [
            array(
                "I", sorted(range(at, min(at + _SORTED, len(self._offsets))), key=self._offset_of)
            )
            for at in range(0, len(self._offsets), _SORTED)
        ]
        end = 0
        for index in heapq.merge(*parts, key=self._offset_of):
            start, offset, length = self._run(index)
            if not offset:
                continue
            if offset < end:
                raise self._reader.damaged("two parts of VM state are in the same place", offset)
            end = offset + length
            yield start, offset, length

    def _offset_of(self, index: int) -> int:
        return self._offsets[index]

    def pieces(self, state: _State) -> Iterator[bytes]:
        """The bytes of a state."""
        index = bisect.bisect_left(self._starts, state.start)
        position = state.start
        while position < state.start + state.bytes:
            _start, offset, length = self._run(index)
            for done in range(0, length, _PIECE):
                count = min(_PIECE, length - done)
                yield (
                    self._reader.read(offset + done, count, "VM state") if offset else bytes(count)
                )
            position += length
            index += 1


# ---- the states' memory -------------------------------------------------------------------------

_Blocks = tuple[list[tuple[str, int]], int]
"""What ``Assembly.blocks`` is told."""


class _BlocksKnown(Exception):
    """Ends a reading that was to tell the blocks."""

    def __init__(self, blocks: _Blocks) -> None:
        self.blocks = blocks


class _BlocksOnly:
    """An assembly that listens until the blocks are told."""

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        raise _BlocksKnown((blocks, memory))

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_values, **_facts: None


class _BlocksToldBefore:
    """An assembly for one of several streams with the same blocks of memory."""

    def __init__(self, assembly: Assembly, source: Source, *, newest: bool) -> None:
        self._assembly = assembly
        self._source = source
        self._newest = newest

    def blocks(self, _blocks: list[tuple[str, int]], _memory: int) -> None:
        pass

    def more_blocks(self, _blocks: list[tuple[str, int]], _memory: int) -> None:
        raise self._source.damaged("it tells of more blocks of memory than it begins with")

    def details(self, **facts: object) -> None:
        if self._newest:
            self._assembly.details(**facts)

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        # Memory that has one place in the file cannot be another snapshot's too. (QEMU writes no
        # mapped-ram into snapshots.)
        self._assembly.literal(data)
        self._assembly.memory_apart(block, offset, data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._assembly, name)


class _OfOlderSnapshots(_BlocksToldBefore):
    """An assembly for those that are not the newest: what they leave in memory is known, by parts
    of 2 MiB. The blocks' lengths are only what a header says."""

    def __init__(self, assembly: Assembly, source: Source, left: dict[Block, Ranges]) -> None:
        super().__init__(assembly, source, newest=False)
        self._left = left

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._leaves(block, offset, len(data))
        super().memory(block, offset, data)

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._leaves(block, offset, len(data))
        self._assembly.memory_apart(block, offset, data)

    def page_records(
        self, block: Block, offset: int, first: int, pages: memoryview | bytes
    ) -> None:
        self._leaves(block, offset, len(pages))
        self._assembly.page_records(block, offset, first, pages)

    def _leaves(self, block: Block, offset: int, length: int) -> None:
        parts = self._left.setdefault(block, Ranges())
        parts.add(offset // _LEFT_PART, -(-(offset + length) // _LEFT_PART))
        if len(parts) > MOST_RANGES:
            raise self._source.damaged(f"its memory is in more than {MOST_RANGES:,} places")


class _States:
    """All VM states of a file, the oldest first."""

    def __init__(self, clusters: _Clusters, states: list[_State], name: str) -> None:
        self._clusters = clusters
        self._states = states
        self._name = name

    def _source(self, state: _State) -> Source:
        name = f"{self._name}, snapshot {state.name!r}"
        return Source(self._clusters.pieces(state), name=name, size=state.bytes)

    def _blocks(self, state: _State) -> _Blocks:
        """The blocks of memory that a state tells of."""
        source = self._source(state)
        if source.peek(len(STREAM_MAGIC)) != STREAM_MAGIC:
            raise NotThisFormat(
                f"a qcow2 image whose snapshot {state.name!r} does not hold a migration stream"
            )
        try:
            read_stream(source, cast(Assembly, _BlocksOnly()))
        except _BlocksKnown as known:
            return known.blocks
        raise source.damaged("it has no memory")

    def newest_blocks(self) -> _Blocks:
        """Those of the newest state. NotThisFormat where that is no migration stream."""
        return self._blocks(self._states[-1])

    def read(self, assembly: Assembly, blocks: _Blocks) -> None:
        """Covers the inner file."""
        *older, newest = self._states
        if not older:
            read_stream(self._source(newest), assembly)
            return
        assembly.blocks(*blocks)
        left: dict[Block, Ranges] = {}
        for state in older:
            self._read_older(state, assembly, blocks, left)
        # Nothing of theirs is left, even where the newest one does not tell of a page.
        for block, parts in left.items():
            for first, end in parts:
                start = first * _LEFT_PART
                stop = min(end * _LEFT_PART, blocks[0][block][1])
                assembly.zero_memory(block, start, stop - start)
        source = self._source(newest)
        read_stream(source, cast(Assembly, _BlocksToldBefore(assembly, source, newest=True)))

    def _read_older(
        self, state: _State, assembly: Assembly, blocks: _Blocks, left: dict[Block, Ranges]
    ) -> None:
        try:
            same = self._blocks(state) == blocks
        except (NotThisFormat, ImageDamaged):
            same = False
        source = self._source(state)
        if same:
            read_stream(source, cast(Assembly, _OfOlderSnapshots(assembly, source, left)))
            return
        assembly.unusual(
            f"snapshot {state.name!r} has other memory than the newest one, and its pages are not"
            " shared"
        )
        for piece in source.rest():
            assembly.literal(piece)


# ---- the file -----------------------------------------------------------------------------------


def _matches(prefix: memoryview) -> bool:
    return prefix[: len(_MAGIC)] == _MAGIC


def _read(source: Source, assembly: Assembly) -> None:
    if source.read_at is None or source.size is None:
        raise NotThisFormat(
            "a qcow2 image, which cannot be read from a pipe: snapshots in it are found when it is"
            " imported from the file"
        )
    reader = _Reader(source, source.read_at, source.size)
    disk = _Disk.of(reader)
    snapshots = _snapshots(reader, disk) if disk.snapshots else []
    if not snapshots:
        raise NotThisFormat(
            "a qcow2 image without snapshots of memory: it is a disk, and is kept as it is"
        )
    clusters = _Clusters(reader, disk)
    states = [clusters.add(snapshot) for snapshot in snapshots]
    for _run in clusters.in_file_order():
        pass  # they are in order, or it is told before anything is covered
    inner = _States(clusters, states, source.name)
    blocks = inner.newest_blocks()
    assembly.begin_container()
    assembly.details(
        format="qcow2",
        version=disk.version,
        cluster_size=disk.cluster,
        disk_size=disk.size,
        snapshot=states[-1].name,
        snapshots=[state.name for state in states],
    )
    inner.read(assembly, blocks)
    position = 0
    for start, offset, length in clusters.in_file_order():
        _cover(reader, assembly, position, offset)
        assembly.container_inner(start, length)
        position = offset + length
    _cover(reader, assembly, position, reader.size)


def _cover(reader: _Reader, assembly: Assembly, begin: int, end: int) -> None:
    """Covers a part of the file that is no VM state: the disk, tables, holes."""
    zeros = 0
    position = begin
    while position < end:
        # In parts of the file's own grid, so that what repeats in a disk lies alike.
        count = min(_PIECE - position % _PIECE, end - position)
        data = memoryview(reader.read(position, count, "a part of the disk"))
        first = 0
        for at in range(0, count, _ZEROS_LEAST):
            part = data[at : at + _ZEROS_LEAST]
            if part == _ZEROS[: len(part)]:
                if first < at:
                    assembly.container_literal(data[first:at])
                zeros += len(part)
                first = at + len(part)
            elif zeros:
                assembly.container_zeros(zeros)
                zeros = 0
        if first < count:
            assembly.container_literal(data[first:])
        position += count
    if zeros:
        assembly.container_zeros(zeros)


FORMAT = Format(
    name="qcow2",
    title="qcow2 image with snapshots of memory",
    matches=_matches,
    read=_read,
    anywhere=True,
)
