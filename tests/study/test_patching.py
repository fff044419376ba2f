"""Pairs patched by every patcher, measured, and by the xdelta3 tool."""

from __future__ import annotations

import shutil
from array import array
from pathlib import Path

import bsdiff4
import pytest

from difffs._kernels import Context as CodecContext
from difffs._kernels import vcdiff_encode, vcdiff_stream
from difffs.codec import Codec
from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study import patching
from difffs.study.corpus import Corpus, Image
from difffs.study.pairs import sample_pairs
from difffs.study.patchers import PATCHERS, Alone, Patches
from tests.study.synthetic_pairs import joined, make_pairs

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
    assert list(result["patchers"]) == list(PATCHERS)
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
    patchers = {name: make() for name, make in PATCHERS.items()}
    for name, measured in patching.measure_patchers(patchers, *joined(pairs)).items():
        assert measured.lengths[2] == measured.lengths[5] == PAGE_SIZE, name
        assert measured.lengths[0] < PAGE_SIZE, name
    without = patching.measure_patchers({"zstd 1": PATCHERS["zstd 1"]()}, *joined(pairs[2:3]))
    assert without["zstd 1"].lengths == [PAGE_SIZE]
    assert without["zstd 1"].decode_us is None


class Counted(Alone):
    """Counts how often it encodes."""

    calls = 0

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        self.calls += 1
        return super().encode(pages, bases)


@pytest.mark.parametrize(
    ("rounds", "slow_seconds", "calls"), [(1, 60.0, 1), (4, 60.0, 4), (4, 0.0, 1)]
)
def test_the_slow_have_one_round(rounds: int, slow_seconds: float, calls: int) -> None:
    patcher = Counted()
    pairs = make_pairs(7)[:2]
    patching.measure_patchers({"counted": patcher}, *joined(pairs), rounds, slow_seconds)
    assert patcher.calls == calls


class Forgetful(Alone):
    def decode(self, frames: bytes, lengths: array[int], bases: bytes) -> bytes:
        return bases


class Fickle(Counted):
    def encode(self, pages: bytes, bases: bytes) -> Patches:
        frames, lengths = super().encode(pages, bases)
        return (frames, lengths) if self.calls < 2 else (b"", array("I", [0]) * len(lengths))


@pytest.mark.parametrize("patcher", [Forgetful(), Fickle()])
def test_patches_of_another_page_or_of_another_time_end_the_measurement(patcher: Alone) -> None:
    with pytest.raises(AssertionError, match="the name"):
        patching.measure_patchers({"the name": patcher}, *joined(make_pairs(6)[:2]))


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
