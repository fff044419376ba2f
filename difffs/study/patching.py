"""Passes over real pairs: what each patcher makes of them, and what the xdelta3 tool makes."""

from __future__ import annotations

import subprocess
import time
import tracemalloc
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeVar

import bsdiff4
import numpy

from difffs._kernels import vcdiff_encode, vcdiff_stream
from difffs.codec import Codec
from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study._kernels import PageCoder, zstd_decode_pieces, zstd_encode_pieces
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.pairs import Pair, sample_pairs

PATCH_PASS_VERSION = 1
TOOL_PASS_VERSION = 1

_ROUNDS = 5
"""Of each patcher, in turns, so that all meet the same disturbances; the fastest counts."""
_SLOW_SECONDS = 1.0
"""A patcher whose first round takes longer has no other."""
_TRACED_PAIRS = 10
"""On which the memory of bsdiff4 is looked at: it hardly depends on the pair."""

Patches = tuple[bytes, "array[int]"]
"""Patches one behind the other, and their lengths: 0 where one is longer than the page."""

_Made = TypeVar("_Made")


# ------------------------------------------------------------------------------------- patchers


class Patcher(Protocol):
    """A way to make a patch of a page and a base, for many pairs at once."""

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        """Return a patch for each pair."""

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        """Return the pages; there is a patch for each."""

    def memory(self, pages: bytes, bases: bytes) -> tuple[int, int | None]:
        """Return the bytes that encoding and decoding worked in, beside page, base and patch."""


class _Native:
    """A codec of the product."""

    def __init__(self, codec: Codec, level: int = 1) -> None:
        self._coder = PageCoder(codec, level)

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        return self._coder.encode(pages, bases)

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        return self._coder.decode(patches, lengths, bases)

    def memory(self, _pages: bytes, _bases: bytes) -> tuple[int, int]:
        return self._coder.encoder_bytes, self._coder.decoder_bytes


class _CompressedXbzrle:
    """XBZRLE, and zstd 1 behind it. Where XBZRLE gives up, there is no patch."""

    def __init__(self) -> None:
        self._coder = PageCoder(Codec.XBZRLE)

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        patches, lengths = self._coder.encode(pages, bases)
        made = array("I", [length for length in lengths if length])
        frames, frame_lengths = zstd_encode_pieces(patches, made, 1)
        each = iter(frame_lengths)
        return frames, array("I", [next(each) if length else 0 for length in lengths])

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        pieces, piece_lengths = zstd_decode_pieces(patches, lengths, PAGE_SIZE)
        return self._coder.decode(pieces, piece_lengths, bases)

    def memory(self, pages: bytes, _bases: bytes) -> tuple[int, int]:
        return _zstd_memory(pages)


class _CompressedXor:
    """The page's bits that differ from the base's, by zstd 1."""

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        frames, lengths = zstd_encode_pieces(_xor(pages, bases), _whole_pages(len(pages)), 1)
        each = (
            frames[end - length : end]
            for end, length in zip(accumulate(lengths), lengths, strict=True)
        )
        return _kept(each)

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        differences, _lengths = zstd_decode_pieces(patches, lengths, PAGE_SIZE)
        return _xor(differences, bases)

    def memory(self, pages: bytes, _bases: bytes) -> tuple[int, int]:
        return _zstd_memory(pages)


