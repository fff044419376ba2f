"""Extent headers in memory: what is loaded, read, referred to, and what cannot be."""

import errno
import os
from array import array
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs._kernels import (
    DEPTH_LIMIT,
    TABLE_ENTRIES,
    Batch,
    Context,
    DigestTable,
    Extents,
    SketchTable,
    Staged,
    TableChunks,
    UnknownCodec,
    digest,
    header_summary,
    sketch,
)
from difffs.codec import Codec, GroupCodec, Route
from difffs.recipe import RECIPES
from tests.kernels import kernel_oracle as oracle
from tests.kernels.extent_model import (
    MAXIMUM_PAGE_REFERENCES,
    MAXIMUM_PATCH_REFERENCES,
    ExtentFile,
    Header,
    Record,
    unpacked,
)
from tests.pages import PAGE, compressible_page, guest_pages, random_page, similar_page

HOLE, ZERO = 0, 255

HEADER_MISSING = 1
NO_OBJECT, DIGEST, DECODE, SHORT, READ_ERROR, DEPTH, LOST = -1, -2, -3, -4, -5, -6, -7

CONTEXT = Context()


@pytest.fixture
def payloads() -> Iterator[ExtentFile]:
    made = ExtentFile()
    yield made
    made.close()


def opened(payloads: ExtentFile, *, load: bool = True) -> Extents:
    """The extents as a store opens them."""
    extents = Extents(payloads.file)
    for number, header in payloads.headers.items():
        extents.account(number, header.pack_summary())
        extents.count_objects(header.pack())
        if load:
            extents.load(number, header.pack())
    return extents


def numbers(*ids: int) -> "array[int]":
    return array("I", ids)


def digests() -> DigestTable:
    return DigestTable(bytearray(4096))


def page_of(extents: Extents, identity: int) -> bytes:
    out = bytearray(PAGE)
    assert extents.read(numbers(identity), out, CONTEXT) is None
    return bytes(out)


def failure(extents: Extents, *ids: int) -> tuple[int, int, int, int]:
    """(status, index, culprit, errno) of a read that must fail."""
    result = extents.read(numbers(*ids), bytearray(PAGE * len(ids)), CONTEXT)
    assert result is not None
    return result


# ---------------------------------------------------------------------------------------- reading


def test_every_codec_is_read(payloads: ExtentFile) -> None:
    base = compressible_page(Random(1))
    similar = similar_page(base, Random(2))
    raw = random_page(Random(3))
    stored = {
        payloads.add(1, Codec.SAME, b"12345678"): b"12345678" * 512,
        payloads.add_raw(1, raw): raw,
        payloads.add(2, Codec.ZSTD, oracle.zstd_encode(base), page=base): base,
        payloads.add(2, Codec.LZ4, oracle.lz4_encode(similar), page=similar): similar,
    }
    base_id = 2 << 8 | 1
    stored[payloads.add_patch(3, similar, base_id, base)] = similar
    others = [codec for codec in Codec if codec.is_patch and codec is not Codec.ZSTD_PREFIX]
    for extent, codec in enumerate(others, 9):
        patch = CONTEXT.encode(codec, similar, base)
        assert patch is not None
        stored[payloads.add(extent, codec, patch, page=similar, base=base_id)] = similar
    extents = opened(payloads)
    for identity, page in stored.items():
        assert page_of(extents, identity) == page
    ids = [HOLE, *stored, ZERO, *stored]
    out = bytearray(b"\xaa" * PAGE * len(ids))
    assert extents.read(numbers(*ids), out, CONTEXT) is None
    assert out == b"".join([bytes(PAGE), *stored.values(), bytes(PAGE), *stored.values()])


def test_reading_is_counted_by_codec(payloads: ExtentFile) -> None:
    raw = payloads.add_raw(1, bytes(range(256)) * 16)
    extents = opened(payloads)
    out = bytearray(3 * PAGE)
    assert extents.read(numbers(raw, ZERO, raw), out, CONTEXT) is None
    counts = [count for count, _nanoseconds in extents.decode_totals]
    assert counts[Codec.RAW] == 2
    assert sum(counts) == 2


def test_nothing_is_read_into_nothing(payloads: ExtentFile) -> None:
    extents = opened(payloads)
    assert extents.read(numbers(), bytearray(), CONTEXT) is None
    with pytest.raises(ValueError, match="too small"):
        extents.read(numbers(ZERO, ZERO), bytearray(PAGE * 2 - 1), CONTEXT)


def chain(payloads: ExtentFile, length: int) -> list[int]:
    """A raw page and patches upon each other, each in another extent."""
    page = compressible_page(Random(5))
    made = [payloads.add_raw(1, page)]
    for depth in range(1, length + 1):
        following = similar_page(page, Random(depth), 2)
        made.append(payloads.add_patch(1 + depth, following, made[-1], page))
        page = following
    return made


