"""The patchers that the study compares: what makes a patch of a page and a base, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bsdiff4

from difffs._kernels import Context
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study._kernels import FrameCoder


@dataclass(frozen=True, slots=True)
class Patcher:
    """One way of patching, for use by one thread."""

    name: str
    encode: Callable[[bytes, bytes], bytes | None]
    """(page, base) -> patch without the base's number; None when it is longer than the page."""
    decode: Callable[[bytes, bytes], bytes]
    """(patch, base) -> page."""

    def length(self, patch: bytes | None) -> int:
        """Bytes to be kept for a page: without a patch, the page as it is."""
        return PAGE_SIZE if patch is None else len(patch)


_NATIVE = {
    "zstd -1": (Codec.ZSTD_PREFIX, -1),
    "zstd 1": (Codec.ZSTD_PREFIX, 1),
    "zstd 3": (Codec.ZSTD_PREFIX, 3),
    "zstd 19": (Codec.ZSTD_PREFIX, 19),
    "lz4": (Codec.LZ4_PREFIX, 1),
    "VCDIFF": (Codec.VCDIFF, 1),
    "page bsdiff": (Codec.PAGE_BSDIFF, 1),
    "XBZRLE": (Codec.XBZRLE, 1),
}

PATCHERS = (*_NATIVE, "XBZRLE + zstd 1", "bsdiff4")
"""Their names, in the order of tables."""


def make_patchers() -> list[Patcher]:
    """Return all of PATCHERS, sharing one codec context, as an engine's worker does.

    zstd and lz4 have the base as prefix. bsdiff4 is the Python package, with its own header and
    bzip2 as for files. XBZRLE comes alone, as QEMU sends it, and compressed once more.
    """
    context = Context()
    made = [_native(context, name, codec, level) for name, (codec, level) in _NATIVE.items()]
    by_name = {patcher.name: patcher for patcher in made}
    made.append(_compressed("XBZRLE + zstd 1", by_name["XBZRLE"]))
    made.append(Patcher("bsdiff4", _bsdiff4_encode, _bsdiff4_decode))
    return made


def _native(context: Context, name: str, codec: Codec, level: int) -> Patcher:
    return Patcher(
        name,
        lambda page, base: context.encode(codec, page, base, level),
        lambda patch, base: context.decode(codec, patch, base),
    )


_LENGTH_BYTES = 2


def _compressed(name: str, inner: Patcher) -> Patcher:
    """The patcher's patches by zstd 1, behind their length, which a decoder has to know."""
    frames = FrameCoder(1)

    def encode(page: bytes, base: bytes) -> bytes | None:
        patch = inner.encode(page, base)
        if patch is None:
            return None
        compressed = len(patch).to_bytes(_LENGTH_BYTES, "little") + frames.encode(patch)
        return compressed if len(compressed) <= PAGE_SIZE else None

    def decode(patch: bytes, base: bytes) -> bytes:
        length = int.from_bytes(patch[:_LENGTH_BYTES], "little")
        return inner.decode(frames.decode(patch[_LENGTH_BYTES:], length), base)

    return Patcher(name, encode, decode)


def _bsdiff4_encode(page: bytes, base: bytes) -> bytes | None:
    patch: bytes = bsdiff4.diff(base, page)
    return patch if len(patch) <= PAGE_SIZE else None


def _bsdiff4_decode(patch: bytes, base: bytes) -> bytes:
    page: bytes = bsdiff4.patch(base, patch)
    return page
