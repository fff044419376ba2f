"""QEMU's migration stream: what ``migrate`` to a file or a command, ``virsh save`` and ``savevm``
write.

    "QEVM", version 3
    configuration (QEMU 2.4 and later): 7, machine type, subsections
    sections: START 1, PART 2, END 3, FULL 4: section id (4 bytes); START and FULL: a name (length
        of 1 byte), instance (4), version (4); contents, of which nothing tells the length; footer
        (2.3 and later; not with machine types before): 0x7E, section id
    commands between sections: 8, command (2), length (2), data
    0 at the end; 6, length (4), JSON: what the sections hold

all big endian. Sections of devices are FULL ones and come last. Memory is the section "ram",
version 4: a START with the list of blocks, then PARTs and an END with records. A record begins with
the page's offset in its block, whose low bits are flags; if CONTINUE is not among them, the name
of the block follows (length of 1 byte); then

    ZERO 0x02           a byte that the page is filled with
    MEM_SIZE 0x04       (START only) the list of blocks
    PAGE 0x08           the page
    EOS 0x10            end of the section's contents
    XBZRLE 0x40         1, length (2), changes to the page as it was sent last
    COMPRESS_PAGE 0x100 length (4), the page by zlib (until QEMU 9.0)
    MULTIFD_FLUSH 0x200 nothing: pages came through other channels

A page that the guest writes while it is migrated comes again: the last record counts. The list of
blocks is for each: name (length of 1 byte), length (8), with ``postcopy-ram`` and huge pages the
size of those (8), with ``x-ignore-shared`` an address (8), with ``mapped-ram`` a header and all the
block's pages (:mod:`difffs.images.mapped_ram`); it ends when the lengths make up the sum that was
given with MEM_SIZE.

What lies before the section "ram" and behind it is taken for what it is, bytes. Other sections
between its parts (disks, dirty bitmaps, VFIO devices) end where a footer of theirs is followed by
the head of a section that is known.
"""

import re
import struct
import zlib
from typing import NoReturn

from difffs.images.assembly import PAGE_SIZE, Assembly, Block
from difffs.images.format import Format, NotThisFormat
from difffs.images.mapped_ram import HEADER_BYTES, header_at, read_mapped_block
from difffs.images.ram_blocks import RamBlocks
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE

MAGIC = b"QEVM"
VERSION = 3

_START, _PART, _END, _FULL = 1, 2, 3, 4
_SUBSECTION = 5
_CONFIGURATION = 7
_COMMAND = 8
_FOOTER = 0x7E

_ZERO = 0x02
_MEM_SIZE = 0x04
_PAGE = 0x08
_EOS = 0x10
_CONTINUE = 0x20
_XBZRLE = 0x40
_COMPRESS_PAGE = 0x100
_MULTIFD_FLUSH = 0x200
# Offsets of pages are multiples of the smallest page there is.
_FLAGS = (1 << 10) - 1
_OF_A_PAGE = (_ZERO, _PAGE, _XBZRLE, _COMPRESS_PAGE)

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_PAGE_RECORD = 8 + PAGE_SIZE
_HEADERS_OF_PAGES = struct.Struct(f">Q{PAGE_SIZE}x")
_ZERO_RECORD = 9
_ZERO_RECORDS = struct.Struct(">QB")

