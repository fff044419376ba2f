"""Compression of an image as a whole, or of all that follows a header, put on again.

The bytes are those of the original where the same program in the same version is at hand, so there
may be several ways to try, and who wants the original compares what comes out with its digest.
"""

import bz2
import lzma
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from difffs.errors import EnvironmentProblem
from difffs.images.assembly import LIKE_BYTES
from difffs.images.compression import (
    BZIP2_HEAD,
    ZSTD_MAGIC,
    ZstdFrame,
    compression_of,
    lzop_header_length,
    zstandard_module,
)
from difffs.images.tool import ToolFailed, environment, through


@dataclass(frozen=True, slots=True)
class Repacking:
    """A way to compress again."""

    by: str
    """What compresses: "gzip 1.12", or "zlib 1.2.13 (the library)"."""
    pieces: Callable[[Iterable[memoryview | bytes]], Iterator[bytes]]
    """The compressed form of a stream. ``EnvironmentProblem`` when it cannot be made like that: the
    tool fails, or the original was put together of several."""


def repackings(kind: str, like: bytes = b"") -> list[Repacking]:
    """The ways to compress as an image was, most likely the same bytes first.

    `like` are the first LIKE_BYTES of the compressed data as it was, which unpacked: they give the
    level, and what has to be taken over as it is (name and time). Without them it is what libvirt
    makes (``gzip -c``, ``bzip2 -c``, ``xz -c -3``, ``lzop -c``, ``zstd -c``). The content is the
    same by each way; which of them gives the same bytes depends on the programs' versions. No way
    at all for lzop where that is not installed.
    """
    arguments = _arguments(kind, like)
    header = like[: _header_length(kind, like) or 0]
    ways = []
    if shutil.which(kind) is not None:
        command = [kind, "-c", *arguments]
        ways.append(Repacking(_tool_version(kind), partial(_packed_by_tool, command, header)))
    if kind != "lzop" and not (kind == "zstd" and not _has_zstandard()):
        by, new_encoder = _ENCODERS[kind](like)
        ways.append(Repacking(f"{by} (the library)", partial(_packed_by, new_encoder, header)))
    return ways


def _packed_by_tool(
    command: list[str], header: bytes, pieces: Iterable[memoryview | bytes]
) -> Iterator[bytes]:
    try:
        yield from _with_header(command[0], header, through(command, pieces))
    except ToolFailed as error:
        raise EnvironmentProblem(f"{' '.join(command)} failed: {error}") from None


