"""Kdump files: what an independent writer makes is rebuilt, and its memory too."""

import importlib.util
import random
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import EnvironmentProblem, ImageDamaged
from difffs.images import kdump
from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from tests.images.kdump_builder import LZO, SNAPPY, ZLIB, ZSTD, Kdump
from tests.images.sparse_assembly import SparseAssembly, assembled, survives

PAGE = 4096


def page_of(seed: int, size: int = PAGE) -> bytes:
    """A page that compresses."""
    return (random.Random(seed).randbytes(100) * (size // 100 + 1))[:size]


def noise(seed: int, size: int = PAGE) -> bytes:
    """A page that does not."""
    return random.Random(seed).randbytes(size)


PAGES = {
    **{frame: page_of(frame) for frame in range(3, 40)},
    **{frame: bytes(PAGE) for frame in range(40, 60)},
    60: noise(60),
    61: noise(61),
    62: bytes(PAGE),
    **{frame: page_of(frame) for frame in range(70, 75)},
    100: bytes(PAGE),
}


def expect(assembly: SparseAssembly, dump: Kdump) -> None:
    """The memory is the dump's: each page that is there, and nothing else."""
    given: dict[int, bytes] = {}
    for offset, data in assembly.pieces[0]:
        for at in range(0, len(data), dump.block_size):
            frame = (offset + at) // dump.block_size
            assert frame not in given
            given[frame] = data[at : at + dump.block_size]
    assert given == dump.memory()


def read(dump: Kdump, **options: Any) -> SparseAssembly:
    """Reads a dump whose memory has no devices' in it."""
    data = dump.raw()
    assembly = assembled(kdump.FORMAT, data, **options)
    assert assembly.file == data
    expect(assembly, dump)
    return assembly


@pytest.mark.parametrize("words", [32, 64])
@pytest.mark.parametrize("little", [True, False], ids=["little", "big"])
@pytest.mark.parametrize("chunk", [1, 7, 4096, 1 << 20])
def test_a_dump(words: int, little: bool, chunk: int) -> None:
    dump = Kdump(PAGES, words=words, little=little)
    assembly = read(dump, chunk=chunk)
    assert assembly.facts == {
        "format": "kdump",
        "version": 6,
        "compression": "zlib",
        "block_size": PAGE,
        "words": words,
        "byte_order": "little" if little else "big",
        "incomplete": False,
        "architecture": "x86_64",
        "kernel": "6.1.0",
        "node": "host",
        "dump_level": 1,
    }
    assert assembly.notes == []
    assert assembly.names == ["memory"]
    assert assembly.lengths == [101 * PAGE]
    if little:
        # Headers, notes and bitmaps: none of the descriptors or pages.
        assert assembly.literal_bytes == dump.descriptors_at


@pytest.mark.parametrize("version", range(1, 7))
@pytest.mark.parametrize("words", [32, 64])
def test_versions(version: int, words: int) -> None:
    assert read(Kdump(PAGES, version=version, words=words)).facts["version"] == version


def test_diskdump_and_its_one_bitmap() -> None:
    read(Kdump(PAGES, signature=b"DISKDUMP", version=1))
    read(Kdump(PAGES, one_bitmap=True))


def test_a_word_is_not_taken_for_another() -> None:
    """Times and numbers of frames that could be a header of the other word size."""
    time = bytes(4) + struct.pack("<QQ", 1_800_000_000, 4096)
    read(Kdump(PAGES, timestamp=time, frames=65536))
    read(Kdump(PAGES, words=32, frames=65536))


def test_no_page_and_nothing_but_zeros() -> None:
    read(Kdump({}, frames=80))
    read(Kdump({}, frames=80, share_zeros=False))
    read(Kdump({frame: bytes(PAGE) for frame in range(1000)}))
    read(Kdump({5: noise(5)}))
    read(Kdump({5: noise(5)}, share_zeros=False))
    read(Kdump({5: page_of(5), 6: bytes(PAGE)}, share_zeros=False))


def test_uncompressed_pages_are_memory_as_they_are() -> None:
    pages = {frame: page_of(frame) for frame in range(600)}
    dump = Kdump(pages, status=0, pack=lambda page: (page, 0))
    assembly = read(dump)
    assert assembly.literal_bytes == dump.descriptors_at
    assert len(assembly.pieces[0]) <= 4


def test_other_compressors_bytes_are_kept() -> None:
    """Levels or libraries that do not make the same bytes: the memory is right all the same."""
    pages = {frame: page_of(frame) if frame % 3 else bytes(PAGE) for frame in range(300)}
    dump = Kdump(pages, pack=lambda page: (zlib.compress(page, 9), ZLIB))
    assembly = read(dump)
    assert assembly.literal_bytes > dump.descriptors_at


@pytest.mark.parametrize("size", [8192, 16384, 65536])
def test_larger_pages(size: int) -> None:
    pages = {1: page_of(1, size), 2: bytes(size), 3: noise(3, size), 4: page_of(4, size)}
    read(Kdump(pages, block_size=size))


def test_pages_of_zstd() -> None:
    zstandard = pytest.importorskip("zstandard")

    def pack(page: bytes) -> tuple[bytes, int]:
        packed = zstandard.ZstdCompressor(level=1).compress(page)
        return (packed, ZSTD) if len(packed) < PAGE else (page, 0)

    read(Kdump(PAGES, status=ZSTD, pack=pack))


def test_pages_of_snappy() -> None:
    cramjam = pytest.importorskip("cramjam")

    def pack(page: bytes) -> tuple[bytes, int]:
        packed = bytes(cramjam.snappy.compress_raw(page))
        return (packed, SNAPPY) if len(packed) < PAGE else (page, 0)

    read(Kdump(PAGES, status=SNAPPY, pack=pack))
    wrong = Kdump({1: page_of(1)}, status=SNAPPY, pack=lambda _page: (b"\xff\xff\xff\xff\x0f", 4))
    with pytest.raises(ImageDamaged, match="is not snappy of"):
        read(wrong)


@pytest.mark.skipif(importlib.util.find_spec("lzo") is not None, reason="there is a library")
@pytest.mark.parametrize("status", [LZO, ZLIB])
def test_pages_that_no_library_reads(status: int) -> None:
    """By the header before anything is told, by a page's flags later."""
    dump = Kdump(PAGES, status=status, pack=lambda page: (page[:100], LZO))
    source = Source(iter([dump.raw()]), name="vm1.kdump")
    assembly = SparseAssembly()
    with pytest.raises(EnvironmentProblem, match=r"vm1\.kdump .* lzo.*--as-is"):
        kdump.FORMAT.read(source, assembly)
    assert status == ZLIB or (source.position == 0 and not assembly.file)


def test_device_memory_is_a_block_of_its_own() -> None:
    """The firmware right below 4 GiB, behind which memory goes on."""
    top = (4 << 30) // PAGE
    firmware = {frame: page_of(frame) for frame in range(top - 64, top)}
    adapter = {0xFD00_0000 // PAGE + at: bytes(PAGE) for at in range(8)}
    more = {frame: page_of(frame) for frame in range(top, top + 5)}
    for machine in (b"x86_64", b"i686", b"Unknown", b""):
        dump = Kdump({**PAGES, **adapter, **firmware, **more}, machine=machine)
        assembly = assembled(kdump.FORMAT, dump.raw())
        assert assembly.file == dump.raw()
        assert assembly.names == ["memory", "memory@0xfd000000", "memory@0xfffc0000"]
        assert assembly.lengths == [(top + 5) * PAGE, 8 * PAGE, 64 * PAGE]
        assert assembly.content(top * PAGE, 5 * PAGE) == b"".join(more.values())
        assert assembly.content(70 * PAGE, PAGE) == PAGES[70]
        assert b"".join(data for _at, data in sorted(assembly.pieces[2])) == b"".join(
            firmware.values()
        )
        assert sum(len(data) for _at, data in assembly.pieces[1]) == 8 * PAGE


def test_memory_that_only_lies_there() -> None:
    top = (4 << 30) // PAGE
    below = 0xF000_0000 // PAGE
    dump = Kdump({frame: page_of(frame) for frame in range(below - 2, below + 3)}, machine=b"")
    assert read(dump).names == ["memory"]
    dump = Kdump({top - 3: page_of(1), 2: page_of(2)}, machine=b"aarch64")
    assert read(dump).lengths == [(top - 2) * PAGE]


def test_a_part_of_a_split_dump() -> None:
    for words in (32, 64):
        for split in ((0, 41), (41, 101), (3, 3)):
            dump = Kdump(PAGES, split=split, words=words)
            assert read(dump).facts["split"] == list(split)


def test_an_incomplete_dump() -> None:
    assembly = read(Kdump(PAGES, missing=7, behind=b"half a page", status=ZLIB | 8))
    assert assembly.notes == ["7 of 66 pages are missing: the dump was cut off when it was made"]
    assert assembly.facts["incomplete"] is True


def test_what_lies_behind() -> None:
    assert read(Kdump(PAGES, behind=b"erase a.b size 4\n")).notes == []
    assert read(Kdump(PAGES, behind=bytes(300))).notes == []
    assert len(read(Kdump(PAGES, behind=b"something")).notes) == 1


def test_page_flags_of_the_kernel() -> None:
    read(Kdump(PAGES, change_descriptor=lambda number, words: [*words[:3], number % 5]))


def test_a_shared_page_that_is_not_zero() -> None:
    """Written as a zero page is; what it says counts."""
    dump = Kdump({frame: bytes(PAGE) for frame in range(300)})
    data = bytearray(dump.raw())
    data[dump.data_at : dump.data_at + PAGE] = page_of(1)
    assembly = assembled(kdump.FORMAT, bytes(data))
    assert assembly.file == data
    assert assembly.content(0, 300 * PAGE) == page_of(1) * 300


SMALL = Kdump({frame: page_of(frame) for frame in (1, 2, 3, 9)} | {5: bytes(PAGE), 7: noise(7)})


@pytest.mark.parametrize(
    "change",
    [
        lambda number, words: [words[0] + (number == 2), *words[1:]],
        lambda number, words: [words[0] - 5 * (number == 2), *words[1:]],
        lambda number, words: [words[0], words[1] * (number != 2), *words[2:]],
        lambda number, words: [words[0], words[1] + 5000 * (number == 2), *words[2:]],
        lambda number, words: [*words[:2], words[2] | 0x40 * (number == 1), words[3]],
        lambda number, words: [*words[:2], 0 if number == 1 else words[2], words[3]],
        lambda number, words: [words[0] + 100, *words[1:]],
        lambda number, words: [8, *words[1:]],
        lambda number, words: [(1 << 64) - 1, *words[1:]],
    ],
)
def test_descriptors_that_lie(change: Any) -> None:
    with pytest.raises(ImageDamaged, match=r"page descriptor"):
        assembled(kdump.FORMAT, replace(SMALL, change_descriptor=change).raw())


def test_pages_that_are_no_pages() -> None:
    for packed in (b"nothing", zlib.compress(b"short"), zlib.compress(bytes(1 << 20))):
        dump = Kdump({1: page_of(1)}, pack=lambda _page, packed=packed: (packed, ZLIB))  # type: ignore[misc]
        with pytest.raises(ImageDamaged, match="0x1000 of the memory is not zlib of 4,096 bytes"):
            assembled(kdump.FORMAT, dump.raw())


def test_headers_that_lie() -> None:
    data = SMALL.raw()

    def changed(offset: int, number: int, form: str = "<I") -> bytes:
        out = bytearray(data)
        struct.pack_into(form, out, offset, number)
        return bytes(out)

    for offset, number in ((8, 7), (428, 2048), (428, 1 << 20)):
        with pytest.raises(NotThisFormat):
            assembled(kdump.FORMAT, changed(offset, number))
    for wrong in (
        changed(428, 4097),  # block size
        changed(432, 0),  # sub header
        changed(432, 1 << 19),
        changed(436, 0),  # bitmaps
        changed(436, 0xFFFFFFFF),
        changed(4096 + 96, 0, "<Q"),  # frames
        changed(4096 + 96, 1 << 20, "<Q"),
        changed(4096 + 96, 1 << 63, "<Q"),
    ):
        with pytest.raises(ImageDamaged):
            assembled(kdump.FORMAT, wrong)
    assert not kdump.FORMAT.matches(memoryview(b"KDUMP \n"))


def test_truncation_is_always_told() -> None:
    data = SMALL.raw()
    for end in {*range(8, len(data), 61), *range(len(data) - 30, len(data))}:
        with pytest.raises(ImageDamaged):
            assembled(kdump.FORMAT, data[:end])


@settings(deadline=None)
@given(st.data())
def test_any_dump(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([4096, 4096, 8192]))
    makers = [lambda seed: page_of(seed, size), lambda seed: noise(seed, size)]
    pages: dict[int, bytes] = {}
    frame = data.draw(st.integers(0, 100))
    for _ in range(data.draw(st.integers(0, 12))):
        kind = data.draw(st.integers(0, 2))
        for _ in range(data.draw(st.integers(1, 30))):
            pages[frame] = bytes(size) if kind == 2 else makers[kind](frame)
            frame += 1
        frame += data.draw(st.integers(0, 9))
    dump = Kdump(
        pages,
        frames=frame + data.draw(st.integers(1, 70_000)),
        block_size=size,
        words=data.draw(st.sampled_from([32, 64])),
        little=data.draw(st.booleans()),
        share_zeros=data.draw(st.booleans()),
        notes=bytes(data.draw(st.integers(0, 9000))),
        behind=data.draw(st.binary(max_size=40)),
    )
    read(dump, chunk=data.draw(st.sampled_from([1000, 4096, 1 << 20])))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """Bytes that are others are noticed, or kept as they are."""
    image = bytearray(SMALL.raw())
    places = st.one_of(
        st.integers(0, len(image) - 1),
        st.integers(404, 480),
        st.integers(4096, 4200),
        st.integers(SMALL.bitmap_at, SMALL.bitmap_at + 4),
        st.integers(SMALL.descriptors_at, SMALL.data_at),
    )
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(places)] = data.draw(st.integers(0, 255))
    for whole in (bytes(image), bytes(image[: data.draw(st.integers(9000, len(image)))])):
        with suppress(EnvironmentProblem):  # its pages may be said to be of another compression
            survives(kdump.FORMAT, whole)


class Silent:
    """Takes no notice."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_words, **_named: None


@pytest.mark.slow
def test_memory_is_bounded_for_a_large_guest() -> None:
    """Every other page zero, the worst there is: what is kept of their descriptors is little."""
    pairs = 1 << 14
    dump = Kdump({}, frames=2 * pairs)
    head = dump.raw()[: dump.bitmap_at].ljust(dump.bitmap_at, b"\0")
    packed = zlib.compress(page_of(1), 1)
    data_at = dump.descriptors_at + 2 * pairs * 24

    def image() -> Iterator[bytes]:
        yield head
        yield b"\xff" * (dump.descriptors_at - dump.bitmap_at)
        zero = struct.pack("<QIIQ", data_at, PAGE, 0, 0)
        for start in range(0, pairs, 4096):
            yield b"".join(
                zero
                + struct.pack(
                    "<QIIQ", data_at + PAGE + (start + at) * len(packed), len(packed), ZLIB, 0
                )
                for at in range(4096)
            )
        yield bytes(PAGE)
        yield b"damage" * 1000

    source = Source(image())
    tracemalloc.start()
    try:
        with pytest.raises(ImageDamaged, match="0x1000 of the memory"):
            kdump.FORMAT.read(source, Silent())
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
