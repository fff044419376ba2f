"""Xen's dump-core files."""

import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import elf, xen
from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from tests.images.elf_builder import elf_core
from tests.images.sparse_assembly import SparseAssembly, assembled, survives
from tests.images.xen_builder import NO_FRAME, PAGE, xen_core


def page(number: int) -> bytes:
    """A page of its own."""
    return random.Random(number).randbytes(PAGE)


@st.composite
def guests(draw: Any) -> list[tuple[int, bytes]]:
    """Pages in the file's order: mostly consecutive frames, some of them none."""
    frame = 0
    pages = []
    for _ in range(draw(st.integers(1, 4))):
        frame += draw(st.sampled_from([0, 1, 96, 1 << 20]))
        for _ in range(draw(st.integers(1, 5))):
            pages.append((frame, page(frame)))
            frame += 1
    if draw(st.booleans()):
        pages = draw(st.permutations(pages))
    return pages + [(NO_FRAME, bytes(PAGE))] * draw(st.integers(0, 3))


@given(guests(), st.booleans(), st.sampled_from("<>"), st.sampled_from([333, 4096, 1 << 20]))
@settings(deadline=None)
def test_round_trip(
    pages: list[tuple[int, bytes]], paravirtualized: bool, order: str, chunk: int
) -> None:
    core = xen_core(pages, paravirtualized=paravirtualized, order=order)
    assembly = assembled(xen.FORMAT, core, chunk=chunk, seekable=True)
    assert assembly.file == core
    assert assembly.notes == []
    held = [(frame, content) for frame, content in pages if frame != NO_FRAME]
    assert assembly.lengths == [(max(frame for frame, _content in held) + 1) * PAGE]
    for frame, content in held:
        assert assembly.content(frame * PAGE, PAGE) == content
    assert sum(len(data) for _at, data in assembly.pieces[0]) == len(held) * PAGE


@given(guests(), st.booleans())
@settings(deadline=None, max_examples=20)
def test_from_a_pipe(pages: list[tuple[int, bytes]], paravirtualized: bool) -> None:
    """The pages are there, and in no order."""
    core = xen_core(pages, paravirtualized=paravirtualized)
    assembly = assembled(xen.FORMAT, core, chunk=333)
    assert assembly.file == core
    assert assembly.names == ["pages"]
    assert assembly.content(0, assembly.lengths[0]) == b"".join(data for _frame, data in pages)
    assert ["in the file's order" in each for each in assembly.notes] == [True]


def test_facts() -> None:
    core = xen_core([(7, page(7))])
    assert assembled(xen.FORMAT, core, seekable=True).facts == {
        "format": "xen",
        "byte_order": "little",
        "architecture": "x86-64",
        "guest": "fully virtualized",
        "processors": 2,
        "pages": 1,
        "page_bytes": 4096,
    }


def test_more_pages_than_one_batch() -> None:
    count = 2 * xen.BATCH_PAGES + 5
    pages = [(index + (index > 9000), b"%8d" % index * 512) for index in range(count)]
    core = xen_core(pages)
    assembly = assembled(xen.FORMAT, core, seekable=True)
    assert assembly.file == core
    content = assembly.content(0, assembly.lengths[0])
    assert content[: 9001 * PAGE] == b"".join(data for _frame, data in pages[:9001])
    assert content[9002 * PAGE :] == b"".join(data for _frame, data in pages[9001:])


def test_pages_that_come_twice() -> None:
    core = xen_core([(4, page(1)), (5, page(2)), (4, page(3)), (5, page(4)), (6, page(5))])
    assembly = assembled(xen.FORMAT, core, seekable=True)
    assert assembly.file == core
    assert assembly.content(4 * PAGE, 3 * PAGE) == page(1) + page(2) + page(5)
    assert [each[:20] for each in assembly.notes] == ["2 pages come twice: "]


def test_elf_leaves_it_to_xen() -> None:
    core = memoryview(xen_core([(0, page(0))]))
    assert xen.FORMAT.matches(core)
    with pytest.raises(NotThisFormat):
        elf.FORMAT.read(Source(iter([core])), SparseAssembly())
    assert not xen.FORMAT.matches(memoryview(elf_core([(0, b"m")])))


def changed(place: int, layout: str, value: int) -> bytes:
    """A core of two pages with one number replaced."""
    core = bytearray(xen_core([(0, page(0)), (1, page(1))]))
    struct.pack_into(layout, core, place, value)
    return bytes(core)


@pytest.mark.parametrize(
    ("core", "text"),
    [
        (xen_core([(1 << 40, page(0))]), "a page of it would be at"),
        (xen_core([(0, page(0))], count=0), "says that it has 0 pages"),
        (xen_core([(0, page(0))], count=1 << 60), "pages"),
        (xen_core([(0, page(0))], count=5), "no section has its 5 pages"),
        (xen_core([(0, page(0))], page_bytes=4097), "its pages have 4,097 bytes"),
        (xen_core([(0, page(0))], page_bytes=1 << 40), "its pages have"),
        (changed(40, "<Q", 1 << 60), "section headers"),
        (changed(58, "<H", 63), "section headers"),
        (changed(60, "<H", 65535), "section headers"),
        (changed(64 + 5 * 64 + 24, "<Q", 1 << 60), "no section has its 2 pages"),
    ],
)
def test_headers_that_lie(core: bytes, text: str) -> None:
    with pytest.raises(ImageDamaged, match=text):
        assembled(xen.FORMAT, core, seekable=True)


def test_what_is_none_of_xens() -> None:
    core = xen_core([(0, page(0))], magic=1)
    with pytest.raises(NotThisFormat):
        assembled(xen.FORMAT, core)


@pytest.mark.parametrize("seekable", [True, False])
def test_cut_off_anywhere(seekable: bool) -> None:
    core = xen_core([(0, page(0)), (9, page(1))])
    names = len(core) - core.rindex(b".shstrtab") + 1
    for length in [*range(64, 600, 7), *range(600, len(core) - names, 97)]:
        # Without its notes it may be anything.
        with pytest.raises((ImageDamaged, NotThisFormat)):
            assembled(xen.FORMAT, core[:length], seekable=seekable)


@given(
    guests(),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1),
    st.booleans(),
)
@settings(deadline=None)
def test_flipped_bytes(
    pages: list[tuple[int, bytes]], flips: list[tuple[int, int]], seekable: bool
) -> None:
    core = bytearray(xen_core(pages))
    for place, value in flips:
        core[place % (len(core) if place % 4 == 0 else 640)] = value
    survives(xen.FORMAT, bytes(core), seekable=seekable)
