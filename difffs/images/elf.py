"""ELF cores whose segments are physical memory.

QEMU's ``dump-guest-memory``, VirtualBox's ``debugvm dumpvmcore``, copies of /proc/vmcore and what
makedumpfile makes of them with ``-E``. Program headers of type PT_LOAD say which bytes of the file
(from p_offset on, p_filesz of them) are memory from which physical address on (p_paddr). Where
that is depends on the processor's mode, the graphics adapter and the notes' length.

Segments come in any order. Several may name the same bytes of the file: with ``paging`` each
virtual mapping of a page has one. That is no conflict as long as they agree on the physical
address. What lies between the segments in memory (holes for PCI and VGA, pages that makedumpfile
leaves out) is left out by the format; bytes of the file that belong to no segment are no memory.

More than 65,534 program headers are counted by section header 0 (PN_XNUM). It lies before them
(QEMU since 7.2) or behind them (before).
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from difffs.images.assembly import Assembly
from difffs.images.format import Format, NotThisFormat
from difffs.images.physical import X86, DeviceBlocks, is_device_memory
from difffs.images.ranges import MOST_RANGES, Ranges
from difffs.images.source import LOOKAHEAD, Source
from difffs.page import MAXIMUM_VOLUME_SIZE

TABLE_BYTES = 16 << 20
"""The longest table of program headers: 299,593 of 64-bit cores."""
TABLE_BY = LOOKAHEAD // 2
"""Where the table has to begin at the latest: it is read before the memory."""

ET_CORE = 4
PT_LOAD = 1
PT_NOTE = 4
PN_XNUM = 0xFFFF
UNKNOWN_ADDRESS = (1 << 64) - 1
"""p_paddr of what has no physical address (/proc/kcore), p_offset of what the file lacks (QEMU)."""

MACHINES = {
    2: "sparc",
    3: "x86",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    50: "ia64",
    62: "x86-64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}
"""e_machine. (QEMU says x86 of a 64-bit processor that is in a 32-bit mode.)"""

_MOST_DEVICES = 256

CREATORS = {b"QEMU": "QEMU", b"VBCORE": "VirtualBox", b"VBCPU": "VirtualBox"}
"""Names of notes that tell who wrote a core."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the ELF header says."""

    bits: int
    order: str
    """``<`` or ``>``."""
    machine: int
    phoff: int
    phentsize: int
    phnum: int
    shoff: int
    shentsize: int
    shnum: int

    @property
    def size(self) -> int:
        """Bytes of the ELF header itself."""
        return 64 if self.bits == 64 else 52

    @property
    def phdr(self) -> struct.Struct:
        """A program header."""
        return struct.Struct(self.order + ("IIQQQQQQ" if self.bits == 64 else "IIIIIIII"))

    @property
    def section_size(self) -> int:
        """Bytes of a section header."""
        return 64 if self.bits == 64 else 40

    @property
    def counted_by_section(self) -> bool:
        """Whether section header 0 has the number of program headers."""
        return self.phnum == PN_XNUM and self.shoff > 0


