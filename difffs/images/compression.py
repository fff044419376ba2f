"""Compression of an image as a whole, or of all that follows a header, taken off.

Unpacking is streamed, in bounded memory, and complains of whatever does not belong to the
compressed data: an image is never taken for shorter than it is. The way back is
:mod:`difffs.images.repacking`.
"""

import bz2
import lzma
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Protocol

from difffs.errors import EnvironmentProblem, UsageError
from difffs.images.source import Source
from difffs.images.tool import ToolFailed, through

MAXIMUM_WINDOW = 32 << 20
"""Bytes of unpacked data that compressed data may refer back to: what ``xz -8`` and
``zstd --ultra -20`` make, and all that is less."""

_INPUT = 32 << 10
_OUTPUT = 256 << 10
_ZSTD_BLOCK = 128 << 10
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LZOP_MAGIC = b"\x89LZO\0\r\n\x1a\n"
BZIP2_HEAD = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")


def compression_of(prefix: memoryview | bytes | bytearray) -> str | None:
    """What data that begins like this is compressed by: gzip, bzip2, xz, lzop, zstd, or None."""
    start = bytes(prefix[:10])
    if start.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if start.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if start.startswith(_LZOP_MAGIC):
        return "lzop"
    if start.startswith(ZSTD_MAGIC):
        return "zstd"
    return "bzip2" if BZIP2_HEAD.match(start) else None


def unpacked(
    kind: str, pieces: Iterator[memoryview] | Iterator[bytes], source: Source
) -> Iterator[bytes]:
    """What compressed data holds, in pieces of 256 KiB at most.

    `pieces` are the compressed bytes up to the image's end (``source.rest()``), from the source's
    position on. ``ImageDamaged`` with the offset in the source when they do not hold together or
    end early, or when something else follows them; ``UsageError`` when unpacking would take more
    memory than MAXIMUM_WINDOW; ``EnvironmentProblem`` when what unpacks them is not installed.
    """
    packed = _Packed(pieces, source)
    if kind == "zstd":
        return _unpacked_zstd(packed, zstandard_module())
    if kind == "lzop":
        if shutil.which("lzop") is None:
            raise EnvironmentProblem(
                f"image {source.name} is compressed by lzop, which is not installed:"
                " install lzop (apt install lzop)"
            )
        return _unpacked_lzop(packed)
    return _unpacked_by_decoders(kind, _DECODERS[kind], packed)


class _Packed:
    """Compressed bytes, taken in order, with their offset in the image."""

    def __init__(self, pieces: Iterator[memoryview] | Iterator[bytes], source: Source) -> None:
        self.offset = source.position
        self._source = source
        self._pieces = pieces
        self._piece: memoryview | bytes = b""
        self._at = 0

    def take(self, most: int = _INPUT) -> bytes:
        """The next bytes, `most` at most; none at the end only."""
        while self._at == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece, self._at = piece, 0
        data = bytes(self._piece[self._at : self._at + most])
        self._at += len(data)
        self.offset += len(data)
        return data

    def give_back(self, count: int) -> None:
        """The last `count` bytes of what take() gave last are to be taken again."""
        self._at -= count
        self.offset -= count

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without taking them, fewer at the end."""
        if len(self._piece) - self._at < count:
            parts = [bytes(self._piece[self._at :])]
            length = len(parts[0])
            while length < count and (piece := next(self._pieces, None)) is not None:
                parts.append(bytes(piece))
                length += len(piece)
            self._piece, self._at = b"".join(parts), 0
        return bytes(self._piece[self._at : self._at + count])

    def exactly(self, count: int, what: str) -> bytes:
        """The next `count` bytes (few); ImageDamaged where there are fewer."""
        data = self.peek(count)
        if len(data) < count:
            raise self.damaged(f"the compressed data ends within {what}", self.offset + len(data))
        self._at += count
        self.offset += count
        return data

    def begins(self, kind: str) -> bool:
        """Whether compressed data of that kind begins here; False at the end. ImageDamaged where
        there is something else."""
        start = self.peek(10)
        if start and compression_of(start) != kind:
            raise self.damaged(f"what follows the compressed data is not {kind}")
        return bool(start)

    def damaged(self, text: str, position: int | None = None) -> Exception:
        return self._source.damaged(text, self.offset if position is None else position)

    def window_too_large(self, kind: str, window: str) -> UsageError:
        return UsageError(
            f"image {self._source.name} is compressed by {kind} with a window of {window}, and"
            f" {MAXIMUM_WINDOW >> 20} MiB is what is unpacked here: unpack it by"
            f" {kind} -dc and give what comes out, or store it --as-is"
        )


# ---- gzip, bzip2, xz: decoders of the standard library ------------------------------------------


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _GzipDecoder:
    """zlib's decoder of one gzip member, in the shape that bz2's and lzma's have."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        unpacked = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        # With all input taken and the room filled up, more may lie inside.
        self.needs_input = len(unpacked) < max_length and not self._decoder.unconsumed_tail
        return unpacked


