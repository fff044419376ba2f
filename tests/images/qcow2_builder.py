"""Writes qcow2 images with snapshots, from the published structure of the format."""

import random
import struct
from dataclasses import dataclass, field

from difffs.images.format import Format
from difffs.images.source import Source
from tests.images.plain_assembly import PlainAssembly

Q = struct.Struct(">Q")


@dataclass
class Snapshot:
    """What a snapshot is to hold."""

    name: str
    state: bytes
    seconds: int = 1
    extra: int = 16
    """Bytes of the additional fields."""
    holes: frozenset[int] = frozenset()
    """Clusters of the state that are not to be allocated: they must be zeros."""


@dataclass
class Qcow2:
    """An image that is being made; ``parts`` are its clusters by number."""

    cluster_bits: int = 12
    version: int = 3
    extended: bool = False
    disk_size: int = 1 << 20
    seed: int = 0
    scattered: bool = False
    """Whether clusters of a state lie in no order."""
    disk: bytes = b""
    """Something that lies between the tables."""
    parts: dict[int, bytes] = field(default_factory=dict)
    next: int = 1

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits

    def put(self, data: bytes) -> int:
        """Puts data into new clusters; returns its offset."""
        count = max(-(-len(data) // self.cluster), 1)
        number, self.next = self.next, self.next + count
        for index in range(count):
            part = data[index * self.cluster : (index + 1) * self.cluster]
            self.parts[number + index] = part.ljust(self.cluster, b"\0")
        return number * self.cluster

    def state_table(self, snapshot: Snapshot) -> tuple[int, int]:
        """Puts a VM state and its tables; returns offset and entries of the L1 table."""
        pieces = [
            snapshot.state[at : at + self.cluster]
            for at in range(0, len(snapshot.state), self.cluster)
        ]
        order = list(range(len(pieces)))
        if self.scattered:
            random.Random(self.seed).shuffle(order)
        offsets = [0] * len(pieces)
        for index in order:
            if index in snapshot.holes:
                assert not any(pieces[index])
            else:
                offsets[index] = self.put(pieces[index])
        width = 2 if self.extended else 1
        entries = self.cluster // (8 * width)
        first = -(-self.disk_size // (self.cluster * entries))
        l1 = [0] * first
        for at in range(0, len(offsets), entries):
            words = []
            for index in range(at, min(at + entries, len(offsets))):
                used = offsets[index]
                words.append(used | (1 << 63) if used else 0)
                if self.extended:
                    part = self.cluster // 32
                    count = -(-len(pieces[index]) // part)
                    words.append((1 << count) - 1 if used else 0)
            l1.append(self.put(struct.pack(f">{len(words)}Q", *words)) | 1 << 63)
        return self.put(struct.pack(f">{len(l1)}Q", *l1)), len(l1)

    def finish(self, snapshots: list[Snapshot], encryption: int = 0, features: int = 0) -> bytes:
        """The whole image."""
        table = b""
        if self.disk:
            self.put(self.disk)
        for number, snapshot in enumerate(snapshots):
            l1_at, l1_entries = self.state_table(snapshot) if snapshot.state else (self.put(b""), 1)
            size = len(snapshot.state)
            extra = (Q.pack(size) + Q.pack(self.disk_size)).ljust(snapshot.extra, b"e")
            extra = extra[: snapshot.extra]
            identity, name = str(number + 1).encode(), snapshot.name.encode()
            table = table.ljust(-(-len(table) // 8) * 8, b"\0")
            table += struct.pack(
                ">QIHHIIQII",
                l1_at,
                l1_entries,
                len(identity),
                len(name),
                snapshot.seconds,
                0,
                77,
                size if len(extra) < 8 else 0,
                len(extra),
            )
            table += extra + identity + name
            if self.disk:
                self.put(self.disk)
        table_at = self.put(table)
        header = struct.pack(
            ">4sIQIIQIIQQIIQ",
            *(b"QFI\xfb", self.version, 0, 0, self.cluster_bits, self.disk_size, encryption),
            *(1, self.cluster, 2 * self.cluster, 1, len(snapshots), table_at),
        )
        if self.version == 3:
            features |= 16 if self.extended else 0
            header += struct.pack(">QQQII", features, 0, 0, 4, 104)
        self.parts[0] = header.ljust(self.cluster, b"\0")
        return b"".join(self.parts[number] for number in range(self.next))


def assembled(form: Format, image: bytes) -> PlainAssembly:
    """What the reader makes of an image that lies in a file."""
    source = Source(
        iter([]),
        name="disk",
        size=len(image),
        read_at=lambda offset, count: image[offset : offset + min(count, 100_000)],
    )
    assembly = PlainAssembly()
    form.read(source, assembly)
    assert source.position == 0
    return assembly