def test_a_chain_of_patches_is_followed_to_the_limit_and_no_further(payloads: ExtentFile) -> None:
    ids = chain(payloads, DEPTH_LIMIT + 1)
    extents = opened(payloads)
    for identity in ids[: DEPTH_LIMIT + 1]:
        page_of(extents, identity)
    assert failure(extents, ids[-1])[:2] == (DEPTH, 0)


def test_a_patch_of_itself_ends(payloads: ExtentFile) -> None:
    page = compressible_page(Random(1))
    identity = payloads.add(1, Codec.ZSTD_PREFIX, oracle.zstd_encode(page, page), base=0x101)
    extents = opened(payloads)
    assert failure(extents, identity)[0] == DEPTH
    with pytest.raises(ValueError, match="no such reference"):
        extents.release(numbers(identity), True, digests())


def chunks_of(entries: dict[int, int]) -> TableChunks:
    """Volume 1, with a page table chunk that maps these entries."""
    chunks = TableChunks()
    chunks.bring(1, 0, oracle.table_chunk([entries.get(i, HOLE) for i in range(TABLE_ENTRIES)]))
    return chunks


def test_pages_are_read_through_their_table(payloads: ExtentFile) -> None:
    page = compressible_page(Random(1))
    identity = payloads.add_raw(1, page)
    extents = opened(payloads)
    chunks = chunks_of({0: ZERO, 1: identity, 3: identity, TABLE_ENTRIES - 1: identity})
    out = bytearray(b"\xaa" * PAGE * 7)
    assert extents.read_mapped(chunks, 1, 0, out, 1, 4, CONTEXT) is None
    assert extents.read_mapped(chunks, 1, TABLE_ENTRIES - 1, out, 5, 1, CONTEXT) is None
    zeros, untouched = bytes(PAGE), b"\xaa" * PAGE
    assert out == b"".join([untouched, zeros, page, zeros, page, page, untouched])


def test_a_failure_through_a_table_tells_the_entry(payloads: ExtentFile) -> None:
    identity = payloads.add_raw(1, compressible_page(Random(1)))
    extents = opened(payloads)
    chunks = chunks_of({5: identity, 7: 0x901, 8: identity})
    out = bytearray(PAGE * 8)
    assert extents.read_mapped(chunks, 1, 4, out, 2, 6, CONTEXT) == (NO_OBJECT, 3, 0x901, 0)


@pytest.mark.parametrize(
    ("first", "count", "at", "room"),
    [
        (0, TABLE_ENTRIES + 1, 0, 2000),
        (TABLE_ENTRIES, 1, 0, 4),
        (TABLE_ENTRIES - 5, 6, 0, 10),
        (0, 2, 3, 4),
        (0, 2, -1, 4),
        (0, 0, 0, 4),
        (0, 2**32 - 1, 0, 4),
    ],
)
def test_reading_outside_a_table_or_the_buffer_is_refused(
    first: int, count: int, at: int, room: int
) -> None:
    out = bytearray(PAGE * room)
    with pytest.raises((KeyError, ValueError)):
        Extents(-1).read_mapped(chunks_of({}), 1, first, out, at, count, CONTEXT)


def test_a_missing_header_names_the_extent(payloads: ExtentFile) -> None:
    ids = chain(payloads, 3)
    extents = opened(payloads, load=False)
    assert extents.missing(numbers(HOLE, ZERO, *ids)) == {1, 2, 3, 4}
    assert failure(extents, ZERO, ids[3]) == (HEADER_MISSING, 1, 4, 0)
    for wanted in (4, 3, 2, 1):
        assert extents.missing(numbers(ids[3])) == {wanted}
        assert failure(extents, ids[3])[::2] == (HEADER_MISSING, wanted)
        extents.load(wanted, payloads.headers[wanted].pack())
    assert extents.missing(numbers(*ids)) == set()
    page_of(extents, ids[3])


@pytest.mark.parametrize(
    "identity", [1, 253, 256, 0x1FF, 0x103, 0x200, 0x301, 0xFFFF_FF01, 2**32 - 1]
)
def test_an_object_that_is_not_there(payloads: ExtentFile, identity: int) -> None:
    payloads.add_raw(1, random_page(Random(1)))
    extents = opened(payloads)
    assert failure(extents, identity) == (NO_OBJECT, 0, identity, 0)
    assert extents.missing(numbers(identity)) == set()
    with pytest.raises(ValueError, match=f"{identity:#x}"):
        extents.reference(numbers(identity), False)
    with pytest.raises(ValueError, match=f"{identity:#x}"):
        extents.release(numbers(identity), False, digests())
    extents.discard(numbers(identity))


def test_a_missing_base_is_the_culprit(payloads: ExtentFile) -> None:
    page = compressible_page(Random(1))
    patch = payloads.add(1, Codec.ZSTD_PREFIX, oracle.zstd_encode(page, page), base=0x7702)
    assert failure(opened(payloads), ZERO, patch) == (NO_OBJECT, 1, 0x7702, 0)