_DECODERS: Mapping[str, Callable[[], _Decoder]] = {
    "gzip": _GzipDecoder,
    "bzip2": bz2.BZ2Decompressor,
    "xz": partial(
        lzma.LZMADecompressor, format=lzma.FORMAT_XZ, memlimit=MAXIMUM_WINDOW + (2 << 20)
    ),
}


def _unpacked_by_decoders(
    kind: str, new_decoder: Callable[[], _Decoder], packed: _Packed
) -> Iterator[bytes]:
    while packed.begins(kind):
        decoder = new_decoder()
        while not decoder.eof:
            start = packed.offset
            data = packed.take() if decoder.needs_input else b""
            if not data and decoder.needs_input:
                raise packed.damaged("the compressed data ends before its end mark")
            try:
                piece = decoder.decompress(data, _OUTPUT)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                if "Memory usage limit" in str(error):
                    raise packed.window_too_large(
                        kind, f"more than {MAXIMUM_WINDOW >> 20} MiB"
                    ) from None
                raise packed.damaged(f"{kind} does not unpack: {error}", start) from error
            if piece:
                yield piece
        packed.give_back(len(decoder.unused_data))
        if kind == "xz":
            _skip_xz_padding(packed)


def _skip_xz_padding(packed: _Packed) -> None:
    """Streams of xz may be followed by zero bytes, a multiple of four."""
    start = packed.offset
    while data := packed.take():
        padding = len(data) - len(data.lstrip(b"\0"))
        packed.give_back(len(data) - padding)
        if padding < len(data):
            break
    if (packed.offset - start) % 4:
        raise packed.damaged("what follows the compressed data is not xz", start)


# ---- zstd: frames and blocks are found here, so that one block at a time is unpacked -------------


def zstandard_module() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise EnvironmentProblem(
            "zstd images need the Python package zstandard: pip install zstandard"
        ) from None
    return zstandard


@dataclass(frozen=True, slots=True)
class ZstdFrame:
    """What the header of a frame says (RFC 8878, 3.1.1.1)."""

    length: int
    """Bytes of the header, the magic number included."""
    window: int
    content: int | None
    """Bytes of the frame's content, where that is said."""
    has_checksum: bool
    has_dictionary: bool

    @classmethod
    def of(cls, start: bytes) -> "ZstdFrame | None":
        """The header that these bytes (18, or fewer at the end) begin with; None when it is cut
        off."""
        if len(start) < 5:
            return None
        flags = start[4]
        single = flags >> 5 & 1
        dictionary = (0, 1, 2, 4)[flags & 3]
        content = (single, 2, 4, 8)[flags >> 6]
        length = 5 + (not single) + dictionary + content
        if len(start) < length:
            return None
        size = None
        if content:
            size = int.from_bytes(start[length - content : length], "little")
            size += 256 if content == 2 else 0
        if single:
            window = size or 0
        else:
            base = 1 << 10 + (start[5] >> 3)
            window = base + (base >> 3) * (start[5] & 7)
        return cls(length, window, size, bool(flags & 4), dictionary > 0)


def _unpacked_zstd(packed: _Packed, zstandard: ModuleType) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=MAXIMUM_WINDOW)
    while start := packed.peek(18):
        if start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 5:
            _skip_zstd_frame(packed)
            continue
        packed.begins("zstd")
        frame = ZstdFrame.of(start)
        if frame is None:
            raise packed.damaged(
                "the compressed data ends within a frame's header", packed.offset + len(start)
            )
        if frame.window > MAXIMUM_WINDOW:
            raise packed.window_too_large("zstd", f"{frame.window:,} bytes")
        if frame.has_dictionary:
            raise UsageError(
                "zstd data that was made with a dictionary cannot be unpacked here: unpack it by"
                " zstd -dc -D DICTIONARY and give what comes out"
            )
        decoder = context.decompressobj()
        yield from _unpacked_zstd_frame(packed, frame, decoder, zstandard.ZstdError)


