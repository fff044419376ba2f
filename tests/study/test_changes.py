"""Changed pages: as many changed bytes as asked for, at the places asked for."""

from pathlib import Path
from random import Random

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState

from difffs._kernels import Context as CodecContext
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study import changes
from difffs.study.changes import (
    COLUMNS,
    DENSITY,
    SIMILARITIES,
    Kind,
    Page,
    change,
    change_all,
    changed_count,
)
from difffs.study.corpus import Corpus, Image
from difffs.study.page_sample import sample_pages
from tests.pages import compressible_page, random_page

kinds = st.sampled_from(list(Kind))
counts = st.integers(1, PAGE_SIZE // 2)
seeds = st.integers(0, 2**32 - 1)

ADDRESSES = numpy.frombuffer(
    b"".join((0xFFFF_8880_0000_0000 | n * 0x0123_4560).to_bytes(8, "little") for n in range(200)),
    dtype=numpy.uint8,
).reshape(-1, 8)


def as_page(content: bytes) -> Page:
    return numpy.frombuffer(content, dtype=numpy.uint8)


def changed(kind: Kind, base: bytes, source: bytes, count: int, seed: int) -> bytes | None:
    made = change(kind, as_page(base), as_page(source), ADDRESSES, count, RandomState(seed))
    return None if made is None else made.tobytes()


def differing(page: bytes, base: bytes) -> list[int]:
    return [i for i in range(PAGE_SIZE) if page[i] != base[i]]


def two_pages(seed: int) -> tuple[bytes, bytes]:
    """A page, and a source that differs from it at three of four places."""
    random = Random(seed)
    base = compressible_page(random)
    noise = random_page(random)
    source = bytes(b if random.random() < 0.25 else n for b, n in zip(base, noise, strict=True))
    return base, source


@given(kinds, counts, seeds)
@settings(max_examples=200, deadline=None)
def test_exactly_so_many_bytes_change(kind: Kind, count: int, seed: int) -> None:
    base, source = two_pages(seed)
    page = changed(kind, base, source, count, seed)
    if kind in (Kind.RANDOM_RUN, Kind.BYTES, Kind.POINTERS):
        assert page is not None
    if page is None:
        return
    assert len(page) == PAGE_SIZE
    assert page == changed(kind, base, source, count, seed)
    if kind is not Kind.SHIFT:
        assert len(differing(page, base)) == count


@given(counts, seeds)
@settings(max_examples=60, deadline=None)
def test_pieces_are_of_the_source_and_where_they_should_be(count: int, seed: int) -> None:
    base, source = two_pages(seed)
    for kind in (Kind.END, Kind.START, Kind.RUN):
        page = changed(kind, base, source, count, seed)
        if page is None:
            # the source differs at three of four places, in short pieces by chance at fewer
            assert count < 100
            continue
        places = differing(page, base)
        first, behind = places[0], places[-1] + 1
        if kind is Kind.END:
            behind = PAGE_SIZE
        if kind is Kind.START:
            first = 0
        assert page[first:behind] == source[first:behind]
        assert behind - first <= DENSITY * count


@given(counts, seeds)
@settings(max_examples=60, deadline=None)
def test_a_shift_inserts_so_many_bytes_and_moves_the_rest(count: int, seed: int) -> None:
    base, source = two_pages(seed)
    page = changed(Kind.SHIFT, base, source, count, seed)
    assert page is not None
    assert page != base
    assert any(
        page[:at] == base[:at]
        and page[at : at + count] == source[at : at + count]
        and page[at + count :] == base[at : PAGE_SIZE - count]
        for at in range(PAGE_SIZE - count + 1)
    )


@given(counts, seeds)
@settings(max_examples=60, deadline=None)
def test_pointers_change_in_the_lower_half_of_aligned_words(count: int, seed: int) -> None:
    base, source = two_pages(seed)
    page = changed(Kind.POINTERS, base, source, count, seed)
    assert page is not None
    places = differing(page, base)
    assert all(place % 8 < 4 for place in places)
    assert len({place // 8 for place in places}) == -(-count // 4)
    words = [int.from_bytes(base[i : i + 8], "little") for i in range(0, PAGE_SIZE, 8)]
    addresses = {i for i, word in enumerate(words) if word >> 32 == 0xFFFF_8880}
    touched = {place // 8 for place in places}
    assert touched <= addresses or touched >= addresses, "addresses first"


def test_new_bytes_are_as_frequent_as_those_of_the_source() -> None:
    source = bytes([7] * 3000 + [9] * 1096)
    page = changed(Kind.BYTES, bytes(PAGE_SIZE), source, 2000, 1)
    assert page is not None
    assert set(page) == {0, 7, 9}
    assert page.count(7) == pytest.approx(2000 * 3000 / PAGE_SIZE, rel=0.1)
    # of a page that has no other byte, any other is taken
    page = changed(Kind.BYTES, bytes(PAGE_SIZE), bytes(PAGE_SIZE), 2000, 1)
    assert page is not None
    assert page.count(0) == PAGE_SIZE - 2000
    assert len(set(page)) > 200


def test_a_page_that_is_too_much_alike_is_no_source() -> None:
    base, _source = two_pages(1)
    almost = bytearray(base)
    for place in range(0, PAGE_SIZE, 4):
        almost[place] ^= 1
    for kind in (Kind.END, Kind.START, Kind.RUN, Kind.SHIFT):
        assert changed(kind, base, base, 41, 1) is None
        assert changed(kind, base, bytes(almost), 41, 1) is None, "one byte of four is too thin"


def test_similarities_are_those_of_the_pages() -> None:
    random = Random(5)
    bases = [compressible_page(random) for _ in range(12)]
    for similarity in SIMILARITIES:
        count = changed_count(similarity)
        assert count / PAGE_SIZE == pytest.approx(1 - similarity, abs=1 / PAGE_SIZE)
        for kind in Kind:
            made = change_all(kind, bases, similarity, 3)
            assert made == change_all(kind, bases, similarity, 3)
            assert made != change_all(kind, bases, similarity, 4)
            assert any(made)
            for page, base in zip(made, bases, strict=True):
                if page is not None and kind is not Kind.SHIFT:
                    assert len(differing(page, base)) == count


def test_a_page_alone_has_no_source() -> None:
    base, _source = two_pages(1)
    assert change_all(Kind.END, [base], 0.9, 1) == [None]


# ------------------------------------------------------------------------------------ measurement


def test_cells_are_the_lengths_of_patches(corpora: list[Corpus], tmp_path: Path) -> None:
    images = corpora[0].images
    result = changes.change_pass(images, tmp_path, {"pages": 10, "seed": 2})
    sampled = sample_pages(images, 10, 2)
    assert result["sampled"] == len(sampled) == 10
    every = {
        (kind, similarity): change_all(kind, sampled, similarity, 2)
        for kind in Kind
        for similarity in SIMILARITIES
    }
    usable = [i for i in range(10) if all(pages[i] for pages in every.values())]
    assert result["pages"] == len(usable) > 0
    assert [(c["kind"], c["similarity"], c["patcher"]) for c in result["cells"]] == [
        (kind, similarity, name) for kind in Kind for similarity in SIMILARITIES for name in COLUMNS
    ]
    context = CodecContext()
    for cell in result["cells"]:
        if cell["patcher"] in ("zstd 3", "XBZRLE", changes.WITHOUT_BASE):
            codec, level = {"zstd 3": (Codec.ZSTD_PREFIX, 3), "XBZRLE": (Codec.XBZRLE, 1)}.get(
                cell["patcher"], (Codec.ZSTD, 1)
            )
            pages = every[cell["kind"], cell["similarity"]]
            lengths = [
                len(context.encode(codec, pages[i] or b"", sampled[i], level) or sampled[i])
                for i in usable
            ]
            assert cell["bytes"] == sum(lengths)
        assert cell["encode_us"] > 0


def test_an_image_without_pages_to_change(tmp_path: Path) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(4 * PAGE_SIZE))
    result = changes.change_pass([Image.of(path)], tmp_path, {"pages": 10, "seed": 2})
    assert result == {"sampled": 0, "pages": 0, "cells": []}