def test_a_lost_page_is_told(payloads: ExtentFile) -> None:
    identity = payloads.add_raw(1, random_page(Random(1)))
    extents = opened(payloads)
    assert failure(extents, ZERO, identity, 254) == (LOST, 2, 254, 0)
    chunks, out = chunks_of({0: identity, 5: 254}), bytearray(9 * PAGE)
    assert extents.read_mapped(chunks, 1, 0, out, 0, 9, CONTEXT) == (LOST, 5, 254, 0)
    assert extents.missing(numbers(254)) == set()
    extents.reference(numbers(254), False)
    assert list(extents.release(numbers(254), False, digests())) == []


def test_a_wrong_base_is_found(payloads: ExtentFile) -> None:
    """A frame decodes with any prefix: only the page's digest tells that it was another one."""
    base = compressible_page(Random(1))
    page = similar_page(base, Random(2))
    right, wrong = (payloads.add_raw(1, each) for each in (base, similar_page(base, Random(3), 2)))
    patch = payloads.add_patch(2, page, right, base)
    assert page_of(opened(payloads), patch) == page
    payloads.record(patch).base = wrong
    assert failure(opened(payloads), patch)[::2] == (DIGEST, patch)
    payloads.record(patch).base = ZERO  # no object at all
    assert failure(opened(payloads), patch)[::2] == (NO_OBJECT, ZERO)


def test_a_flipped_byte_anywhere_in_a_payload_is_found(payloads: ExtentFile) -> None:
    ids = chain(payloads, 1)
    extents = opened(payloads)
    for identity in ids:
        record = payloads.record(identity)
        for offset in range(record.offset, record.offset + record.length, 7):
            at = payloads.position(identity >> 8) + offset
            byte = os.pread(payloads.file, 1, at)
            os.pwrite(payloads.file, bytes([byte[0] ^ 8]), at)
            status, _index, culprit, _error = failure(extents, identity)
            assert status in (DIGEST, DECODE)
            assert culprit == identity
            # Of a damaged base, a patch may need other bytes.
            through = extents.read(numbers(ids[1]), bytearray(PAGE), CONTEXT)
            assert through is None or through[2] == identity
            os.pwrite(payloads.file, byte, at)
    page_of(extents, ids[1])


def test_whatever_comes_out_of_a_damaged_base_is_the_page(payloads: ExtentFile) -> None:
    base, page = ids = chain(payloads, 1)
    extents = opened(payloads)
    whole, outcomes = page_of(extents, page), set()
    for offset in range(0, PAGE, 3):
        at = payloads.position(base >> 8) + offset
        byte = os.pread(payloads.file, 1, at)
        os.pwrite(payloads.file, bytes([byte[0] ^ 8]), at)
        out = bytearray(PAGE)
        told = extents.read(numbers(page), out, CONTEXT)
        assert told is None or told[2] in ids
        assert told is not None or out == whole
        outcomes.add(told is None)
        os.pwrite(payloads.file, byte, at)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("codec", "payload", "base"),
    [
        (Codec.ZSTD, b"no frame of zstd", None),
        (Codec.LZ4, b"\xff" * 30, None),
        (Codec.RAW, b"too short", None),
        (Codec.SAME, b"too long for a word", None),
        (Codec.ZSTD_PREFIX, b"no frame", 0x201),
        (Codec.VCDIFF, b"\xff\xff\xff", 0x201),
        (Codec.XBZRLE, b"\xff\xff\xff", 0x201),
        (Codec.LZ4_PREFIX, b"no block", 0x201),
        (Codec.PAGE_BSDIFF, b"\xff\xff\xff", 0x201),
        (Codec.ZSTD_DICTIONARY, b"no dictionary", None),
    ],
)
def test_a_payload_that_is_none(
    payloads: ExtentFile, codec: int, payload: bytes, base: int | None
) -> None:
    identity = payloads.add(1, codec, payload or b"?", base=base or 0)
    good = payloads.add_raw(2, random_page(Random(1)))
    extents = opened(payloads)
    assert failure(extents, good, identity) == (DECODE, 1, identity, 0)
    page_of(extents, good)


def test_a_file_that_ends_too_early(payloads: ExtentFile) -> None:
    first, second = (payloads.add_raw(1, random_page(Random(i))) for i in range(2))
    extents = opened(payloads)
    size = os.fstat(payloads.file).st_size
    for cut in (1, 100, PAGE):
        os.ftruncate(payloads.file, size - cut)
        assert failure(extents, first, second) == (SHORT, 1, second, 0)
    os.ftruncate(payloads.file, 0)
    assert failure(extents, first)[0] == SHORT


