"""The patchers that the study compares: what makes patches of pages and their bases, and back."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Protocol

import bsdiff4
import numpy

from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study._kernels import PageCoder, zstd_decode_pieces, zstd_encode_pieces

Patches = tuple[bytes, "array[int]"]
"""Patches one behind the other, without their bases' numbers, and the bytes of each: 0 where it
would be longer than the page, so that there is none."""


class Patcher(Protocol):
    """A way to make a patch of a page and a base, for many pairs at once; for use by one thread.

    Pages lie one behind the other, 4,096 bytes each, and so do as many bases.
    """

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        """Return a patch for each pair; the same as when the pair is given alone."""

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        """Return the pages; there is a patch for each. Malformed ones are not surely told."""

    def memory(self, pages: bytes, bases: bytes) -> tuple[int, int | None]:
        """Return the bytes that encoding and decoding worked in, beside page, base and patch, after
        both have been done; None where nobody tells.
        """


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
        each = _each(*zstd_encode_pieces(patches, made, 1))
        return _kept(next(each) if length else b"" for length in lengths)

    def decode(self, patches: bytes, lengths: array[int], bases: bytes) -> bytes:
        pieces, piece_lengths = zstd_decode_pieces(patches, lengths, PAGE_SIZE)
        return self._coder.decode(pieces, piece_lengths, bases)

    def memory(self, pages: bytes, _bases: bytes) -> tuple[int, int]:
        return _zstd_memory(pages)


class _CompressedXor:
    """The page's bits that differ from the base's, by zstd 1."""

    def encode(self, pages: bytes, bases: bytes) -> Patches:
        whole_pages = array("I", [PAGE_SIZE]) * (len(pages) // PAGE_SIZE)
        return _kept(_each(*zstd_encode_pieces(_xor(pages, bases), whole_pages, 1)))

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
        return b"".join(
            bsdiff4.patch(bases[number * PAGE_SIZE : (number + 1) * PAGE_SIZE], patch)
            for number, patch in enumerate(_each(patches, lengths))
        )

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


_TRACED_PAIRS = 10
"""On which the memory of bsdiff4 is looked at: it hardly depends on the pair."""


class Alone:
    """No patcher, but what patches are compared with: each page by zstd 1, whatever its base."""

    def __init__(self) -> None:
        self._coder = PageCoder(Codec.ZSTD, 1)

    def encode(self, pages: bytes, _bases: bytes) -> Patches:
        return self._coder.encode(pages)

    def decode(self, frames: bytes, lengths: array[int], _bases: bytes) -> bytes:
        return self._coder.decode(frames, lengths)

    def memory(self, _pages: bytes, _bases: bytes) -> tuple[int, int]:
        return self._coder.encoder_bytes, self._coder.decoder_bytes


def kept_bytes(lengths: Iterable[int]) -> list[int]:
    """Return the bytes to be kept for each page: without a patch, the page as it is."""
    return [length or PAGE_SIZE for length in lengths]


def _each(patches: bytes, lengths: array[int]) -> Iterator[bytes]:
    for end, length in zip(accumulate(lengths), lengths, strict=True):
        yield patches[end - length : end]


def _kept(patches: Iterable[bytes]) -> Patches:
    kept = [patch if len(patch) <= PAGE_SIZE else b"" for patch in patches]
    return b"".join(kept), array("I", map(len, kept))


def _xor(first: bytes, second: bytes) -> bytes:
    kind = numpy.dtype(numpy.uint64)
    return (numpy.frombuffer(first, kind) ^ numpy.frombuffer(second, kind)).tobytes()


def _zstd_memory(pages: bytes) -> tuple[int, int]:
    """Of zstd 1 without a base, and of the page that lies between the two steps."""
    alone = Alone()
    alone.encode(pages[:PAGE_SIZE], b"")
    encoder_bytes, decoder_bytes = alone.memory(b"", b"")
    return PAGE_SIZE + encoder_bytes, PAGE_SIZE + decoder_bytes


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
"""What makes each of them, by name, in the order of tables. zstd and lz4 have the base as their
prefix; XBZRLE comes alone, as QEMU sends it, and compressed once more."""
