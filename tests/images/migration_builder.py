"""An independent writer of QEMU's migration stream and of mapped-ram, from their structure.

Written like QEMU's own: by a cursor that is told what comes next. It keeps what a machine that
takes the stream in would have in its memory.
"""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

PAGE = 4096
MIB = 1 << 20


def be32(value: int) -> bytes:
    """Four bytes, big endian."""
    return value.to_bytes(4, "big")


def be64(value: int) -> bytes:
    """Eight bytes, big endian."""
    return value.to_bytes(8, "big")


def text(value: str | bytes) -> bytes:
    """A name behind its length in one byte."""
    encoded = value.encode() if isinstance(value, str) else value
    return bytes([len(encoded)]) + encoded


@dataclass
class MigrationBuilder:
    """A stream that grows in ``out``. Calls come in the order in which QEMU would write."""

    blocks: Mapping[str, int]
    page_size: int = PAGE
    footers: bool = True
    section: int = 2
    """Id of the memory's section."""
    start: int = 0
    """Where in the file the stream begins: offsets of mapped-ram are the file's."""
    out: bytearray = field(default_factory=bytearray)
    memory: dict[str, bytearray] = field(default_factory=dict)
    _block: str | None = None

    def __post_init__(self) -> None:
        self.memory = {name: bytearray(length) for name, length in self.blocks.items()}
        self.out += b"QEVM" + be32(3)

    def configuration(
        self,
        machine: str = "pc-q35-7.2",
        *,
        capabilities: Sequence[str] = (),
        page_bits: int | None = None,
        uuid: bytes | None = None,
    ) -> None:
        """The configuration, with subsections where there is something to say in them."""
        self.out += b"\7" + be32(len(machine)) + machine.encode()
        if page_bits is not None:
            self.out += b"\5" + text("configuration/target-page-bits") + be32(1) + be32(page_bits)
        if capabilities:
            self.out += b"\5" + text("configuration/capabilities") + be32(1)
            self.out += be32(len(capabilities)) + b"".join(map(text, capabilities))
        if uuid is not None:
            self.out += b"\5" + text("configuration/uuid") + be32(1) + uuid

    def begin_memory(self) -> None:
        """The head of the memory's START, and the size of it all."""
        self.out += b"\1" + be32(self.section) + text("ram") + be32(0) + be32(4)
        self.out += be64(sum(self.blocks.values()) | 4)

    def list_blocks(self, between: Callable[[str], bytes] = lambda _name: b"") -> None:
        """The list, with what capabilities put behind each entry."""
        for name, length in self.blocks.items():
            self.out += text(name) + be64(length) + between(name)

    def map_blocks(
        self,
        *,
        stale: Mapping[tuple[str, int], bytes] | None = None,
        big_endian: bool = False,
        between: bytes = b"",
        left_out: Sequence[str] = (),
    ) -> None:
        """The list with mapped-ram: pages of ``memory`` that are not zeros lie in their places.
        `stale` are pages (block, number) that are zeros now and lie there as they once were."""
        for name, length in self.blocks.items():
            self.out += text(name) + be64(length) + between
            header = self.start + len(self.out) + 28
            if name in left_out:
                self.out += struct.pack(">IQQQ", 1, self.page_size, 0, 0)
                continue
            pages = -(-length // self.page_size)
            words = [0] * -(-pages // 64)
            content = bytearray(length)
            for number in range(pages):
                place = slice(number * self.page_size, (number + 1) * self.page_size)
                page = self.memory[name][place]
                if any(page):
                    words[number // 64] |= 1 << number % 64
                    content[place] = page
                elif (name, number) in (stale or {}):
                    content[place] = (stale or {})[name, number]
            bitmap = struct.pack(f"{'>' if big_endian else '<'}{len(words)}Q", *words)
            begin = -(-(header + len(bitmap)) // MIB) * MIB
            self.out += struct.pack(">IQQQ", 1, self.page_size, header, begin) + bitmap
            self.out += bytes(begin - self.start - len(self.out)) + content

    def part(self, kind: int = 2) -> None:
        """The head of a PART, or of the END (3)."""
        self.out += bytes([kind]) + be32(self.section)

    def _header(self, name: str, page: int, flags: int, always: bool) -> bytes:
        again = name == self._block and not always
        self._block = name
        head = be64(page * self.page_size | flags | (0x20 if again else 0))
        return head if again else head + text(name)

    def page(self, name: str, number: int, content: bytes, *, named: bool = False) -> None:
        """A page, with the block's name if that changes (or `named`)."""
        self.out += self._header(name, number, 0x08, named) + content
        self._put(name, number, content)

    def zero(self, name: str, number: int, fill: int = 0, *, named: bool = False) -> None:
        """A page that is filled with one byte."""
        self.out += self._header(name, number, 0x02, named) + bytes([fill])
        self._put(name, number, bytes([fill]) * self.page_size)

    def compressed(self, name: str, number: int, content: bytes, level: int = 1) -> None:
        """A page, compressed."""
        packed = zlib.compress(content, level)
        self.out += self._header(name, number, 0x100, False) + be32(len(packed)) + packed
        self._put(name, number, content)

    def changes(self, name: str, number: int, runs: Sequence[tuple[int, bytes]]) -> None:
        """Changes to a page: (bytes left as they are, bytes put in their place), below 128 each."""
        content = bytearray(self.memory[name][number * self.page_size :][: self.page_size])
        delta = b""
        at = 0
        for skipped, new in runs:
            delta += bytes([skipped, len(new)]) + new
            content[at + skipped : at + skipped + len(new)] = new
            at += skipped + len(new)
        self.out += self._header(name, number, 0x40, False) + b"\1"
        self.out += len(delta).to_bytes(2, "big") + delta
        self._put(name, number, bytes(content))

    def _put(self, name: str, number: int, content: bytes) -> None:
        assert len(content) == self.page_size
        start = number * self.page_size
        self.memory[name][start : start + self.page_size] = content

    def flush(self) -> None:
        """Multifd's mark in the main channel."""
        self.out += be64(0x200)

    def end_records(self) -> None:
        """The end of a section of memory."""
        self.out += be64(0x10) + (b"\x7e" + be32(self.section) if self.footers else b"")

    def command(self, number: int, data: bytes = b"") -> None:
        """A command between sections."""
        self.out += b"\x08" + struct.pack(">HH", number, len(data)) + data

    def other(self, kind: int, section: int, content: bytes, name: str = "dirty-bitmap") -> None:
        """A section that is not the memory's."""
        self.out += bytes([kind]) + be32(section)
        if kind in (1, 4):
            self.out += text(name) + be32(0) + be32(1)
        self.out += content + (b"\x7e" + be32(section) if self.footers else b"")

    def finish(self, *, description: bool = True) -> None:
        """Devices, the end, the description of the sections."""
        self.other(4, 40, b"\0\0\0\1" * 30, "timer")
        self.other(4, 41, bytes(range(200)), "0000:00:01.0/virtio-balloon")
        self.out += b"\0"
        if description:
            json = b'{"configuration": {"vmsd_name": "configuration", "version": 1}}'
            self.out += b"\6" + be32(len(json)) + json
