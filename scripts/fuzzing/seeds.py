"""Small images of each format to begin with, made by the tests' independent writers."""

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable, Mapping

import cramjam
import zstandard

from fuzzing.short_form import PAGES
from tests.images.avml_builder import avml_dump
from tests.images.elf_builder import Mapping as Segment
from tests.images.elf_builder import elf_core, note
from tests.images.kdump_builder import Kdump, flattened, makedumpfile_records, qemu_records
from tests.images.libvirt_save_builder import PACKERS, libvirt_save
from tests.images.lime_builder import lime_dump
from tests.images.migration_builder import MigrationBuilder
from tests.images.qcow2_builder import Qcow2, Snapshot
from tests.images.small_stream import small_stream
from tests.images.xen_builder import NO_FRAME, xen_core

PAGE = 4096
TEXT = (b"page of a guest " * 256)[:PAGE]
NOISE = PAGES[0]
ZERO = bytes(PAGE)


def _stream(
    page_size: int = PAGE,
    *,
    footers: bool = True,
    page_bits: int | None = 12,
    extras: bool = False,
) -> bytes:
    blocks = {"pc.ram": 8 * page_size, "vga": 2 * PAGE, "pc.bios": 2 * PAGE}
    made = MigrationBuilder(blocks, page_size, footers)
    made.configuration(page_bits=page_bits, capabilities=("xbzrle",) if extras else ())
    made.begin_memory()
    made.list_blocks()
    made.end_records()
    text = (b"page of a guest " * 4096)[:page_size]
    made.part()
    made.page("pc.ram", 0, text)
    made.page("pc.ram", 1, text)
    made.zero("pc.ram", 2)
    made.zero("pc.ram", 3)
    for block in ("vga", "pc.bios"):
        made.zero(block, 0)
        made.page(block, 1, text)
    made.end_records()
    if extras:
        made.command(3, b"data")
        made.other(1, 7, b"bitmap")
        made.part()
        made.compressed("pc.ram", 4, text)
        made.changes("pc.ram", 0, [(5, b"new"), (7, b"old")])
        made.zero("pc.ram", 5, 9)
        made.flush()
        made.end_records()
        made.other(2, 7, b"more")
    made.part(3)
    made.page("pc.ram", 1, text[::-1])
    made.zero("pc.ram", 0)
    for block in ("vga", "pc.bios"):
        made.zero(block, 0)
        made.page(block, 1, text[::-1])
    made.end_records()
    made.finish(description=not extras)
    return bytes(made.out)


def mapped_stream(start: int = 0, *, first: bytes = TEXT, video: bool = True) -> bytes:
    """A stream with mapped-ram whose pages begin much sooner than QEMU has them begin."""
    blocks = {"pc.ram": 3 * PAGE} | ({"vga": PAGE} if video else {})
    made = MigrationBuilder(blocks, start=start)
    made.configuration(capabilities=("mapped-ram",))
    made.begin_memory()
    pages_of = {"pc.ram": (5, first + ZERO + TEXT), "vga": (0, ZERO)}
    for name in blocks:
        bits, pages = pages_of[name]
        made.out += bytes([len(name)]) + name.encode() + len(pages).to_bytes(8, "big")
        at = start + len(made.out) + 28
        made.out += (1).to_bytes(4, "big") + PAGE.to_bytes(8, "big") + at.to_bytes(8, "big")
        made.out += (at + 24).to_bytes(8, "big") + bits.to_bytes(8, "little") + bytes(16) + pages
    made.end_records()
    made.part(3)
    made.end_records()
    made.finish()
    return bytes(made.out)


def _kdumps() -> list[Kdump]:
    pages = {0: TEXT, 1: ZERO, 2: TEXT, 5: ZERO, 6: NOISE}
    return [
        Kdump(pages),
        Kdump({3: TEXT, 4: TEXT}, share_zeros=False, little=False, machine=b"s390x"),
        Kdump({0: TEXT, 9: ZERO}, words=32, machine=b"i686", one_bitmap=True, behind=b"erase x"),
        Kdump({0: TEXT, 1: TEXT, 2: TEXT}, split=(1, 3), missing=1, status=9),
        Kdump({0: TEXT, 1: ZERO}, frames=9, pack=lambda page: (cramjam_snappy(page), 4), status=4),
        Kdump({0: TEXT}, pack=lambda page: (zstandard.compress(page), 0x20), status=0x20),
    ]


def cramjam_snappy(page: bytes) -> bytes:
    """A page as makedumpfile has it: one block, without a frame."""
    return bytes(cramjam.snappy.compress_raw(page))


