"""Every patcher gives back the page, and every question has the same patches of it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import bsdiff4
import pytest

from difffs._kernels import Context
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study import changes, differences, patching
from difffs.study._kernels import zstd_encode
from difffs.study.changes import COLUMNS, WITHOUT_BASE, Kind
from difffs.study.pairs import Pair
from difffs.study.patchers import PATCHERS
from tests.pages import compressible_page, random_page, shifted_page, similar_page
from tests.study.synthetic_pairs import joined, make_pairs


def split(patches: bytes, lengths: Sequence[int]) -> list[bytes]:
    assert sum(lengths) == len(patches)
    found = []
    for length in lengths:
        found.append(patches[:length])
        patches = patches[length:]
    return found


def patch_of(name: str, page: bytes, base: bytes) -> bytes:
    """The patch of one pair; empty when there is none."""
    made, lengths = COLUMNS[name]().encode(page, base)
    assert list(lengths) == [len(made)]
    return made


@pytest.mark.parametrize("name", COLUMNS)
def test_pages_come_back_and_others_have_no_patch(name: str) -> None:
    pairs = make_pairs(1)
    patcher = COLUMNS[name]()
    patches, lengths = patcher.encode(*joined(pairs))
    assert len(lengths) == len(pairs)
    made = split(patches, lengths)
    assert [bool(patch) for patch in made[:3]] == [True, True, False]
    assert max(lengths) <= PAGE_SIZE
    alike = [pair for pair, patch in zip(pairs, made, strict=True) if patch]
    again = patcher.decode(patches, array("I", filter(None, lengths)), joined(alike)[1])
    assert again == joined(alike)[0]


@pytest.mark.parametrize("name", PATCHERS)
def test_equal_and_near_pages_have_short_patches(name: str) -> None:
    random = Random(3)
    base = compressible_page(random)
    patcher = PATCHERS[name]()
    for page, most in (
        (bytes(bytearray(base)), 200),  # a copy: zstd takes no page for a prefix of itself
        (bytes(PAGE_SIZE), PAGE_SIZE),
        (similar_page(base, random), 999),
    ):
        made, lengths = patcher.encode(page, base)
        assert 0 < len(made) <= most
        assert patcher.decode(made, lengths, base) == page


@pytest.mark.parametrize("name", COLUMNS)
def test_of_no_pairs_there_are_no_patches(name: str) -> None:
    patcher = COLUMNS[name]()
    assert patcher.encode(b"", b"") == (b"", array("I"))
    assert patcher.decode(b"", array("I"), b"") == b""


@pytest.mark.parametrize("name", COLUMNS)
def test_patches_are_those_that_each_pair_has_by_itself(name: str) -> None:
    pairs = make_pairs(2)
    together = split(*COLUMNS[name]().encode(*joined(pairs)))
    assert together == [patch_of(name, pair.page, pair.base) for pair in pairs]


@pytest.mark.parametrize("name", PATCHERS)
def test_no_patch_is_longer_than_the_page(name: str) -> None:
    """Where few bytes are equal and nothing compresses, a header or a frame can be too much."""
    page, other = random_page(Random(1)), random_page(Random(2))
    patcher = PATCHERS[name]()
    for equal in range(72):
        base = page[:equal] + other[equal:]
        made, lengths = patcher.encode(page, base)
        assert list(lengths) == [len(made)]
        assert len(made) <= PAGE_SIZE
        assert not made or patcher.decode(made, lengths, base) == page


def test_codecs_levels_and_packages_are_those_named() -> None:
    random = Random(9)
    base = compressible_page(random)
    page = shifted_page(similar_page(base, random, 60), random)
    context = Context()
    for level in (-1, 1, 3, 9, 19):
        expected = context.encode(Codec.ZSTD_PREFIX, page, base, level)
        assert patch_of(f"zstd {level}", page, base) == expected
    for name, codec in (
        ("lz4", Codec.LZ4_PREFIX),
        ("VCDIFF", Codec.VCDIFF),
        ("page bsdiff", Codec.PAGE_BSDIFF),
        ("XBZRLE", Codec.XBZRLE),
        (WITHOUT_BASE, Codec.ZSTD),
    ):
        expected = context.encode(codec, page, base if codec.is_patch else None)
        assert patch_of(name, page, base) == expected
    assert bsdiff4.patch(base, patch_of("bsdiff4", page, base)) == page


def test_xor_is_compressed_by_the_products_zstd() -> None:
    (pair,) = make_pairs(3)[:1]
    xor = bytes(a ^ b for a, b in zip(pair.page, pair.base, strict=True))
    assert patch_of("XOR + zstd 1", pair.page, pair.base) == Context().encode(
        Codec.ZSTD, xor, None, 1
    )


def test_xbzrle_is_compressed_and_has_no_header() -> None:
    (pair,) = make_pairs(3)[:1]
    alone = patch_of("XBZRLE", pair.page, pair.base)
    packed = patch_of("XBZRLE + zstd 1", pair.page, pair.base)
    assert packed == zstd_encode(alone, len(alone), 1)[0]


def test_memory_is_that_of_each_patcher() -> None:
    pages, bases = joined(make_pairs(4))
    used = {}
    for name, make in PATCHERS.items():
        patcher = make()
        patcher.encode(pages, bases)
        used[name] = patcher.memory(pages, bases)
    assert used["XBZRLE"] == (0, 0)
    assert used["VCDIFF"][1] == used["lz4"][1] == 0
    assert used["zstd 1"][0] < used["zstd 9"][0] < used["zstd 19"][0]
    assert used["zstd 1"][1] == used["zstd 19"][1]
    assert used["page bsdiff"][0] == used["page bsdiff"][1]
    assert used["XOR + zstd 1"] == used["XBZRLE + zstd 1"]
    assert used["XOR + zstd 1"][0] > PAGE_SIZE
    # bzip2's documentation: 400,000 bytes and eight times its blocks of 900,000
    assert 7_600_000 * 0.95 < used["bsdiff4"][0] < 7_600_000 * 1.05
    assert used["bsdiff4"][1] is None


# ------------------------------------------------------------------------------- every question


@pytest.fixture(scope="module")
def told_by_question_two() -> list[dict[str, int]]:
    """For each of the pairs the bytes of its patch by patcher, and of its page alone."""
    told = []
    with pytest.MonkeyPatch.context() as patches:
        for pair in make_pairs(8):
            result = of_one_pair(patching, patching.patch_pass, pair, patches)
            (alone,) = result["alone"]
            told.append({WITHOUT_BASE: alone})
            for name, measured in result["patchers"].items():
                (told[-1][name],) = measured["lengths"]
    return told


def of_one_pair(
    module: Any, pair_pass: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a pass over real pairs tells when there is this one only."""
    monkeypatch.setattr(module, "sample_pairs", lambda *_arguments: ([pair], 1))
    result: dict[str, Any] = pair_pass([], Path(), {"pairs": 1, "seed": 1})
    return result


def test_real_pairs_have_the_same_patches_in_questions_two_and_three(
    told_by_question_two: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pair, expected in zip(make_pairs(8), told_by_question_two, strict=True):
        result = of_one_pair(differences, differences.difference_pass, pair, monkeypatch)
        (cell,) = result["cells"]
        assert cell["patches"] == expected
        assert list(cell["patches"]) == list(COLUMNS)


def test_changed_pages_have_the_same_patches_as_real_pairs(
    told_by_question_two: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SIMILARITIES", (0.95,))
    for pair, expected in zip(make_pairs(8), told_by_question_two, strict=True):
        monkeypatch.setattr(changes, "sample_pages", lambda *_, base=pair.base: [base])
        monkeypatch.setattr(changes, "change_all", lambda *_, page=pair.page: [page])
        result = changes.change_pass([], Path(), {"pages": 1, "seed": 1})
        for kind in Kind:
            cells = [cell for cell in result["cells"] if cell["kind"] is kind]
            assert {cell["patcher"]: cell["bytes"] for cell in cells} == expected