def test_an_error_of_the_file_is_told(payloads: ExtentFile) -> None:
    identity = payloads.add_raw(1, random_page(Random(1)))
    closed = os.open("/", os.O_RDONLY)
    extents = Extents(closed)  # a directory cannot be read
    try:
        extents.load(1, payloads.headers[1].pack())
        assert failure(extents, identity) == (READ_ERROR, 0, identity, errno.EISDIR)
    finally:
        os.close(closed)


# ------------------------------------------------------------------------------- stored headers


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1000), st.integers(0, 2**32 - 1), st.data())
def test_a_header_is_kept_bit_for_bit(number: int, generation: int, data: st.DataObject) -> None:
    header = Header(number, generation)
    for slot in data.draw(st.sets(st.integers(1, 254), min_size=1, max_size=20)):
        length = data.draw(st.integers(1, PAGE))
        header.records[slot] = Record(
            header.end,
            length,
            data.draw(st.integers(1, 6)),
            data.draw(st.integers(0, MAXIMUM_PAGE_REFERENCES - 1)),
            data.draw(st.integers(0, MAXIMUM_PATCH_REFERENCES)),
            data.draw(st.integers(0, 2**32 - 1)),
            data.draw(st.integers(0, 2**32 - 1)),
        )
        header.end += length
        header.used = max(header.used, slot)
    assert unpacked(number, header.pack()) == header
    assert header_summary(header.pack()) == header.pack_summary()
    extents = Extents(-1)
    extents.account(number, header.pack_summary())
    extents.load(number, header.pack())
    assert extents.summary(number) == header.summary
    some = max(header.records)
    extents.reference(numbers(number << 8 | some), False)  # makes it dirty
    header.records[some].pages += 1
    assert extents.begin_commit() == [(number, header.pack())]


def test_a_damaged_header_is_refused(payloads: ExtentFile) -> None:
    payloads.add_raw(3, random_page(Random(1)))
    payloads.add_raw(3, random_page(Random(2)))
    good = payloads.headers[3].pack()
    extents = Extents(payloads.file)
    wrong = [good[:length] for length in range(len(good))]
    wrong += [good + bytes(16), good + bytes(1), bytes(len(good)), bytes(5000)]
    for bad in wrong:
        with pytest.raises(ValueError, match="header"):
            header_summary(bad)
        with pytest.raises(ValueError, match="header"):
            extents.load(3, bad)
    for number in (0, 1 << 24):
        with pytest.raises(ValueError, match="of extent"):
            extents.account(number, payloads.headers[3].pack_summary())
        with pytest.raises(ValueError, match="with the number"):
            extents.load(number, good)
    assert extents.loaded == 0
    extents.account(3, payloads.headers[3].pack_summary())
    extents.load(3, good)


def test_a_damaged_summary_is_refused() -> None:
    extents = Extents(-1)
    good = Header(1, 4, 100, 1, {1: Record(0, 90, Codec.RAW)})
    for length in range(len(good.pack_summary())):
        with pytest.raises(ValueError, match="summary"):
            extents.account(1, good.pack_summary()[:length])
    for wrong in (replace(good, end=89), replace(good, end=(1 << 20) + 1)):
        with pytest.raises(ValueError, match="contradicts itself"):
            extents.account(1, wrong.pack_summary())
    assert extents.count == 0


def test_a_header_that_is_not_as_its_summary_says_is_refused() -> None:
    extents = Extents(-1)
    good = Header(1, 4, 100, 2, {1: Record(0, 90, Codec.RAW)})
    extents.account(1, good.pack_summary())
    for wrong in (
        replace(good, generation=6),
        replace(good, end=99),
        replace(good, records={1: Record(0, 89, Codec.RAW)}),
        replace(good, records={1: Record(0, 45, Codec.RAW), 2: Record(45, 45, Codec.RAW)}),
    ):
        with pytest.raises(ValueError, match="contradicts its summary"):
            extents.load(1, wrong.pack())
    extents.load(1, good.pack())


def contradictions() -> list[Header]:
    """Headers that no store writes."""
    whole = Record(0, 100, Codec.RAW)
    return [
        Header(1, end=(1 << 20) + 1),
        Header(1, end=99, used=1, records={1: whole}),
        Header(1, end=100, used=1, records={1: Record(1, 100, Codec.RAW)}),
        Header(1, end=PAGE, used=1, records={1: Record((1 << 20) - 1, 100, Codec.RAW)}),
        Header(1, end=150, used=2, records={1: whole, 2: whole}),  # twice the same bytes
    ]


@pytest.mark.parametrize("header", contradictions(), ids=range(len(contradictions())))
def test_a_header_that_contradicts_itself_is_refused(header: Header) -> None:
    """Whoever wrote it: nothing may be read or copied outside the side."""
    extents = Extents(-1)
    for call in (
        lambda stored: extents.load(header.number, stored),
        header_summary,
        extents.count_objects,
    ):
        with pytest.raises(ValueError, match="contradicts itself"):
            call(header.pack())
    with pytest.raises(ValueError, match="contradicts itself"):
        digests().insert_header(1, header.pack())
    assert extents.loaded == extents.count == 0