_LEAST = 256 << 10
"""Bytes to have at hand before records are worked through: the longest record, with the largest
page (64 KiB), is shorter."""
_NAME_BYTES = 255
_OVERLAP = 1024
"""Bytes that tell whether a section begins somewhere."""
_MOST_BLOCKS = 65_536
_SECTION_RAM = re.compile(rb"\x01.{4}\x03ram\x00{7}\x04", re.DOTALL)
# Behind a footer: the head of a section (ids are given one after the other, to each device when it
# is made) or a command.
_HEAD_FOLLOWS = (
    rb"(?=[\x02\x03]\x00\x00[\x00-\x0f]|[\x01\x04]\x00\x00[\x00-\x0f].[\x01-\xff]"
    rb"|\x08\x00[\x01-\x1f])"
)
# A name that a block or a machine can have.
_NAME = re.compile(rb"[!-~]+")
_DESCRIPTION_BYTES = 1 << 20
"""What a description of the sections has at most (that of a usual machine: 45 KB)."""
# The last footer, the end of sections, and the description of them or, without, padding.
_DESCRIPTION = re.compile(rb"\x7e.{4}\x00\x06(.{4})\{", re.DOTALL)
_BARE_END = re.compile(rb"\x7e\x00\x00.{2}\x00+\Z", re.DOTALL)


def read_stream(source: Source, assembly: Assembly) -> None:
    """Covers all that is left of the source: a stream that begins, with its magic, where the source
    stands, and whatever follows it. Offsets of mapped-ram are those of the source."""
    _Stream(source, assembly).read()


def _matches(prefix: memoryview) -> bool:
    return prefix[:4] == MAGIC


def _read(source: Source, assembly: Assembly) -> None:
    head = source.peek(8)
    if len(head) == 8 and _U32.unpack_from(head, 4)[0] != VERSION:
        raise NotThisFormat(
            f"a QEMU migration stream of version {_U32.unpack_from(head, 4)[0]}, not {VERSION}"
        )
    assembly.details(format="migration", version=VERSION)
    read_stream(source, assembly)


FORMAT = Format(name="migration", title="QEMU migration stream", matches=_matches, read=_read)