def _unpacked_zstd_frame(
    packed: _Packed, frame: ZstdFrame, decoder: Any, error_class: type[Exception]
) -> Iterator[bytes]:
    begin = packed.offset
    data = packed.exactly(frame.length, "a frame's header")
    last = False
    while not last:
        start = packed.offset
        head = packed.exactly(3, "a block's header")
        word = int.from_bytes(head, "little")
        last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
        if kind == 3 or size > _ZSTD_BLOCK:
            raise packed.damaged("a block's header makes no sense", start)
        # A block of one repeated byte is 1 byte long, whatever it gives.
        data += head + packed.exactly(1 if kind == 1 else size, "a block")
        if last and frame.has_checksum:
            data += packed.exactly(4, "a frame's checksum")
        try:
            piece = decoder.decompress(data)
        except error_class as error:
            raise packed.damaged(f"zstd does not unpack: {error}", start) from error
        data = b""
        if piece:
            yield piece
    if not decoder.eof:
        raise packed.damaged("a frame does not end where its blocks do", begin)


def _skip_zstd_frame(packed: _Packed) -> None:
    """Skips a frame that holds no content."""
    left = int.from_bytes(packed.exactly(8, "a frame's header")[4:], "little")
    while left:
        data = packed.take(min(left, _INPUT))
        if not data:
            raise packed.damaged("the compressed data ends within a frame that is to be skipped")
        left -= len(data)


# ---- lzop: the tool unpacks; where its data ends is found here ----------------------------------

_LZOP_MAXIMUM_BLOCK = 64 << 20
_LZOP_ADLER32_PLAIN, _LZOP_ADLER32_PACKED = 0x1, 0x2
_LZOP_CRC32_PLAIN, _LZOP_CRC32_PACKED = 0x100, 0x200
_LZOP_EXTRA_FIELD, _LZOP_FILTER = 0x40, 0x800


def _unpacked_lzop(packed: _Packed) -> Iterator[bytes]:
    while packed.begins("lzop"):
        start = packed.offset
        try:
            yield from through(["lzop", "-dc"], _lzop_member(packed))
        except ToolFailed as error:
            raise packed.damaged(f"lzop does not unpack what begins here: {error}", start) from None


def lzop_header_length(start: bytes) -> int | None:
    """Bytes of lzop's header, up to its checksum; None when it is cut off or none of lzop's."""
    if len(start) < 20 or not start.startswith(_LZOP_MAGIC):
        return None
    version = int.from_bytes(start[9:11], "big")
    if version < 0x0940:
        return None
    flags = int.from_bytes(start[17:21], "big")
    name = 21 + (4 if flags & _LZOP_FILTER else 0) + 12
    return name + 1 + start[name] + 4 if len(start) > name else None


def _lzop_member(packed: _Packed) -> Iterator[bytes]:
    """The bytes of one member, up to its end mark."""
    length = lzop_header_length(packed.peek(64))
    if length is None:
        raise packed.damaged("lzop's header is cut off, or of a version before 1.0")
    header = packed.exactly(length, "lzop's header")
    yield header
    flags = int.from_bytes(header[17:21], "big")
    if flags & _LZOP_EXTRA_FIELD:
        raise packed.damaged("lzop's header has an extra field, which lzop does not make")
    plain_sums = 4 * (bool(flags & _LZOP_ADLER32_PLAIN) + bool(flags & _LZOP_CRC32_PLAIN))
    packed_sums = 4 * (bool(flags & _LZOP_ADLER32_PACKED) + bool(flags & _LZOP_CRC32_PACKED))
    while True:
        start = packed.offset
        word = packed.exactly(4, "a block's header")
        yield word
        plain = int.from_bytes(word, "big")
        if not plain:
            return
        word = packed.exactly(4, "a block's header")
        yield word
        size = int.from_bytes(word, "big")
        if plain > _LZOP_MAXIMUM_BLOCK or not 0 < size <= plain:
            raise packed.damaged("a block's header makes no sense", start)
        left = size + plain_sums + (packed_sums if size < plain else 0)
        while left:
            data = packed.take(min(left, _INPUT))
            if not data:
                raise packed.damaged(
                    f"the compressed data ends within a block, {left:,} bytes early"
                )
            yield data
            left -= len(data)