@pytest.mark.parametrize(
    "header",
    [
        Header(1, end=100, used=1, records={1: Record(0, 100, max(GroupCodec) + 1)}),
        Header(1, end=100, used=1, records={1: Record(0, 100, 255)}),
    ],
)
def test_what_only_a_newer_version_knows_is_told_apart(header: Header) -> None:
    with pytest.raises(UnknownCodec):
        header_summary(header.pack())
    with pytest.raises(UnknownCodec):
        Extents(-1).load(1, header.pack())


def test_totals_are_of_what_is_there(payloads: ExtentFile) -> None:
    ids = chain(payloads, 2)
    payloads.add(1, Codec.SAME, b"12345678", pages=5)
    payloads.record(ids[0]).pages = 0
    extents = opened(payloads, load=False)
    totals = extents.totals()
    assert totals[Codec.RAW] == (1, PAGE, 0, 1)
    assert totals[Codec.SAME] == (1, 8, 5, 0)
    patches = sum(payloads.record(identity).length for identity in ids[1:])
    assert totals[Codec.ZSTD_PREFIX] == (2, patches, 2, 0)
    assert totals[Codec.ZSTD] == totals[Codec.NONE] == (0, 0, 0, 0)
    assert extents.live_bytes() == PAGE + 8 + patches
    known = Extents(-1)
    known.set_totals(totals)
    assert known.totals() == totals
    known.set_totals([])
    assert known.live_bytes() == 0
    with pytest.raises(UnknownCodec):
        known.set_totals([*totals, totals[0]])


# ------------------------------------------------------------------------------------ references


def test_an_object_goes_with_its_last_reference(payloads: ExtentFile) -> None:
    page = random_page(Random(1))
    identity = payloads.add_raw(1, page, pages=1)
    extents, table = opened(payloads), digests()
    table.insert(oracle.digest(page) & 0xFFFFFFFF, identity)
    extents.reference(numbers(identity, ZERO, HOLE, identity), False)
    assert list(extents.release(numbers(identity, HOLE, ZERO, identity), False, table)) == []
    assert page_of(extents, identity) == page
    assert table.used == 1
    assert list(extents.release(numbers(identity), False, table)) == []
    assert failure(extents, identity)[0] == NO_OBJECT
    assert table.used == 0
    assert extents.summary(1) == (0, PAGE, 0, 0)
    assert extents.totals()[Codec.RAW] == (0, 0, 0, 0)


def test_a_base_outlives_its_page(payloads: ExtentFile) -> None:
    base_id, patch_id, second_id = chain(payloads, 2)
    extents, table = opened(payloads), digests()
    assert list(extents.release(numbers(base_id, patch_id), False, table)) == []
    assert extents.totals()[Codec.RAW] == (1, PAGE, 0, 1)
    page_of(extents, second_id)
    assert list(extents.release(numbers(second_id), False, table)) == [patch_id]
    assert list(extents.release(numbers(patch_id), True, table)) == [base_id]
    page_of(extents, base_id)
    assert list(extents.release(numbers(base_id), True, table)) == []
    assert extents.live_bytes() == 0


def test_no_reference_more_is_given_back_than_there_is(payloads: ExtentFile) -> None:
    base_id, _patch_id = chain(payloads, 1)
    extents, table = opened(payloads), digests()
    extents.release(numbers(base_id), False, table)
    with pytest.raises(ValueError, match="has no such reference"):
        extents.release(numbers(base_id), False, table)
    extents.release(numbers(base_id), True, table)
    with pytest.raises(ValueError, match="has no such reference"):
        extents.release(numbers(base_id), True, table)


def test_releasing_goes_on_behind_a_wrong_id(payloads: ExtentFile) -> None:
    first, second = (payloads.add_raw(1, random_page(Random(i))) for i in range(2))
    extents = opened(payloads)
    with pytest.raises(ValueError, match="0x999"):
        extents.release(numbers(first, 0x999, 0x998, second), False, digests())
    assert extents.live_bytes() == 0


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_patch_gives_its_base_back(payloads: ExtentFile, cut: bool) -> None:
    """The record names it: the payload is not looked at."""
    base_id, patch_id = chain(payloads, 1)
    extents = opened(payloads)
    at = payloads.position(patch_id >> 8) + payloads.record(patch_id).offset
    if cut:
        os.ftruncate(payloads.file, at + 2)
    else:
        os.pwrite(payloads.file, bytes([os.pread(payloads.file, 1, at)[0] ^ 1]), at)
    assert list(extents.release(numbers(patch_id), False, digests())) == [base_id]
    assert failure(extents, patch_id)[0] == NO_OBJECT
    with pytest.raises(ValueError, match="no such reference"):
        extents.release(numbers(patch_id), False, digests())