class _Bsdiff4:
    """The Python package, a call for each pair: bsdiff as for files, three streams by bzip2."""

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        return _kept(
            bsdiff4.diff(bases[i : i + PAGE_SIZE], pages[i : i + PAGE_SIZE])
            for i in range(0, len(pages), PAGE_SIZE)
        )

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        pages = []
        place = 0
        for number, length in enumerate(lengths):
            base = bases[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
            pages.append(bsdiff4.patch(base, patches[place : place + length]))
            place += length
        return b"".join(pages)

    def memory(self, pages: bytes, bases: bytes) -> tuple[int, None]:
        """Python's bzip2 compressor and the package allocate where tracemalloc sees it, Python's
        decompressor does not.
        """
        most = 0
        for i in range(0, min(len(pages), _TRACED_PAIRS * PAGE_SIZE), PAGE_SIZE):
            page, base = pages[i : i + PAGE_SIZE], bases[i : i + PAGE_SIZE]
            tracemalloc.start()
            bsdiff4.diff(base, page)
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return most, None


def _kept(patches: Iterable[bytes]) -> Patches:
    kept = [patch if len(patch) <= PAGE_SIZE else b"" for patch in patches]
    return b"".join(kept), array("I", map(len, kept))


def _xor(first: bytes, second: bytes) -> bytes:
    kind = numpy.dtype(numpy.uint64)
    return (numpy.frombuffer(first, kind) ^ numpy.frombuffer(second, kind)).tobytes()


def _whole_pages(length: int) -> array[int]:
    return array("I", [PAGE_SIZE]) * (length // PAGE_SIZE)


def _zstd_memory(pages: bytes) -> tuple[int, int]:
    """Of zstd 1 without a base, and of the page that lies between the two steps."""
    coder = PageCoder(Codec.ZSTD, 1)
    coder.encode(pages[:PAGE_SIZE])
    return PAGE_SIZE + coder.encoder_bytes, PAGE_SIZE + coder.decoder_bytes


PATCHERS: Mapping[str, Callable[[], Patcher]] = {
    "zstd -1": lambda: _Native(Codec.ZSTD_PREFIX, -1),
    "zstd 1": lambda: _Native(Codec.ZSTD_PREFIX, 1),
    "zstd 3": lambda: _Native(Codec.ZSTD_PREFIX, 3),
    "zstd 9": lambda: _Native(Codec.ZSTD_PREFIX, 9),
    "zstd 19": lambda: _Native(Codec.ZSTD_PREFIX, 19),
    "lz4": lambda: _Native(Codec.LZ4_PREFIX),
    "VCDIFF": lambda: _Native(Codec.VCDIFF),
    "page bsdiff": lambda: _Native(Codec.PAGE_BSDIFF),
    "XBZRLE": lambda: _Native(Codec.XBZRLE),
    "XBZRLE + zstd 1": _CompressedXbzrle,
    "XOR + zstd 1": _CompressedXor,
    "bsdiff4": _Bsdiff4,
}
"""Their names in the order of tables. zstd and lz4 have the base as their prefix."""


# ------------------------------------------------------------------------------- sizes and times


def patch_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Patch real pairs with every patcher; each patch is decoded and compared.

    Parameters: `pairs` and `seed` as for sample_pairs(). The result: `pairs` sampled and `found`
    in all, `alone`, the bytes that each pair's page takes by zstd 1, and `patchers`: by name the
    `lengths` of patches (the page's where there is none), `encode_us` and `decode_us` of processor
    time a pair (decoding: a patch), `encoder_bytes` and `decoder_bytes` as of Patcher.memory().
    """
    pairs, found = sample_pairs(images, folder, parameters["pairs"], parameters["seed"])
    pages, bases = b"".join(p.page for p in pairs), b"".join(p.base for p in pairs)
    _payloads, alone = PageCoder(Codec.ZSTD, 1).encode(pages)
    return {
        "pairs": len(pairs),
        "found": found,
        "alone": [length or PAGE_SIZE for length in alone],
        "patchers": measure_patchers(pages, bases) if pairs else {},
    }


def measure_patchers(pages: bytes, bases: bytes) -> dict[str, Result]:
    """Return what patch_pass() tells of each patcher."""
    patchers = {name: make() for name, make in PATCHERS.items()}
    encoded: dict[str, Patches] = {}
    encoding: dict[str, float] = {}
    decoding: dict[str, float] = {}
    for number in range(_ROUNDS):
        for name, patcher in patchers.items():
            if number and encoding[name] + decoding[name] > _SLOW_SECONDS:
                continue
            made, seconds = _timed(partial(patcher.encode, pages, bases))
            encoding[name] = min(seconds, encoding.get(name, seconds))
            encoded.setdefault(name, made)
            assert made == encoded[name], name
            seconds = _decode(name, patcher, made, pages, bases)
            decoding[name] = min(seconds, decoding.get(name, seconds))
    results: dict[str, Result] = {}
    for name, patcher in patchers.items():
        lengths = encoded[name][1]
        encoder_bytes, decoder_bytes = patcher.memory(pages, bases)
        results[name] = {
            "lengths": [length or PAGE_SIZE for length in lengths],
            "encode_us": encoding[name] * 1e6 / len(lengths),
            "decode_us": decoding[name] * 1e6 / max(1, sum(map(bool, lengths))),
            "encoder_bytes": encoder_bytes,
            "decoder_bytes": decoder_bytes,
        }
    return results


def _decode(name: str, patcher: Patcher, made: Patches, pages: bytes, bases: bytes) -> float:
    """Decode every patch and compare; the seconds of decoding."""
    patches, lengths = made
    if not all(lengths):
        pages, bases = (_chosen(content, lengths) for content in (pages, bases))
        lengths = array("I", filter(None, lengths))
    again, seconds = _timed(partial(patcher.decode, patches, lengths, bases))
    assert again == pages, name
    return seconds


def _chosen(content: bytes, lengths: array[int]) -> bytes:
    return b"".join(
        content[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
        for number, length in enumerate(lengths)
        if length
    )


def _timed(function: Callable[[], _Made]) -> tuple[_Made, float]:
    """The result and the thread's processor time: other processes count less than on the clock."""
    began = time.thread_time()
    made = function()
    return made, time.thread_time() - began


# ---------------------------------------------------------------------------------- xdelta3 tool

TOOL = "xdelta3"
TOOL_LEVELS: Mapping[str, Sequence[str]] = {"default": (), "-9": ("-9",)}
"""How hard the tool searches -> its option."""

_TOOL_OPTIONS = ("-e", "-S", "none", "-n", "-A", "-B", "524288")
"""No secondary compression, no checksum, no application header: what a patch of ours has neither.
A small window for the base spares the tool's start most of its time and changes no size."""


def tool_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Let xdelta3 patch real pairs and decode our patches of them.

    Parameters: `pairs` and `seed` as for sample_pairs(), and `tool`, its version. The result:
    `patches`, the lengths of our patches; `streams`, of the same as whole RFC 3284 streams; `tool`:
    for each of TOOL_LEVELS the lengths of its streams; `decoded`, how many of ours it decoded to
    the page. Pairs whose page has no patch of ours are left out.
    """
    pairs, _found = sample_pairs(images, folder, parameters["pairs"], parameters["seed"])
    result: Result = {
        "patches": [],
        "streams": [],
        "tool": {level: [] for level in TOOL_LEVELS},
        "decoded": 0,
    }
    for pair in pairs:
        patch = vcdiff_encode(pair.page, pair.base)
        if patch is None:
            continue
        stream = vcdiff_stream(patch)
        result["patches"].append(len(patch))
        result["streams"].append(len(stream))
        result["decoded"] += _run_tool(folder, ["-d"], pair, stream).stdout == pair.page
        for level, options in TOOL_LEVELS.items():
            result["tool"][level].append(len(_encoded_by_tool(folder, options, pair)))
    return result


def _encoded_by_tool(folder: Path, options: Sequence[str], pair: Pair) -> bytes:
    done = _run_tool(folder, [*_TOOL_OPTIONS, *options], pair, pair.page)
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip()[-400:]
        raise EnvironmentProblem(f"{TOOL} exited with {done.returncode}: {complaint}")
    return done.stdout


def _run_tool(
    folder: Path, options: Sequence[str], pair: Pair, given: bytes
) -> subprocess.CompletedProcess[bytes]:
    base, taken = folder / "base", folder / "given"
    base.write_bytes(pair.base)
    taken.write_bytes(given)
    command = [TOOL, *options, "-c", "-s", str(base), str(taken)]
    return subprocess.run(command, check=False, capture_output=True)
