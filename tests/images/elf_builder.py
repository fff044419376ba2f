"""An independent writer of ELF cores of physical memory, for tests."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Mapping:
    """A program header of type PT_LOAD: a part of a stretch of memory."""

    stretch: int
    start: int
    length: int
    virtual: int = 0
    more: int = 0
    """Bytes that p_memsz is larger by than p_filesz."""
    physical: int | None = None
    """p_paddr, where it is not the stretch's own."""


def elf_core(
    stretches: list[tuple[int, bytes]],
    mappings: list[Mapping] | None = None,
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = 62,
    counted: str | None = None,
    notes: bytes = b"",
    between: bytes = b"",
    tail: bytes = b"",
    kind: int = 4,
) -> bytes:
    """A core: `stretches` are (physical address, bytes) in the file's order, `between` comes before
    each; `mappings` the segments in the table's order, one for each stretch if None. `counted`:
    where section header 0 has the number of headers, "before" or "behind" them."""
    if mappings is None:
        mappings = [Mapping(i, 0, len(data)) for i, (_at, data) in enumerate(stretches)]
    wide = bits == 64
    head_bytes, entry_bytes, section_bytes = (64, 56, 64) if wide else (52, 32, 40)
    count = len(mappings) + 1
    sections = section_bytes if counted else 0
    table_at = head_bytes + (sections if counted == "before" else 0)
    notes_at = head_bytes + sections + count * entry_bytes
    places = []
    body = bytearray()
    for _address, data in stretches:
        body += between
        places.append(notes_at + len(notes) + len(body))
        body += data
    section_at = {None: 0, "before": head_bytes, "behind": table_at + count * entry_bytes}[counted]

    def entry(type_: int, at: int, virtual: int, physical: int, length: int, memory: int) -> bytes:
        if wide:
            return struct.pack(
                order + "IIQQQQQQ", type_, 7, at, virtual, physical, length, memory, 0
            )
        return struct.pack(order + "IIIIIIII", type_, at, virtual, physical, length, memory, 7, 0)

    table = [entry(4, notes_at, 0, 0, len(notes), len(notes))]
    for each in mappings:
        physical = stretches[each.stretch][0] + each.start
        table.append(
            entry(
                1,
                places[each.stretch] + each.start,
                each.virtual,
                physical if each.physical is None else each.physical,
                each.length,
                each.length + each.more,
            )
        )
    head = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    head += struct.pack(
        order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"),
        kind,
        machine,
        1,
        0,
        table_at,
        section_at,
        0,
        head_bytes,
        entry_bytes,
        0xFFFF if counted else count,
        section_bytes if counted else 0,
        1 if counted else 0,
        0,
    )
    section = struct.pack(
        order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"), 0, 0, 0, 0, 0, 0, 0, count, 0, 0
    )
    return b"".join(
        [
            head,
            section if counted == "before" else b"",
            *table,
            section if counted == "behind" else b"",
            notes,
            bytes(body),
            tail,
        ]
    )


def note(order: str, name: bytes, kind: int, description: bytes) -> bytes:
    """A note."""
    return (
        struct.pack(order + "III", len(name) + 1, len(description), kind)
        + (name + b"\0").ljust(-(-(len(name) + 1) // 4) * 4, b"\0")
        + description.ljust(-(-len(description) // 4) * 4, b"\0")
    )