def _qcow2s() -> list[bytes]:
    stream = small_stream({"pc.ram": TEXT + ZERO + NOISE}, devices=b"state")
    other = small_stream({"pc.ram": TEXT[::-1] + TEXT + ZERO}, left_out={1})
    small = 9
    sparse = small_stream({"pc.ram": TEXT + b"1".ljust(PAGE, b"\0")})
    holes = frozenset(
        number for number in range(len(sparse) >> small) if not any(sparse[number << small :][:512])
    )
    return [
        Qcow2(cluster_bits=small, disk=TEXT, disk_size=PAGE).finish(
            [Snapshot("one", sparse, holes=holes)]
        ),
        Qcow2(cluster_bits=small, scattered=True, disk_size=PAGE).finish(
            [Snapshot("one", stream, 2), Snapshot("two", other, 1)]
        ),
        Qcow2(cluster_bits=small, version=2, disk_size=PAGE).finish(
            [Snapshot("old", stream, extra=0)]
        ),
        Qcow2(cluster_bits=small, disk_size=PAGE).finish(
            [
                Snapshot("one", mapped_stream(video=False), 2),
                Snapshot("two", mapped_stream(video=False, first=NOISE), 1),
            ]
        ),
        Qcow2(cluster_bits=14, extended=True, disk_size=PAGE).finish(
            [Snapshot("a", small_stream({"pc.ram": TEXT}))]
        ),
    ]


def _elves() -> list[bytes]:
    notes = note("<", b"CORE", 1, b"x" * 20) + note("<", b"QEMU", 0, b"y" * 8)
    return [
        elf_core([(0, TEXT), (0x100000, NOISE)], notes=notes, between=b"gap", tail=b"tail"),
        elf_core([(0x1000, TEXT), (0xFFFF_0000, TEXT)], bits=32, machine=3),
        elf_core([(0x1000, TEXT)], order=">", machine=22),
        elf_core([(0, TEXT), (0x4000, TEXT)], counted="before"),
        elf_core([(0, TEXT), (0x4000, TEXT)], counted="behind"),
        elf_core(
            [(0x1000, TEXT), (0x8000, ZERO)],
            [Segment(0, 0, PAGE), Segment(0, 100, 200), Segment(1, 0, PAGE, more=PAGE)],
        ),
        elf_core([(0x1000, TEXT)], [Segment(0, 0, PAGE), Segment(0, 9, 50, physical=0x2000)]),
    ]


def _xens() -> list[bytes]:
    pages = [(0, TEXT), (1, NOISE), (7, ZERO)]
    return [
        xen_core(pages),
        xen_core([(5, TEXT), (NO_FRAME, ZERO), (5, TEXT)], paravirtualized=True),
        xen_core(pages, order=">"),
    ]


def _limes() -> list[bytes]:
    ranges = [(0, TEXT), (0x1000, b"m" * 300), (0x100000, NOISE)]
    return [lime_dump(ranges), lime_dump(ranges, ">"), lime_dump(ranges) + bytes(600)]


def _avmls() -> list[bytes]:
    return [
        avml_dump([(0, TEXT), (0x2000, NOISE)]),
        avml_dump([(0x1000, TEXT[:300])]) + bytes(40),
    ]


def _shifted() -> list[bytes]:
    """As small as the target has it (targets.SMALL)."""
    page = TEXT[:3000].ljust(PAGE, b"\0")
    first = TEXT + TEXT + NOISE[:1024]
    return [first + 8 * page, first + 4 * page + bytes(1024) + 4 * page + bytes(3072)]


def _streams() -> list[bytes]:
    return [
        _stream(),
        _stream(extras=True),
        _stream(footers=False),
        _stream(1024, page_bits=None),
        mapped_stream(),
    ]


def _saves() -> list[bytes]:
    stream = _stream()
    saves = [
        libvirt_save(stream, padding=100),
        libvirt_save(stream, byte_order=">", finished=False, padding=0, cookie=None),
    ]
    start = len(libvirt_save(b"", "sparse", padding=100))
    saves.append(libvirt_save(mapped_stream(start), "sparse", padding=100))
    saves += [libvirt_save(stream, form, padding=100) for form in ("gzip", "bzip2", "xz", "zstd")]
    return saves


def _packed(kind: str) -> Callable[[], list[bytes]]:
    packer = PACKERS[kind]

    def made() -> list[bytes]:
        if kind == "lzop" and shutil.which("lzop") is None:
            return []
        images = [_stream(), lime_dump([(0, TEXT)]), b"plain", b""]
        found = [packer(image) for image in images]
        found.append(found[1] + found[2])
        return found

    return made


def _more_gzip() -> list[bytes]:
    return [*_packed("gzip")(), gzip.compress(gzip.compress(b"twice"))]


SEEDS: Mapping[str, Callable[[], list[bytes]]] = {
    "migration": _streams,
    "libvirt-save": _saves,
    "xen": _xens,
    "elf": _elves,
    "lime": _limes,
    "avml": _avmls,
    "kdump": lambda: [dump.raw() for dump in _kdumps()],
    "flattened": lambda: [
        *(flattened(qemu_records(dump)) for dump in _kdumps()[:2]),
        *(flattened(makedumpfile_records(dump)) for dump in _kdumps()),
    ],
    "qcow2": _qcow2s,
    "shifted": _shifted,
    "gzip": _more_gzip,
    "bzip2": lambda: [*_packed("bzip2")(), bz2.compress(b"", 1)],
    "xz": lambda: [*_packed("xz")(), lzma.compress(b"xz") + bytes(8)],
    "zstd": _packed("zstd"),
    "lzop": _packed("lzop"),
}
"""By the format's name."""


def seeds(name: str) -> list[bytes]:
    """The images to begin with."""
    return SEEDS[name]()
