"""An independent writer of Xen's dump-core files, for tests: sections in the order that xc_core.c
writes them."""

import struct

PAGE = 4096
NO_FRAME = (1 << 64) - 1


def xen_core(
    pages: list[tuple[int, bytes]],
    *,
    paravirtualized: bool = False,
    order: str = "<",
    magic: int | None = None,
    count: int | None = None,
    page_bytes: int = PAGE,
) -> bytes:
    """A core of pages of (frame number, content) in the file's order. `magic`, `count` and
    `page_bytes` are what the note says."""
    names = [b"", b".shstrtab", b".note.Xen", b".xen_prstatus", b".xen_shared_info", b".xen_pages"]
    names.append(b".xen_p2m" if paravirtualized else b".xen_pfn")
    strings = b"\0".join(names) + b"\0"
    if magic is None:
        magic = 0xF00FEBED if paravirtualized else 0xF00FEBEE

    def note(kind: int, description: bytes) -> bytes:
        return struct.pack(order + "III", 4, len(description), kind) + b"Xen\0" + description

    notes = note(0x2000000, b"")
    notes += note(
        0x2000001,
        struct.pack(order + "QQQQ", magic, 2, len(pages) if count is None else count, page_bytes),
    )
    notes += note(0x2000002, bytes(1272)) + note(0x2000003, struct.pack(order + "Q", 1))
    registers = b"registers " * 1000
    shared = b"shared info ".ljust(PAGE, b"\0")
    frames = b"".join(
        struct.pack(order + "QQ", frame, frame ^ 0x5000)
        if paravirtualized
        else struct.pack(order + "Q", frame)
        for frame, _page in pages
    )
    notes_at = 64 + 64 * len(names)
    pages_at = -(-(notes_at + len(notes) + len(registers) + len(shared)) // PAGE) * PAGE
    padding = pages_at - notes_at - len(notes) - len(registers) - len(shared)
    frames_at = pages_at + PAGE * len(pages)
    sections = [
        (0, 0, 0, 0, 0),
        (3, frames_at + len(frames), len(strings), 0, 0),
        (7, notes_at, len(notes), 0, 0),
        (1, notes_at + len(notes), len(registers), 8, 5000),
        (1, notes_at + len(notes) + len(registers), PAGE, 8, PAGE),
        (1, pages_at, PAGE * len(pages), PAGE, PAGE),
        (1, frames_at, len(frames), 8, 16 if paravirtualized else 8),
    ]
    head = b"\x7fELF" + bytes([2, 1 if order == "<" else 2, 1]) + bytes(9)
    head += struct.pack(order + "HHIQQQIHHHHHH", 4, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, 7, 1)
    table = b"".join(
        struct.pack(
            order + "IIQQQQIIQQ",
            strings.index(name + b"\0") if name else 0,
            *(kind, 0, 0, at, size, 0, 0, align, entry),
        )
        for name, (kind, at, size, align, entry) in zip(names, sections, strict=True)
    )
    body = b"".join(page for _frame, page in pages)
    return b"".join([head, table, notes, registers, shared, bytes(padding), body, frames, strings])