class _Stream:
    """Goes through one stream."""

    def __init__(self, source: Source, assembly: Assembly) -> None:
        self._source = source
        self._assembly = assembly
        self._blocks = RamBlocks(assembly)
        self._ram = b""
        """The section's id, as the stream has it."""
        self._footers = True
        self._block: Block | None = None
        """Of the record before."""
        self._page_size = PAGE_SIZE
        self._page_size_is_known = False

    def read(self) -> None:
        magic = self._source.take(8, "its magic number and version")
        if magic[:4] != MAGIC or _U32.unpack_from(magic, 4)[0] != VERSION:
            raise self._source.damaged(
                f"no migration stream of version {VERSION} begins there", self._source.position - 8
            )
        self._assembly.literal(magic)
        self._read_configuration()
        self._find_memory()
        self._read_blocks()
        name = self._blocks.name(self._blocks.memory)
        self._assembly.details(memory_block=name, page_size=self._page_size)
        self._read_sections()
        if not self._blocks.filled[self._blocks.memory]:
            self._assembly.unusual(
                f"there are no pages of {name}: they are in a file that the guest shares"
                " (x-ignore-shared) or went through other channels (multifd)"
            )
        self._read_rest()

    # ---- before the memory -------------------------------------------------------------------

    def _read_configuration(self) -> None:
        """Takes notice of what the configuration says, as far as it is known; covers nothing."""
        view = self._source.peek(_LEAST)
        if len(view) < 5 or view[0] != _CONFIGURATION:
            return
        (length,) = _U32.unpack_from(view, 1)
        machine = bytes(view[5 : 5 + min(length, _NAME_BYTES)])
        if len(machine) != length or not _NAME.fullmatch(machine):
            return
        self._assembly.details(machine=machine.decode())
        at = 5 + length
        while len(view) >= at + 2 and view[at] == _SUBSECTION:
            body = at + 2 + view[at + 1] + 4
            name = bytes(view[at + 2 : body - 4])
            if len(view) < body + 16:
                return
            if name == b"configuration/target-page-bits":
                (bits,) = _U32.unpack_from(view, body)
                if 10 <= bits <= 16:
                    self._page_size = 1 << bits
                    self._page_size_is_known = True
                at = body + 4
            elif name == b"configuration/capabilities":
                at = self._read_capabilities(view, body)
            elif name == b"configuration/uuid":
                self._assembly.details(uuid=bytes(view[body : body + 16]).hex())
                at = body + 16
            else:
                return

    def _read_capabilities(self, view: memoryview, at: int) -> int:
        (count,) = _U32.unpack_from(view, at)
        at += 4
        names = []
        for _ in range(min(count, _NAME_BYTES)):
            if at >= len(view):
                break
            name = bytes(view[at + 1 : at + 1 + view[at]])
            if not _NAME.fullmatch(name):
                break
            names.append(name.decode())
            at += 1 + len(name)
        if names:
            self._assembly.details(capabilities=names)
        return at

    def _find_memory(self) -> None:
        if not self._pass_until(_SECTION_RAM):
            raise self._source.damaged("it ends and has no section of memory")
        head = self._source.take(17, "the head of the section of memory")
        self._ram = bytes(head[1:5])
        self._assembly.literal(head)

    def _pass_until(self, pattern: re.Pattern[bytes], *, record_follows: bool = False) -> bool:
        """Covers all up to the first place where the pattern matches; False when it nowhere does
        (all is covered then)."""
        while not self._source.at_end:
            view = self._source.window(_LEAST)
            limit = len(view) if len(view) < _LEAST else len(view) - _OVERLAP
            found = pattern.search(view)
            while found and record_follows and not self._is_record(view, found.end()):
                found = pattern.search(view, found.start() + 1)
            if found and found.start() < limit:
                limit = found.start()
            else:
                found = None
            if limit:
                self._assembly.literal(view[:limit])
                self._source.skip(limit)
            if found:
                return True
        return False

    # ---- the list of blocks ------------------------------------------------------------------

    def _read_blocks(self) -> None:
        source = self._source
        head = source.take(8, "the size of memory")
        (value,) = _U64.unpack_from(head)
        left = value - _MEM_SIZE
        if value & _FLAGS != _MEM_SIZE or left % PAGE_SIZE:
            raise source.damaged("the section of memory does not begin with its size", self._before)
        if not 0 < left <= MAXIMUM_VOLUME_SIZE:
            raise source.damaged(f"a memory of {left:,} bytes is not possible", self._before)
        self._assembly.literal(head)
        listed: dict[str, int] = {}
        while left:
            view = source.peek(2 * (_NAME_BYTES + 32) + HEADER_BYTES)
            entry = self._entry(view, 0, left)
            if not entry:
                raise source.damaged("no block of memory is listed there")
            name, length, end = entry
            if name in listed or self._blocks.find(name) is not None:
                raise source.damaged(f"the block {name} is listed twice")
            if len(listed) + len(self._blocks) >= _MOST_BLOCKS:
                raise source.damaged("it has too many blocks of memory")
            left -= length
            # What capabilities were on is not told reliably, so that it has to be seen what lies
            # between an entry and the next: numbers, which (unlike names' lengths) begin with 0.
            for at in range(end, end + 24, 8):
                header = header_at(view, at)
                if header:
                    self._assembly.literal(source.take(at + HEADER_BYTES, "a block's header"))
                    self._assembly.details(layout="mapped-ram")
                    self._blocks.tell([(name, length)])
                    read_mapped_block(
                        source, self._assembly, self._blocks, len(self._blocks) - 1, header
                    )
                    break
                if self._entry(view, at, left) if left else self._ends_blocks(view, at):
                    if len(self._blocks):
                        raise source.damaged(f"the block {name} is not mapped as those before")
                    self._assembly.literal(source.take(at, "a block of memory"))
                    listed[name] = length
                    break
            else:
                raise source.damaged(f"the list of blocks does not go on behind {name}")
        if listed:
            if len(self._blocks):
                raise source.damaged("some blocks are mapped and some are not")
            self._blocks.tell(list(listed.items()))

    @property
    def _before(self) -> int:
        """Where the eight bytes taken last began."""
        return self._source.position - 8

    @staticmethod
    def _entry(view: memoryview, at: int, left: int) -> tuple[str, int, int] | None:
        """Name, length, end of the entry that lies there: its block has `left` bytes at most."""
        if len(view) <= at:
            return None
        end = at + 1 + view[at] + 8
        name = bytes(view[at + 1 : end - 8])
        if len(view) < end or not _NAME.fullmatch(name):
            return None
        (length,) = _U64.unpack_from(view, end - 8)
        if length > left or length % PAGE_SIZE:
            return None
        return name.decode(), length, end

    @staticmethod
    def _ends_blocks(view: memoryview, at: int) -> bool:
        return len(view) >= at + 8 and _U64.unpack_from(view, at)[0] in (_EOS, _MULTIFD_FLUSH)

    # ---- sections ----------------------------------------------------------------------------

    def _read_sections(self) -> None:
        """From the contents of the memory's START to the end of its END."""
        source = self._source
        self._read_records()
        footer = source.peek(5)
        self._footers = len(footer) == 5 and footer[0] == _FOOTER and footer[1:] == self._ram
        self._read_footer()
        while True:
            head = source.peek(5)
            if len(head) < 5:
                raise source.damaged("it ends between sections of memory")
            kind, section = head[0], bytes(head[1:])
            if kind in (_PART, _END) and section == self._ram:
                self._assembly.literal(source.take(5, "the head of a section"))
                self._read_records()
                self._read_footer()
                if kind == _END:
                    return
            elif kind == _COMMAND:
                length = 5 + _U16.unpack_from(head, 3)[0]
                for piece in source.pieces(length, "a command"):
                    self._assembly.literal(piece)
            elif kind in (_START, _PART, _END, _FULL) and section[:2] == b"\0\0":
                self._pass_section(section)
            else:
                raise source.damaged("no section begins there")

    def _read_footer(self) -> None:
        if not self._footers:
            return
        footer = self._source.take(5, "a section's footer")
        if footer[0] != _FOOTER or footer[1:] != self._ram:
            raise self._source.damaged(
                "the section of memory has no footer", self._source.position - 5
            )
        self._assembly.literal(footer)

    def _pass_section(self, section: bytes) -> None:
        """Covers a section that is not the memory's, whatever its contents are."""
        start = self._source.position
        if self._footers:
            found = self._pass_until(
                re.compile(rb"\x7e" + re.escape(section) + _HEAD_FOLLOWS, re.DOTALL)
            )
        else:
            found = self._pass_until(
                re.compile(rb"[\x02\x03]" + re.escape(self._ram), re.DOTALL), record_follows=True
            )
        if not found:
            raise self._source.damaged("the memory does not go on behind another section", start)
        if self._footers:
            self._assembly.literal(self._source.take(5, "a section's footer"))

    # ---- records of pages --------------------------------------------------------------------

    def _is_record(self, view: memoryview, at: int) -> bool:
        """Whether a record of a page, or the end of records, seems to lie there."""
        if len(view) < at + 9:
            return len(view) == at + 8 and _U64.unpack_from(view, at)[0] == _EOS
        (value,) = _U64.unpack_from(view, at)
        if value in (_EOS, _MULTIFD_FLUSH):
            return True
        flags = value & _FLAGS
        if flags & ~_CONTINUE not in _OF_A_PAGE:
            return False
        block = (
            self._block
            if flags & _CONTINUE
            else self._blocks.find(
                bytes(view[at + 9 : at + 9 + view[at + 8]]).decode("ascii", "replace")
            )
        )
        return block is not None and value - flags < self._blocks.length(block)

    def _read_records(self) -> None:
        """Covers records up to the one that ends a section's contents."""
        source = self._source
        longest = 8 + 1 + _NAME_BYTES + 4 + 2 * self._largest_page
        while True:
            view = source.window(_LEAST)
            # Of what is no full window, nothing follows.
            end = len(view) - longest if len(view) >= _LEAST else len(view) - 1
            at = 0
            while at <= end:
                if len(view) < at + 8:
                    break
                (value,) = _U64.unpack_from(view, at)
                flags = value & _FLAGS
                taken = 0
                if flags == _PAGE | _CONTINUE:
                    taken = self._read_pages(view, at, value)
                elif flags == _ZERO | _CONTINUE:
                    taken = self._read_zeros(view, at, value)
                elif value == _EOS:
                    self._assembly.literal(view[at : at + 8])
                    source.skip(at + 8)
                    return
                elif value == _MULTIFD_FLUSH:
                    self._assembly.literal(view[at : at + 8])
                    taken = 8
                at += taken or self._read_record(view, at, value)
            source.skip(at)
            if len(view) < _LEAST:
                raise source.damaged("it ends within a section of memory")

    @property
    def _largest_page(self) -> int:
        return self._page_size if self._page_size_is_known else 1 << 16

    def _read_pages(self, view: memoryview, at: int, first: int) -> int:
        """Covers a run of records of pages that lie one after the other, as far as it is in view;
        gives its bytes, 0 when it is for _read_record."""
        offset = first - (_PAGE | _CONTINUE)
        block = self._block
        if not self._page_size_is_known:
            self._find_page_size(view, at + 8)
        if block is None or self._page_size != PAGE_SIZE or offset % PAGE_SIZE:
            return 0
        most = min(
            (len(view) - at) // _PAGE_RECORD, (self._blocks.length(block) - offset) // PAGE_SIZE
        )
        if most <= 0:
            return 0
        end = at + most * _PAGE_RECORD
        expected = first
        for (header,) in _HEADERS_OF_PAGES.iter_unpack(view[at:end]):
            if header != expected:
                break
            expected += PAGE_SIZE
        length = expected - first
        end = at + length // PAGE_SIZE * _PAGE_RECORD
        self._assembly.page_records(
            block,
            offset,
            first,
            b"".join([view[page : page + PAGE_SIZE] for page in range(at + 8, end, _PAGE_RECORD)]),
        )
        self._blocks.give(block, offset + length)
        return end - at

    def _read_zeros(self, view: memoryview, at: int, first: int) -> int:
        """The same for pages of zeros."""
        offset = first - (_ZERO | _CONTINUE)
        block = self._block
        if block is None or self._page_size != PAGE_SIZE or offset % PAGE_SIZE:
            return 0
        most = min(
            (len(view) - at) // _ZERO_RECORD, (self._blocks.length(block) - offset) // PAGE_SIZE
        )
        if most <= 0:
            return 0
        expected = first
        for record in _ZERO_RECORDS.iter_unpack(view[at : at + most * _ZERO_RECORD]):
            if record != (expected, 0):
                break
            expected += PAGE_SIZE
        length = expected - first
        if not length:
            return 0
        count = length // PAGE_SIZE
        self._assembly.zero_records(block, offset, first, count)
        self._blocks.give(block, offset + length)
        return count * _ZERO_RECORD

    def _read_record(self, view: memoryview, at: int, value: int) -> int:
        """Covers one record of any kind that has a page; gives its bytes."""
        flags = value & _FLAGS
        offset = value - flags
        kind = flags & ~_CONTINUE
        if kind not in _OF_A_PAGE:
            self._fail(at, f"a record has unknown flags, {flags:#x}")
        body = at + 8
        if not flags & _CONTINUE:
            name = bytes(self._part(view, at, body + 1, self._part(view, at, body, 1)[0]))
            body += 1 + len(name)
            self._block = self._blocks.find(name.decode("ascii", "replace"))
        block = self._block
        if block is None:
            self._fail(at, "a page is of a block that is not listed")
        if kind == _PAGE and not self._page_size_is_known:
            self._find_page_size(view, body)
        size = self._page_size
        if offset + size > self._blocks.length(block) or (
            self._page_size_is_known and offset % size
        ):
            self._fail(at, f"a page is at {offset:,} of the block {self._blocks.name(block)}")
        content: bytes | memoryview | None
        if kind == _PAGE:
            # Not memory(), whose pages are never replaced: a live guest's may come again.
            content = self._part(view, at, body, size)
            end = body + size
            if size != PAGE_SIZE:
                self._assembly.unusual(f"pages of {size:,} bytes are kept twice")
        elif kind == _ZERO:
            fill = bytes(self._part(view, at, body, 1))
            end = body + 1
            content = fill * size
            fresh = offset >= self._blocks.filled[block]
            if fresh and fill == b"\0" and offset % PAGE_SIZE == size % PAGE_SIZE == 0:
                self._assembly.literal(view[at:end])
                self._assembly.zero_memory(block, offset, size)
                self._blocks.give(block, offset + size)
                return end - at
        elif kind == _COMPRESS_PAGE:
            (length,) = _U32.unpack(self._part(view, at, body, 4))
            if length > 2 * size:
                self._fail(at, f"a page is compressed into {length:,} bytes")
            end = body + 4 + length
            content = self._unpacked(at, self._part(view, at, body + 4, length))
        else:
            mark, length = struct.unpack(">BH", self._part(view, at, body, 3))
            if mark != 1 or length > size:
                self._fail(at, "a page has changes of an unknown form")
            end = body + 3 + length
            self._part(view, at, body + 3, length)
            content = None
            self._assembly.unusual(
                f"memory is incomplete: pages of {self._blocks.name(block)} were sent as changes"
                " to what they held before (xbzrle)"
            )
        self._assembly.literal(view[at:end])
        if content is not None:
            self._assembly.memory_apart(block, offset, content)
        self._blocks.give(block, offset + size)
        return end - at

    def _find_page_size(self, view: memoryview, page: int) -> None:
        """The size of a target's pages, where the configuration does not tell it: where the first
        page is followed by another record. (Most machines have 4 KiB, SPARC and Alpha 8 KiB.)"""
        self._page_size_is_known = True
        for bits in (12, 13, 14, 16, 10, 11):
            if self._is_record(view, page + (1 << bits)):
                self._page_size = 1 << bits
                self._assembly.details(page_size=self._page_size)
                return

    def _unpacked(self, at: int, packed: memoryview) -> bytes:
        unpacking = zlib.decompressobj()
        try:
            page = unpacking.decompress(packed, self._page_size + 1)
        except zlib.error as error:
            self._fail(at, f"a compressed page is no zlib stream ({error})")
        if len(page) != self._page_size or not unpacking.eof:
            self._fail(at, "a compressed page is none")
        return page

    def _part(self, view: memoryview, at: int, start: int, length: int) -> memoryview:
        """Bytes of a record that begins at `at`."""
        part = view[start : start + length]
        if len(part) < length:
            self._fail(at, "it ends within a record of memory")
        return part

    def _fail(self, at: int, text: str) -> NoReturn:
        """The image is damaged, `at` bytes behind where the source stands."""
        raise self._source.damaged(text, self._source.position + at)

    # ---- behind the memory -------------------------------------------------------------------

    def _read_rest(self) -> None:
        """Covers the state of devices and all that follows. It ends with a description of the
        sections, or with nothing; that is all that shows whether something is missing."""
        tail = bytearray()
        for piece in self._source.rest():
            self._assembly.literal(piece)
            tail += piece[-_DESCRIPTION_BYTES:]
            if len(tail) > 2 * _DESCRIPTION_BYTES:
                del tail[:-_DESCRIPTION_BYTES]
        if not self._footers or _BARE_END.search(tail):
            return
        for found in _DESCRIPTION.finditer(tail):
            if found.end() - 1 + _U32.unpack(found[1])[0] <= len(tail):
                return
        raise self._source.damaged("the state of devices, behind the memory, has no proper end")