class _Encoder(Protocol):
    def compress(self, data: memoryview | bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _packed_by(
    new_encoder: Callable[[], _Encoder], header: bytes, pieces: Iterable[memoryview | bytes]
) -> Iterator[bytes]:
    def packed() -> Iterator[bytes]:
        encoder = new_encoder()
        for piece in pieces:
            if data := encoder.compress(piece):
                yield data
        yield encoder.flush()

    return _with_header("gzip" if header else "", header, packed())


def _with_header(kind: str, header: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Compressed data with the header replaced, where that leaves it valid."""
    if not header:
        yield from pieces
        return
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= LIKE_BYTES:
            break
    length = _header_length(kind, start)
    fits = kind == "gzip" or _lzop_kind(start) == _lzop_kind(header)
    yield header + start[length:] if length is not None and fits else start
    yield from pieces


def _lzop_kind(header: bytes) -> bytes:
    """What lzop's header says of the data: versions, method, level, and the flags, which tell the
    checksums that blocks have; without those that tell where the data came from and went to."""
    return header[:20] + bytes([header[20] & ~0x3C])


def _header_length(kind: str, start: bytes) -> int | None:
    """Bytes of the header that has name and time in it; None where there is none, or it is cut
    off."""
    if kind == "lzop":
        length = lzop_header_length(start)
    elif kind == "gzip":
        length = _gzip_header_length(start)
    else:
        length = None
    return length if length is not None and length <= len(start) else None


def _gzip_header_length(start: bytes) -> int | None:
    """Bytes of gzip's header (RFC 1952, 2.3)."""
    if len(start) < 12 or compression_of(start) != "gzip":
        return None
    flags = start[3]
    length = 10
    if flags & 4:
        length += 2 + int.from_bytes(start[10:12], "little")
    for flag in (8, 16):  # name, comment
        if flags & flag:
            end = start.find(b"\0", length)
            if end < 0:
                return None
            length = end + 1
    return length + (2 if flags & 2 else 0)


def _tool_version(tool: str) -> str:
    try:
        told = subprocess.run(
            [tool, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=10,
            env=environment(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return tool
    version = re.search(rb"\d+\.\d+(?:\.\d+)*", told.stdout + told.stderr)
    return f"{tool} {version.group().decode()}" if version else tool


# ---- what the first bytes tell of how data was compressed ---------------------------------------


def _arguments(kind: str, like: bytes) -> list[str]:
    """The tool's arguments beside -c."""
    if kind == "gzip":
        return [f"-{_gzip_level(like)}"]
    if kind == "bzip2":
        return [f"-{_bzip2_level(like)}"]
    if kind == "xz":
        preset, several_threads = _xz_preset(like)
        # Several threads tell each block's size in its header, and one does not.
        return [f"-{preset}", "-T2" if several_threads else "-T1", f"--check={_xz_check(like)}"]
    if kind == "lzop":
        return [f"-{like[16]}"] if lzop_header_length(like) and 1 <= like[16] <= 9 else []
    frame = ZstdFrame.of(like) if like.startswith(ZSTD_MAGIC) else None
    arguments = ["--ultra", f"-{_zstd_level(frame)}"]
    if frame is not None:
        arguments += [] if frame.has_checksum else ["--no-check"]
        arguments += [] if frame.content is None else [f"--stream-size={frame.content}"]
    return arguments


def _gzip_level(like: bytes) -> int:
    return {2: 9, 4: 1}.get(like[8], 6) if len(like) > 8 else 6


def _bzip2_level(like: bytes) -> int:
    return int(like[3:4]) if BZIP2_HEAD.match(like) else 9


def _xz_check(like: bytes) -> str:
    return {0: "none", 1: "crc32", 10: "sha256"}.get(like[7], "crc64") if len(like) > 7 else "crc64"


_XZ_PRESETS = {18: 0, 20: 1, 21: 2, 22: 3, 23: 6, 24: 7, 25: 8, 26: 9}
"""Presets by the logarithm of their dictionary. Where two have the same (3 and 4, 5 and 6), the one
that libvirt uses, and the default."""


def _xz_preset(like: bytes) -> tuple[int, bool]:
    """Preset, and whether several threads made it (the xz file format, 3.1)."""
    if len(like) < 40 or compression_of(like) != "xz":
        return 3, False
    flags = like[13]
    position = 14
    for flag in (0x40, 0x80):  # the block's sizes, packed and plain
        if flags & flag:
            while like[position] & 0x80 and position < 30:
                position += 1
            position += 1
    lzma2, length, bits = like[position : position + 3]
    preset = 3
    if (lzma2, length) == (0x21, 1) and not bits & 1:
        preset = _XZ_PRESETS.get(bits // 2 + 12, 3)
    return preset, bool(flags & 0xC0)


_ZSTD_LEVELS = {19: 1, 20: 2, 21: 3, 22: 9, 23: 19, 25: 20}
"""Levels by the logarithm of their window, the most used one where several have the same."""


def _zstd_level(frame: ZstdFrame | None) -> int:
    # A window that is as long as the content tells nothing.
    if frame is None or (frame.content is not None and frame.content <= frame.window):
        return 3
    return _ZSTD_LEVELS.get(frame.window.bit_length() - 1, 3)


def _has_zstandard() -> bool:
    try:
        zstandard_module()
    except EnvironmentProblem:
        return False
    return True


def _gzip_encoder(like: bytes) -> tuple[str, Callable[[], _Encoder]]:
    new = partial(zlib.compressobj, _gzip_level(like), zlib.DEFLATED, 31)
    return f"zlib {zlib.ZLIB_RUNTIME_VERSION}", new


def _bzip2_encoder(like: bytes) -> tuple[str, Callable[[], _Encoder]]:
    return "bzip2", partial(bz2.BZ2Compressor, _bzip2_level(like))


def _xz_encoder(like: bytes) -> tuple[str, Callable[[], _Encoder]]:
    checks = {
        "none": lzma.CHECK_NONE,
        "crc32": lzma.CHECK_CRC32,
        "crc64": lzma.CHECK_CRC64,
        "sha256": lzma.CHECK_SHA256,
    }
    preset, _several_threads = _xz_preset(like)
    new = partial(lzma.LZMACompressor, lzma.FORMAT_XZ, checks[_xz_check(like)], preset)
    return "liblzma", new


def _zstd_encoder(like: bytes) -> tuple[str, Callable[[], _Encoder]]:
    zstandard = zstandard_module()
    frame = ZstdFrame.of(like) if like.startswith(ZSTD_MAGIC) else None
    content = -1 if frame is None or frame.content is None else frame.content
    # The tool compresses in a thread of its own, which gives other bytes than none.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _zstd_level(frame),
        source_size=max(content, 0),
        write_checksum=frame is None or frame.has_checksum,
        write_content_size=content >= 0,
        threads=1,
    )

    class Encoder:
        def __init__(self) -> None:
            compressor = zstandard.ZstdCompressor(compression_params=parameters)
            self._encoder = compressor.compressobj(size=content)

        def compress(self, data: memoryview | bytes, /) -> bytes:
            return self._made(self._encoder.compress, data)

        def flush(self) -> bytes:
            return self._made(self._encoder.flush)

        def _made(self, call: Callable[..., bytes], *data: memoryview | bytes) -> bytes:
            try:
                return call(*data)
            except zstandard.ZstdError as error:  # several frames, the first of a length it told
                raise EnvironmentProblem(f"zstd does not pack it as it was: {error}") from None

    return f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}", Encoder


_ENCODERS: Mapping[str, Callable[[bytes], tuple[str, Callable[[], _Encoder]]]] = {
    "gzip": _gzip_encoder,
    "bzip2": _bzip2_encoder,
    "xz": _xz_encoder,
    "zstd": _zstd_encoder,
}