@pytest.mark.parametrize(
    ("by_patch", "maximum"), [(False, MAXIMUM_PAGE_REFERENCES), (True, MAXIMUM_PATCH_REFERENCES)]
)
def test_counters_end_where_the_format_ends(
    payloads: ExtentFile, by_patch: bool, maximum: int
) -> None:
    identity = payloads.add_raw(1, random_page(Random(1)))
    record = payloads.record(identity)
    record.pages, record.patches = (5, maximum - 1) if by_patch else (maximum - 1, 5)
    extents = opened(payloads)
    extents.reference(numbers(identity), by_patch)
    with pytest.raises(ValueError, match="cannot be referred to"):
        extents.reference(numbers(identity), by_patch)
    record.pages, record.patches = (5, maximum) if by_patch else (maximum, 5)
    assert extents.begin_commit() == [(1, payloads.headers[1].pack())]


def test_headers_must_be_loaded_to_count(payloads: ExtentFile) -> None:
    identity = payloads.add_raw(1, random_page(Random(1)))
    extents = opened(payloads, load=False)
    for by_patch in (False, True):
        with pytest.raises(ValueError, match="cannot be referred to"):
            extents.reference(numbers(identity), by_patch)
        with pytest.raises(ValueError, match="no such reference"):
            extents.release(numbers(identity), by_patch, digests())


def test_only_what_nothing_refers_to_can_be_discarded(payloads: ExtentFile) -> None:
    kept = payloads.add_raw(1, random_page(Random(1)))
    bare = payloads.add_raw(1, random_page(Random(2)), pages=0)
    extents = opened(payloads)
    extents.discard(numbers(kept, bare, HOLE, ZERO))
    page_of(extents, kept)
    assert failure(extents, bare)[0] == NO_OBJECT
    assert extents.totals()[Codec.RAW] == (1, PAGE, 1, 0)


# ---------------------------------------------------------------------------------------- commits


def test_a_commit_takes_what_has_changed(payloads: ExtentFile) -> None:
    first = payloads.add_raw(1, random_page(Random(1)))
    second = payloads.add_raw(2, random_page(Random(2)))
    extents, table = opened(payloads), digests()
    assert extents.begin_commit() == []
    assert extents.end_commit(True) == []

    extents.reference(numbers(first), False)
    payloads.record(first).pages += 1
    assert extents.dirty_count() == 1
    assert extents.begin_commit() == [(1, payloads.headers[1].pack())]
    assert extents.dirty_count() == 1  # until the commit has ended
    extents.end_commit(False)  # it failed: the same must come again
    assert extents.dirty_count() == 1
    assert extents.begin_commit() == [(1, payloads.headers[1].pack())]
    extents.reference(numbers(first), False)  # while the commit is under way
    payloads.record(first).pages += 1
    extents.end_commit(True)
    assert extents.begin_commit() == [(1, payloads.headers[1].pack())]
    extents.end_commit(True)
    assert extents.dirty_count() == 0
    assert extents.begin_commit() == []

    extents.release(numbers(second), False, table)
    assert extents.begin_commit() == [(2, None)]
    extents.end_commit(True)


def test_dropped_extents_are_free(payloads: ExtentFile) -> None:
    for number in (1, 2, 4):
        payloads.add_raw(number, random_page(Random(number)))
    extents = opened(payloads)
    assert [extents.in_use(number) for number in range(6)] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]
    assert extents.unused() == 3
    extents.release(numbers(0x101), False, digests())
    assert extents.unused() == 3  # until the commit that forgets it
    extents.drop(1)
    assert extents.unused() == 1
    assert not extents.in_use(1)
    assert not extents.is_loaded(1)
    assert failure(extents, 0x101)[0] == NO_OBJECT
    assert extents.loaded == 2
    with pytest.raises(IndexError):
        extents.drop(5)
    with pytest.raises(IndexError):
        extents.summary(5)


def test_the_first_extent_is_number_one() -> None:
    assert Extents(-1).unused() == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 100_000))
def test_the_lowest_free_number_is_taken(seed: int, highest: int) -> None:
    """However many there are."""
    extents, random = Extents(-1), Random(seed)
    used = {random.randint(1, highest) for _ in range(50)} | set(range(1, min(highest, 130)))
    for number in random.sample(sorted(used), len(used)):
        record = Record(0, 8, Codec.SAME, pages=1)
        stored = Header(number, end=8, used=1, records={1: record})
        extents.account(number, stored.pack_summary())
    for _ in range(min(30, len(used))):
        gone = random.choice(sorted(used))
        extents.drop(gone)
        used.remove(gone)
        assert extents.unused() == next(n for n in range(1, highest + 2) if n not in used)
        assert all(map(extents.in_use, used))