@dataclass(frozen=True, slots=True)
class Segment:
    """What a program header says."""

    kind: int
    offset: int
    virtual: int
    physical: int
    in_file: int
    in_memory: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Which bytes of the file are which memory: columns of start and end in the file and address,
    in the file's order, without overlaps; the memory's length, and what lies apart from it."""

    starts: "array[int]"
    ends: "array[int]"
    addresses: "array[int]"
    length: int
    devices: DeviceBlocks


def header_of(prefix: memoryview | bytes) -> Header | None:
    """The ELF header of a core that begins with these bytes, None for anything else."""
    if len(prefix) < 20 or prefix[:4] != b"\x7fELF" or prefix[4] not in (1, 2):
        return None
    order = {1: "<", 2: ">"}.get(prefix[5])
    if order is None or struct.unpack_from(order + "H", prefix, 16)[0] != ET_CORE:
        return None
    layout = struct.Struct(order + ("HHIQQQIHHHHHH" if prefix[4] == 2 else "HHIIIIIHHHHHH"))
    # What is cut off within the header is a core all the same, and read() says so.
    _type, machine, _version, _entry, phoff, shoff, _flags, _ehsize, phentsize, phnum, *sections = (
        layout.unpack_from(bytes(prefix[16:64]).ljust(48, b"\0"))
    )
    bits = 64 if prefix[4] == 2 else 32
    return Header(bits, order, machine, phoff, phentsize, phnum, shoff, sections[0], sections[1])


def _matches(prefix: memoryview) -> bool:
    return header_of(prefix) is not None


def _read(source: Source, assembly: Assembly) -> None:
    window = source.peek(LOOKAHEAD)
    header = header_of(window)
    if header is None:
        raise NotThisFormat("no ELF core")
    if len(window) < header.size:
        raise source.damaged("it ends within the ELF header")
    if header.phnum == 0:
        raise NotThisFormat("an ELF core without segments")
    if header.phentsize != header.phdr.size:
        raise source.damaged(f"its program headers have {header.phentsize} bytes each", 0)
    if not header.size <= header.phoff <= TABLE_BY:
        raise source.damaged(f"its program headers begin at {header.phoff:,}", 0)
    _refuse_processes(header, window)

    table, count = _table(source, assembly, header)
    plan, notes = _plan(source, assembly, header, table, count)
    del table
    if source.size is not None and plan.ends and plan.ends[-1] > source.size:
        raise source.damaged(f"it has memory up to {plan.ends[-1]:,} by its headers", source.size)
    assembly.details(
        format="elf",
        bits=header.bits,
        byte_order="little" if header.order == "<" else "big",
        architecture=MACHINES.get(header.machine, f"machine {header.machine}"),
        segments=count,
    )
    if creator := _creator(source, header, notes):
        assembly.details(creator=creator)
    assembly.blocks(plan.devices.blocks(plan.length), 0)
    _cover(source, assembly, plan)


def _segments(header: Header, table: memoryview | bytes, count: int) -> Iterator[Segment]:
    """The program headers at the start of these bytes: `count`, or as many as are whole."""
    layout = header.phdr
    end = min(count, len(table) // layout.size) * layout.size
    for place in range(0, end, layout.size):
        fields = layout.unpack_from(table, place)
        yield Segment(fields[0], *(fields[2:7] if header.bits == 64 else fields[1:6]))


def _refuse_processes(header: Header, window: memoryview) -> None:
    """NotThisFormat when the segments have no physical addresses, as in a process's core, by what
    the image's first bytes tell of them."""
    count = header.phnum
    if header.counted_by_section and len(window) >= header.shoff + header.section_size:
        count = _count_in(header, window[header.shoff :])
    table = window[header.phoff :]
    loads = 0
    kernel = True
    for each in _segments(header, table, count):
        if each.kind == PT_LOAD and each.in_file:
            if each.physical:
                return
            loads += 1
            # A machine's only segment may begin at 0; its virtual address is none or a kernel's.
            kernel = each.virtual == 0 or each.virtual >> (header.bits - 1) == 1
    if loads > 1 or not kernel:
        raise NotThisFormat("the core of a process: its segments have no physical addresses")
    if not loads and count * header.phentsize <= len(table):
        raise NotThisFormat("an ELF core that holds no memory")


def _count_in(header: Header, section: memoryview) -> int:
    """The number of program headers, by section header 0 at the start of these bytes."""
    place = 44 if header.bits == 64 else 28
    number: int = struct.unpack_from(header.order + "I", section, place)[0]
    return number


def _table(source: Source, assembly: Assembly, header: Header) -> tuple[bytes, int]:
    """Covers everything up to the end of the program headers; returns them and their number."""
    size = header.phdr.size
    count = header.phnum
    counted = None if header.counted_by_section else count
    if counted is None and header.shoff < header.phoff:
        _literal_up_to(source, assembly, header.shoff, "the section headers")
        counted = _counted(source, assembly, header)
    _literal_up_to(source, assembly, header.phoff, "the program headers")
    end = header.shoff if counted is None else header.phoff + counted * size
    if end - header.phoff > TABLE_BYTES:
        raise source.damaged(
            f"its program headers would have {end - header.phoff:,} bytes, more than"
            f" {TABLE_BYTES:,}"
        )
    parts = []
    for piece in source.pieces(end - header.phoff, "the program headers"):
        parts.append(bytes(piece))
        assembly.literal(piece)
    table = b"".join(parts)
    if counted is None:
        counted = _counted(source, assembly, header)
        if counted * size > len(table):
            raise source.damaged(f"there cannot be {counted:,} program headers before this")
    return table, counted


def _counted(source: Source, assembly: Assembly, header: Header) -> int:
    """Covers section header 0, which comes next; returns the number of program headers in it."""
    view = source.take(header.section_size, "section header 0")
    assembly.literal(view)
    return _count_in(header, view)


def _literal_up_to(source: Source, assembly: Assembly, end: int, what: str) -> None:
    """Covers what lies before `end` as no memory."""
    if end < source.position:
        raise source.damaged(f"{what} begin at {end:,}, within what was before")
    for piece in source.pieces(end - source.position, f"what is before {what}"):
        assembly.literal(piece)


