"""Patches of many pairs at once, against patching each by itself."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path
from random import Random

import bsdiff4
import pytest

from difffs._kernels import Context as CodecContext
from difffs._kernels import vcdiff_encode, vcdiff_stream
from difffs.codec import Codec
from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study import patchers, patching
from difffs.study.corpus import Corpus, Image
from difffs.study.pairs import Pair, sample_pairs
from tests.pages import compressible_page, random_page, shifted_page, similar_page


def make_pairs(seed: int) -> list[Pair]:
    """Pairs alike in several ways, and every third of them not at all."""
    random = Random(seed)
    pairs = []
    for number in range(12):
        base = compressible_page(random)
        page = [
            similar_page(base, random, random.choice([1, 30, 300])),
            shifted_page(base, random),
            random_page(random),
        ][number % 3]
        pairs.append(Pair(page, base))
    return pairs


def joined(pairs: Sequence[Pair]) -> tuple[bytes, bytes]:
    return b"".join(pair.page for pair in pairs), b"".join(pair.base for pair in pairs)


def split(patches: bytes, lengths: Sequence[int]) -> list[bytes]:
    assert sum(lengths) == len(patches)
    found = []
    for length in lengths:
        found.append(patches[:length])
        patches = patches[length:]
    return found


# ------------------------------------------------------------------------------------- patchers


@pytest.mark.parametrize("name", patching.PATCHERS)
def test_pages_come_back_and_others_have_no_patch(name: str) -> None:
    pairs = make_pairs(1)
    patcher = patching.PATCHERS[name]()
    patches, lengths = patcher.encode(*joined(pairs))
    assert len(lengths) == len(pairs)
    made = split(patches, lengths)
    assert [bool(patch) for patch in made[:3]] == [True, True, False]
    assert max(lengths) <= PAGE_SIZE
    alike = [pair for pair, patch in zip(pairs, made, strict=True) if patch]
    again = patcher.decode(patches, array("I", filter(None, lengths)), joined(alike)[1])
    assert again == joined(alike)[0]


@pytest.mark.parametrize("name", patching.PATCHERS)
def test_of_no_pairs_there_are_no_patches(name: str) -> None:
    patcher = patching.PATCHERS[name]()
    assert patcher.encode(b"", b"") == (b"", array("I"))
    assert patcher.decode(b"", array("I"), b"") == b""


def test_patches_are_those_that_each_pair_has_by_itself() -> None:
    pairs = make_pairs(2)
    alone = {patcher.name: patcher for patcher in patchers.make_patchers()}
    assert set(alone) < set(patching.PATCHERS)
    for name, patcher in alone.items():
        patches, lengths = patching.PATCHERS[name]().encode(*joined(pairs))
        for pair, patch in zip(pairs, split(patches, lengths), strict=True):
            expected = patcher.encode(pair.page, pair.base) or b""
            if name == "XBZRLE + zstd 1":
                expected = expected[2:]  # the length, which zstd tells as well
            assert patch == expected, name


def test_xor_is_compressed_by_the_products_zstd() -> None:
    (pair,) = make_pairs(3)[:1]
    xor = bytes(a ^ b for a, b in zip(pair.page, pair.base, strict=True))
    patches, _lengths = patching.PATCHERS["XOR + zstd 1"]().encode(pair.page, pair.base)
    assert patches == CodecContext().encode(Codec.ZSTD, xor, None, 1)


def test_memory_is_that_of_each_patcher() -> None:
    pages, bases = joined(make_pairs(4))
    used = {}
    for name, make in patching.PATCHERS.items():
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


# ------------------------------------------------------------------------------- sizes and times


def test_every_patcher_is_measured_on_the_same_pairs(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    images = corpora[0].images
    for name in ("theirs", "ours"):
        (scratch_folder / name).mkdir()
    result = patching.patch_pass(images, scratch_folder / "theirs", {"pairs": 30, "seed": 4})
    pairs, found = sample_pairs(images, scratch_folder / "ours", 30, 4)
    assert (result["pairs"], result["found"]) == (len(pairs), found) == (30, found)
    context = CodecContext()
    assert result["alone"] == [len(context.encode(Codec.ZSTD, p.page) or p.page) for p in pairs]
    assert list(result["patchers"]) == list(patching.PATCHERS)
    for name, codec, level in (
        ("zstd 3", Codec.ZSTD_PREFIX, 3),
        ("XBZRLE", Codec.XBZRLE, 1),
        ("page bsdiff", Codec.PAGE_BSDIFF, 1),
    ):
        lengths = [len(context.encode(codec, p.page, p.base, level) or p.page) for p in pairs]
        assert result["patchers"][name]["lengths"] == lengths
    assert result["patchers"]["bsdiff4"]["lengths"] == [
        len(bsdiff4.diff(pair.base, pair.page)) for pair in pairs
    ]
    for measured in result["patchers"].values():
        assert measured["encode_us"] > 0
        assert measured["decode_us"] > 0


def test_patches_that_are_none_count_as_the_page() -> None:
    pairs = make_pairs(5)
    measured = patching.measure_patchers(*joined(pairs))
    for name, result in measured.items():
        assert result["lengths"][2] == result["lengths"][5] == PAGE_SIZE, name
        assert result["lengths"][0] < PAGE_SIZE, name


def test_a_patch_that_decodes_to_another_page_ends_the_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forgetful(patching._Bsdiff4):
        def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
            return bases

    monkeypatch.setattr(patching, "PATCHERS", {"forgetful": Forgetful})
    with pytest.raises(AssertionError, match="forgetful"):
        patching.measure_patchers(*joined(make_pairs(6)[:2]))


def test_an_image_without_pairs_has_no_patches(tmp_path: Path, scratch_folder: Path) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(4 * PAGE_SIZE))
    result = patching.patch_pass([Image.of(path)], scratch_folder, {"pairs": 9, "seed": 1})
    assert result == {"pairs": 0, "found": 0, "alone": [], "patchers": {}}


# ---------------------------------------------------------------------------------- xdelta3 tool


def test_the_tool_patches_the_same_pairs(corpora: list[Corpus], scratch_folder: Path) -> None:
    if shutil.which(patching.TOOL) is None:
        pytest.skip("the xdelta3 tool is not installed (Debian package xdelta3)")
    for name in ("theirs", "ours"):
        (scratch_folder / name).mkdir()
    images = corpora[0].images
    result = patching.tool_pass(images, scratch_folder / "theirs", {"pairs": 20, "seed": 4})
    pairs, _found = sample_pairs(images, scratch_folder / "ours", 20, 4)
    patches = [vcdiff_encode(pair.page, pair.base) or b"" for pair in pairs]
    assert all(patches)
    assert result["patches"] == [len(patch) for patch in patches]
    assert result["streams"] == [len(vcdiff_stream(patch)) for patch in patches]
    assert result["decoded"] == 20
    usual, hard = (sum(lengths) for lengths in result["tool"].values())
    assert 0.6 * usual < sum(result["streams"]) <= 1.03 * usual
    assert hard <= usual


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An xdelta3 to be written, which comes before all others."""
    path = tmp_path / "bin" / patching.TOOL
    path.parent.mkdir()
    path.touch(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    return path


def test_streams_that_the_tool_makes_something_else_of_are_not_counted(
    tool: Path, corpora: list[Corpus], scratch_folder: Path
) -> None:
    tool.write_text("#!/bin/sh\necho another page\n")
    result = patching.tool_pass(corpora[0].images, scratch_folder, {"pairs": 3, "seed": 4})
    assert result["decoded"] == 0
    assert result["tool"] == {level: 3 * [len("another page\n")] for level in patching.TOOL_LEVELS}


def test_a_tool_that_fails_is_named(
    tool: Path, corpora: list[Corpus], scratch_folder: Path
) -> None:
    tool.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
    with pytest.raises(EnvironmentProblem, match="xdelta3 exited with 3: no memory"):
        patching.tool_pass(corpora[0].images, scratch_folder, {"pairs": 3, "seed": 4})