def test_only_clean_headers_are_trimmed(payloads: ExtentFile) -> None:
    for number in range(1, 9):
        payloads.add_raw(number, random_page(Random(number)))
    extents = opened(payloads)
    assert extents.loaded == 8
    extents.reference(numbers(0x201, 0x501), False)
    extents.trim(8)
    assert extents.loaded == 8
    extents.trim(3)
    assert extents.loaded == 3
    extents.trim(0)
    assert extents.loaded == 2
    assert [number for number in range(10) if extents.is_loaded(number)] == [2, 5]
    assert extents.in_use(1)
    assert failure(extents, 0x101)[::2] == (HEADER_MISSING, 1)
    extents.begin_commit()
    extents.trim(0)
    assert extents.loaded == 2  # under way
    extents.end_commit(True)
    extents.trim(0)
    assert extents.loaded == 0


def test_what_was_read_lately_is_kept_longer(payloads: ExtentFile) -> None:
    for number in range(1, 9):
        payloads.add_raw(number, random_page(Random(number)))
    extents = opened(payloads)
    extents.trim(7)  # everything was just loaded: one goes, the others lose their marks
    wanted = next(number for number in range(8, 0, -1) if extents.is_loaded(number))
    page_of(extents, wanted << 8 | 1)
    extents.trim(1)
    assert extents.is_loaded(wanted)


# ----------------------------------------------------------------------------------------- choice

NEW, APPEND, REWRITE = 0, 1, 2


def test_the_extent_with_most_room_is_appended_to(payloads: ExtentFile) -> None:
    assert opened(payloads).choose(8) == (NEW, 0)
    for number, objects in ((1, 5), (2, 3), (3, 4)):
        for i in range(objects):
            payloads.add(number, Codec.SAME, i.to_bytes(8, "big"))
    assert opened(payloads, load=False).choose(8) == (APPEND, 2)


def test_an_extent_with_few_free_slots_is_not_worth_a_turn(payloads: ExtentFile) -> None:
    for i in range(254 - 16):
        payloads.add(1, Codec.SAME, i.to_bytes(8, "big"))
    assert opened(payloads, load=False).choose(8) == (APPEND, 1)
    payloads.add(1, Codec.SAME, b"one more")
    assert opened(payloads, load=False).choose(8) == (NEW, 0)
    payloads.headers[1].end += 100
    assert opened(payloads, load=False).choose(8) == (NEW, 0)
    assert opened(payloads, load=False).deadest(8) == 1


def test_a_full_side_is_not_appended_to(payloads: ExtentFile) -> None:
    payloads.add_raw(1, random_page(Random(1)))
    payloads.headers[1].end = (1 << 20) - 16 * PAGE + 1
    payloads.headers[1].records[1].length = PAGE
    assert opened(payloads).choose(1 << 20) == (NEW, 0)
    payloads.headers[1].end -= 1
    assert opened(payloads).choose(1 << 20) == (APPEND, 1)


def test_the_extent_with_the_largest_dead_share_is_rewritten(payloads: ExtentFile) -> None:
    for number in (1, 2, 3):
        for page in guest_pages(Random(number), 10):
            payloads.add_raw(number, page)
    extents, table = opened(payloads), digests()
    extents.release(numbers(0x101, 0x201, 0x202), False, table)
    assert extents.choose(28) == (REWRITE, 2)  # 3 dead to 27 live: 28.4 256ths
    assert extents.choose(29) == (APPEND, 2)
    assert extents.deadest(28) == 2
    assert extents.deadest(29) == 0


# ---------------------------------------------------------------------------------------- domains


def two_domains(payloads: ExtentFile) -> Extents:
    """Extent 1 in domain 0, extents 2 and 3 in domain 9; ten raw pages in each."""
    for number in (1, 2, 3):
        for page in guest_pages(Random(number), 10):
            payloads.add_raw(number, page)
    payloads.headers[2].domain = payloads.headers[3].domain = 9
    return opened(payloads)


def test_an_extent_is_chosen_among_those_of_the_domain(payloads: ExtentFile) -> None:
    extents, table = two_domains(payloads), digests()
    assert [extents.domain_of(number) for number in (1, 2, 3)] == [0, 9, 9]
    assert extents.choose(8, 0) == (APPEND, 1)
    assert extents.choose(8, 9)[1] in (2, 3)
    assert extents.choose(8, 5) == (NEW, 0)
    extents.release(numbers(0x301), False, table)  # 1 dead to 19 live: 13.5 256ths
    assert extents.choose(13, 9) == (REWRITE, 3)
    assert extents.choose(14, 9) == (APPEND, 3)
    assert extents.choose(0, 0) == (APPEND, 1)
    assert extents.deadest(8) == 3  # 1 dead to 29 live: 8.8 256ths
    assert extents.deadest(9) == 0