def _plan(
    source: Source, assembly: Assembly, header: Header, table: bytes, count: int
) -> tuple[Plan, list[tuple[int, int]]]:
    """What the file holds by its segments; and the notes: (offset, length) in the file."""
    # All segments that QEMU makes of one stretch of memory have the same distance between place
    # in the file and address: with paging there may be 100,000 of them, and they join to a few.
    by_distance: dict[int, Ranges] = {}
    ranges = length = 0
    devices = Ranges()
    notes: list[tuple[int, int]] = []
    for index, each in enumerate(_segments(header, table, count)):
        if each.kind == PT_NOTE and len(notes) < 16:
            notes.append((each.offset, each.in_file))
        if each.kind != PT_LOAD or not each.in_file or each.physical == UNKNOWN_ADDRESS:
            continue
        top = each.physical + max(each.in_file, each.in_memory)
        if top > MAXIMUM_VOLUME_SIZE or each.offset + each.in_file >= 1 << 63:
            raise source.damaged(
                f"a segment of {each.in_file:,} bytes at {each.offset:,}, for {each.physical:#x}"
                " in memory, cannot be",
                header.phoff + index * header.phentsize,
            )
        if header.machine in X86 and is_device_memory(each.physical, top):
            devices.add(each.physical, top)
            if len(devices) > _MOST_DEVICES:
                raise source.damaged(f"it has memory of more than {_MOST_DEVICES} devices")
        else:
            length = max(length, top)
        same = by_distance.setdefault(each.physical - each.offset, Ranges())
        ranges -= len(same)
        same.add(each.offset, each.offset + each.in_file)
        ranges += len(same)
        if ranges > MOST_RANGES:
            raise source.damaged(
                f"it has more than {MOST_RANGES:,} segments that do not meet",
                header.phoff + index * header.phentsize,
            )
    blocks = DeviceBlocks(list(devices))
    return _without_conflicts(assembly, by_distance, length, blocks), notes


def _without_conflicts(
    assembly: Assembly, by_distance: dict[int, Ranges], length: int, devices: DeviceBlocks
) -> Plan:
    """One place in memory for each byte of the file, and one in the file for each of memory: where
    segments say otherwise, what comes first in the file holds."""
    runs = sorted(
        (start, end, distance) for distance, ranges in by_distance.items() for start, end in ranges
    )
    by_distance.clear()
    plan = Plan(array("Q"), array("Q"), array("Q"), length, devices)
    told = Ranges()
    covered = twice = elsewhere = 0
    for start, end, distance in runs:
        if start < covered:
            elsewhere += min(end, covered) - start
            start = covered
        if start >= end:
            continue
        covered = end
        for low, high, new in told.parts(start + distance, end + distance):
            if new:
                plan.starts.append(low - distance)
                plan.ends.append(high - distance)
                plan.addresses.append(low)
            else:
                twice += high - low
        told.add(start + distance, end + distance)
    if elsewhere:
        assembly.unusual(
            f"memory is incomplete: segments name {elsewhere:,} bytes of the file that are memory"
            " of another address by a segment before"
        )
    if twice:
        assembly.unusual(
            f"the file has {twice:,} bytes of memory in two places: the first is taken for the"
            " memory, the second kept as it is"
        )
    return plan


def _creator(source: Source, header: Header, notes: list[tuple[int, int]]) -> str | None:
    """Who wrote the core, by the notes that lie within reach."""
    for offset, length in notes:
        ahead = offset - source.position
        if not 0 <= ahead < LOOKAHEAD:
            continue
        view = bytes(source.peek(min(ahead + length, LOOKAHEAD))[ahead:])
        place = 0
        while place + 12 <= len(view):
            name_bytes, described, _kind = struct.unpack_from(header.order + "III", view, place)
            name = view[place + 12 : place + 12 + min(name_bytes, 16)].rstrip(b"\0")
            if name in CREATORS:
                return CREATORS[name]
            if name == b"VMCOREINFO":
                return "Linux"
            place += 12 + -(-name_bytes // 4) * 4 + -(-described // 4) * 4
    return None


def _cover(source: Source, assembly: Assembly, plan: Plan) -> None:
    """Covers everything from the program headers' end on."""
    for start, end, address in zip(plan.starts, plan.ends, plan.addresses, strict=True):
        if start < source.position:
            assembly.unusual("memory is incomplete: a segment names bytes of the headers as memory")
            address += min(source.position, end) - start
            start = min(source.position, end)
        if start == end:
            continue
        _literal_up_to(source, assembly, start, "a segment's bytes")
        for piece in source.pieces(end - start, f"the memory at {address:#x}"):
            at = 0
            for block, offset, count in plan.devices.places(address, len(piece)):
                assembly.memory(block, offset, piece[at : at + count])
                at += count
            address += len(piece)
    behind = 0
    for piece in source.rest():
        assembly.literal(piece)
        behind += len(piece)
    # QEMU has the names of its sections there, and of some guests data of their architecture.
    if behind > LOOKAHEAD:
        assembly.unusual(f"{behind:,} bytes behind the last segment are no memory")


FORMAT = Format("elf", "ELF core of physical memory", _matches, _read)
