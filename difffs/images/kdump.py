"""Kdump files: compressed dumps by QEMU's ``dump-guest-memory`` and by makedumpfile.

What QEMU writes with ``format=kdump-raw-zlib`` and makedumpfile to a file. (What they write to a
pipe is in another form: see ``flattened``.)
"""

from difffs.images.assembly import Assembly
from difffs.images.format import Format
from difffs.images.kdump_header import (
    DESCRIPTOR_BYTES,
    INCOMPLETE,
    LARGEST_BLOCK,
    MAIN_HEADER_BYTES,
    SIGNATURES,
    SUB_HEADER_BYTES,
    layout,
    main_header,
)
from difffs.images.kdump_pages import KdumpPages, Place
from difffs.images.source import Source

_DESCRIPTORS_AT_ONCE = 8192


def matches(prefix: memoryview) -> bool:
    """Whether it begins as a kdump or diskdump file does."""
    return bytes(prefix[:8]) in SIGNATURES


def read(source: Source, assembly: Assembly) -> None:
    """Reads a kdump file from front to back."""
    head = bytes(source.peek(MAIN_HEADER_BYTES))
    if len(head) < MAIN_HEADER_BYTES:
        raise source.damaged("it ends within the kdump header")
    header = main_header(head, source)
    start = bytes(source.peek(header.block_size + SUB_HEADER_BYTES))
    if len(start) < header.block_size + SUB_HEADER_BYTES:
        raise source.damaged("it ends within the kdump sub header")
    described = layout(header, start[header.block_size :], source)
    with KdumpPages(described, source, assembly, Place(assembly, contained=False)) as pages:
        assembly.details(format="kdump", **described.facts)
        _literal(source, assembly, described.bitmap, "the headers and the first bitmap")
        for piece in source.pieces(described.bitmap_bytes, "the bitmap of its pages"):
            pages.bitmap(piece)
            assembly.literal(piece)
        _literal(source, assembly, described.descriptors, "the bitmap of its pages")
        left = pages.pages
        while left:
            count = min(left, _DESCRIPTORS_AT_ONCE)
            pages.descriptors(source.take(count * DESCRIPTOR_BYTES, "the page descriptors"))
            left -= count
        while pages.data_expected:
            window = source.window()
            taken = pages.tell(window)
            if not taken:
                window = source.window(LARGEST_BLOCK)
                taken = pages.tell(window)
            if not taken:
                raise source.damaged("it ends within the data of its pages")
            source.skip(taken)
        pages.end()
        _behind(source, assembly, incomplete=bool(header.status & INCOMPLETE))


def _literal(source: Source, assembly: Assembly, end: int, what: str) -> None:
    """What lies before `end`, kept as it is."""
    for piece in source.pieces(end - source.position, what):
        assembly.literal(piece)


def _behind(source: Source, assembly: Assembly, *, incomplete: bool) -> None:
    """What lies behind the last page: what makedumpfile tells of what it has erased, or a part of a
    page for which the disk had no room."""
    count = 0
    for piece in source.rest():
        expected = incomplete or (not count and bytes(piece[:6]) == b"erase ")
        if not count and not expected and any(piece):
            assembly.unusual("bytes behind the last page's data, which are kept as they are")
        count += len(piece)
        assembly.literal(piece)


FORMAT = Format(
    name="kdump",
    title="kdump file of QEMU or makedumpfile",
    matches=matches,
    read=read,
)