def test_a_domain_ends_with_its_last_extent(payloads: ExtentFile) -> None:
    extents = two_domains(payloads)
    assert extents.domain_totals(9) == (2, 20, 20 * PAGE, 0, 0, 0)
    extents.drop(2)
    extents.drop(3)
    assert extents.domain_totals(9) == (0, 0, 0, 0, 0, 0)
    assert extents.choose(8, 9) == (NEW, 0)
    with pytest.raises(IndexError):
        extents.domain_of(2)
    payloads.headers[2].domain = 10  # the number may be given to another domain's
    extents.load(2, payloads.headers[2].pack())
    assert extents.domain_of(2) == 10
    assert extents.domain_totals(10)[0] == 1


def test_a_header_of_another_domain_than_its_summary_is_refused(payloads: ExtentFile) -> None:
    two_domains(payloads)
    extents = opened(payloads, load=False)
    payloads.headers[2].domain = 10
    with pytest.raises(ValueError, match="contradicts its summary"):
        extents.load(2, payloads.headers[2].pack())


def test_decoding_is_counted_for_the_domain(payloads: ExtentFile) -> None:
    extents = two_domains(payloads)
    out = bytearray(4 * PAGE)
    assert extents.read(numbers(0x101, 0x201, 0x202, ZERO), out, CONTEXT) is None
    assert extents.domain_totals(9)[4:] == (0, 0)  # not before the store has domains
    extents.keep_domains()
    assert extents.read(numbers(0x101, 0x201, 0x202, ZERO), out, CONTEXT) is None
    decoded, nanoseconds = extents.domain_totals(9)[4:]
    assert decoded == 2
    assert nanoseconds > 0


def test_an_object_is_found_under_the_keys_of_its_domain(payloads: ExtentFile) -> None:
    two_domains(payloads)
    table = digests()
    for number, header in payloads.headers.items():
        assert table.insert_header(number, header.pack())
    for identity in (0x101, 0x201):
        domain = payloads.headers[identity >> 8].domain
        digest = payloads.record(identity).digest
        assert identity in table.find(digest ^ oracle.domain_mask(domain))
    extents, used = opened(payloads), table.used
    extents.release(numbers(0x101, 0x201), False, table)
    assert table.used == used - 2


def test_pages_of_a_domain_go_to_its_extents_only() -> None:
    batch, staged = Batch(RECIPES["identical-only"]), Staged()
    batch.begin(random_page(Random(1)), 9)
    assert batch.domain == 9
    batch.classify(0, 1)
    batch.propose(digests(), SketchTable(bytearray(4096)))
    batch.route(Extents(-1), CONTEXT, 0, 1)
    staged.new(1, 8)
    with pytest.raises(ValueError, match="domain 9"):
        batch.pack(0, staged)
    staged.new(1, 9)
    assert batch.pack(0, staged) == 1


def routed_beside(payloads: ExtentFile, domain: int, page: bytes) -> tuple[Batch, Extents]:
    """A page, routed in a domain, with tables that propose object 0x101 for all that it has."""
    extents, table = opened(payloads), digests()
    sketches = SketchTable(bytearray(4096))
    mask = oracle.domain_mask(domain)
    assert table.insert((digest(page) & 0xFFFFFFFF) ^ mask, 0x101)
    recipe = RECIPES["default"]
    for feature in sketch(int(recipe.sketch), page):
        sketches.put(feature ^ mask, 0x101)
    batch = Batch(recipe)
    batch.begin(page, domain)
    batch.classify(0, 1)
    assert list(batch.propose(table, sketches)) == [0x101] * 2  # to share, and as base
    batch.route(extents, CONTEXT, 0, 1)
    return batch, extents


def test_what_is_proposed_of_another_domain_is_not_even_read(payloads: ExtentFile) -> None:
    """Tables only propose, and may be wrong: what counts is the domain of the object's extent."""
    page = compressible_page(Random(1))
    payloads.add_raw(1, page)
    for domain in (0, 9):
        payloads.headers[1].domain = domain
        batch, extents = routed_beside(payloads, domain, page)
        assert list(batch.ids()) == [0x101]
        assert (extents.compared, extents.refused) == (1, 0)
        other = 9 - domain
        batch, extents = routed_beside(payloads, other, page)
        assert batch.outcome(0)[0] == Route.COMPRESS
        assert list(batch.new_ids(1)) == [0]  # not packed yet
        assert (extents.compared, extents.refused) == (0, 2)


def test_a_base_of_another_domain_is_not_even_read(payloads: ExtentFile) -> None:
    base = compressible_page(Random(1))
    page = similar_page(base, Random(2), 4)
    payloads.add_raw(1, base)
    batch, extents = routed_beside(payloads, 0, page)
    assert batch.outcome(0)[0] == Route.PATCH
    payloads.headers[1].domain = 9
    batch, extents = routed_beside(payloads, 0, page)
    assert batch.outcome(0)[0] == Route.COMPRESS
    assert (extents.compared, extents.refused) == (0, 2)
