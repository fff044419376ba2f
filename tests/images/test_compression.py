"""Compressed images: unpacked whole or with a complaint, and packed again to the same bytes."""

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import EnvironmentProblem, ImageDamaged, UsageError
from difffs.images.assembly import LIKE_BYTES
from difffs.images.compression import compression_of, unpacked
from difffs.images.repacking import repackings
from difffs.images.source import Source
from difffs.images.tool import ToolFailed, through
from tests.images.repacked import repacked

zstandard = pytest.importorskip("zstandard", reason="the Python package zstandard is missing")

LZOP = pytest.mark.skipif(shutil.which("lzop") is None, reason="lzop is not installed")
KINDS = ["gzip", "bzip2", "xz", "zstd", pytest.param("lzop", marks=LZOP)]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: bytes(zstandard.ZstdCompressor(write_checksum=True).compress(data)),
    "lzop": lambda data: by_tool(["lzop", "-c"], data),
}
CONTENT = b"".join(bytes([index % 256]) * (index % 700) for index in range(3000)) + os.urandom(9000)


def by_tool(command: list[str], data: bytes) -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def unpack(data: bytes, *, start: int = 0, step: int | None = None) -> bytes:
    """What the compressed data at `start` holds, given in pieces of `step` bytes."""
    step = step or max(len(data), 1)
    pieces = (data[index : index + step] for index in range(0, len(data), step))
    source = Source(pieces, name="packed")
    for _piece in source.pieces(start, "the head"):
        pass
    kind = compression_of(source.peek(64))
    assert kind is not None
    return b"".join(unpacked(kind, source.rest(), source))


def offset_of(error: pytest.ExceptionInfo[ImageDamaged]) -> int:
    """The offset that an error names."""
    text = str(error.value).split(" at ")[1].split(": ")[0]
    return int(text.replace(",", ""))


@pytest.mark.parametrize("kind", KINDS)
def test_compression_is_known_by_its_first_bytes(kind: str) -> None:
    packed = PACKERS[kind](CONTENT)
    assert compression_of(packed) == kind
    assert compression_of(memoryview(packed)) == kind
    assert compression_of(packed[:2]) is None
    assert compression_of(b"") is None
    assert compression_of(packed[1:]) is None


def test_what_only_begins_like_bzip2_is_none() -> None:
    assert compression_of(b"BZh9 is no block") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 7, 1000, None])
def test_members_one_after_the_other_are_unpacked_whole(kind: str, step: int | None) -> None:
    pack = PACKERS[kind]
    small = CONTENT[-9500:]
    packed = b"head" + pack(small) + pack(b"") + pack(b"more" * 100)
    assert unpack(packed, start=4, step=step) == small + b"more" * 100


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=3000), step=st.integers(1, 400))
def test_whatever_was_packed_comes_out(kind: str, content: bytes, step: int) -> None:
    assert unpack(PACKERS[kind](content), step=step) == content


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_is_told_with_the_offset(kind: str) -> None:
    packed = b"12345" + PACKERS[kind](CONTENT[-3000:])
    count = 12 if kind == "lzop" else 300  # each starts the tool
    for length in {len(packed) * index // count for index in range(1, count)} - set(range(25)):
        with pytest.raises(ImageDamaged) as error:
            unpack(packed[:length], start=5)
        assert offset_of(error) <= length
        if kind != "lzop":
            assert offset_of(error) == length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [b"\0", b"garbage behind the end", b"\x1f\x8b"])
def test_what_follows_the_end_is_told_with_the_offset(kind: str, garbage: bytes) -> None:
    packed = PACKERS[kind](CONTENT)
    with pytest.raises(ImageDamaged) as error:
        unpack(packed + garbage)
    assert offset_of(error) == len(packed)


def test_xz_may_be_padded() -> None:
    packed = lzma.compress(b"one") + bytes(8) + lzma.compress(b"two") + bytes(400_000)
    assert unpack(packed) == b"onetwo"
    assert unpack(packed, step=3) == b"onetwo"
    with pytest.raises(ImageDamaged):
        unpack(packed + b"\0")


def test_zstd_frames_that_hold_nothing_are_skipped() -> None:
    skipped = b"\x53\x2a\x4d\x18" + (100_000).to_bytes(4, "little") + bytes(100_000)
    packed = PACKERS["zstd"](b"one")
    assert unpack(packed + skipped + packed) == b"oneone"
    with pytest.raises(ImageDamaged):
        unpack(packed + skipped[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_told_or_without_effect(kind: str) -> None:
    content = CONTENT[:20_000] + CONTENT[-500:]
    packed = PACKERS[kind](content)
    count = 30 if kind == "lzop" else 400
    for index in range(count):
        flipped = bytearray(packed)
        at = len(packed) * index // count
        flipped[at] ^= 1 << index % 8
        if compression_of(flipped) != kind:
            continue
        try:
            found = unpack(bytes(flipped))
        except (ImageDamaged, UsageError):
            continue
        # What is not checksummed: the header's time and name, bits nobody reads.
        assert found == content


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_much_that_comes_of_little_takes_little_memory(kind: str) -> None:
    size = 200 << 20 if kind != "bzip2" else 60 << 20
    packed = b"".join(repacked_pieces(kind, size))
    source = Source(iter([packed]))
    tracemalloc.start()
    try:
        length = sum(map(len, unpacked(kind, source.rest(), source)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == size
    assert peak < 12 << 20


def repacked_pieces(kind: str, size: int) -> Iterator[bytes]:
    zeros = bytes(1 << 20)
    return repacked(kind, (zeros for _ in range(size >> 20)))


def test_a_window_that_takes_too_much_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="xz -dc"):
        unpack(lzma.compress(b"x", preset=9))
    assert unpack(lzma.compress(b"x", preset=8)) == b"x"
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    long = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(UsageError, match=r"134,217,728 bytes.*zstd -dc"):
        unpack(long.compress(b"x") + long.flush())


def test_a_dictionary_that_is_not_here_is_told() -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b0000_0001, 0x58, 77]) + bytes(20)
    with pytest.raises(UsageError, match="dictionary"):
        unpack(frame)


# ---- and on again -------------------------------------------------------------------------------

COMMANDS = [
    "gzip -c",
    "gzip -1 -c",
    "gzip -9 -c",
    "bzip2 -c",
    "bzip2 -4 -c",
    "xz -c -3",
    "xz -c -T1",
    "xz -c -T2 -1",
    "xz -c -2 --check=crc32",
    "zstd -c",
    "zstd -c -1",
    "zstd -c -9",
    "zstd -c --no-check",
    "lzop -c",
    "lzop -c -9",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_tools_bytes_are_made_again(command: str) -> None:
    words = command.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    packed = by_tool(words, CONTENT)
    pieces = [CONTENT[at : at + 50_000] for at in range(0, len(CONTENT), 50_000)]
    assert b"".join(repacked(words[0], pieces, packed[:LIKE_BYTES])) == packed


@pytest.mark.parametrize("kind", KINDS)
def test_name_and_time_of_a_packed_file_are_taken_over(kind: str, tmp_path: Path) -> None:
    if shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")
    path = tmp_path / "memory of a guest"
    path.write_bytes(CONTENT)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    packed = by_tool([kind, "-c", str(path)], b"")
    assert b"".join(repacked(kind, [CONTENT], packed[:LIKE_BYTES])) == packed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("like", [b"", b"no such data" * 20, bytes(LIKE_BYTES)])
def test_each_way_keeps_the_content(kind: str, like: bytes) -> None:
    ways = repackings(kind, like)
    assert ways
    assert [way.by for way in ways] == sorted({way.by for way in ways}, key=lambda by: "lib" in by)
    for way in ways:
        assert unpack(b"".join(way.pieces([CONTENT[:1], b"", CONTENT[1:]]))) == CONTENT
        assert unpack(b"".join(way.pieces([]))) == b""


@pytest.mark.parametrize("kind", ["bzip2", "xz", "zstd"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_whatever_level_the_first_bytes_say_the_content_is_kept_or_it_is_told(
    kind: str, data: st.DataObject
) -> None:
    like = bytearray(PACKERS[kind](CONTENT)[:LIKE_BYTES])
    for _ in range(data.draw(st.integers(1, 4))):
        like[data.draw(st.integers(0, 30))] = data.draw(st.integers(0, 255))
    for way in repackings(kind, bytes(like[: data.draw(st.integers(0, LIKE_BYTES))])):
        with contextlib.suppress(EnvironmentProblem, UsageError):
            assert unpack(b"".join(way.pieces([CONTENT]))) == CONTENT


def test_a_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    source = Source(iter([b"\x89LZO\0\r\n\x1a\n"]))
    with pytest.raises(EnvironmentProblem, match="install lzop"):
        unpacked("lzop", source.rest(), source)
    assert repackings("lzop") == []
    assert [way.by for way in repackings("bzip2")] == ["bzip2 (the library)"]


# ---- a tool that a stream goes through ----------------------------------------------------------


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_tool_that_answers_late_or_early_blocks_nothing() -> None:
    pieces = [os.urandom(300_000) for _ in range(20)]
    late = python("import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d)")
    assert b"".join(through(late, pieces)) == b"".join(pieces)
    early = python("import sys; sys.stdout.write('x' * 3_000_000)")
    assert b"".join(through(early, pieces)) == b"x" * 3_000_000
    talker = python("import sys; sys.stderr.write('y' * 3_000_000); print('z')")
    assert b"".join(through(talker, pieces)) == b"z\n"


def test_a_tools_complaint_is_passed_on() -> None:
    with pytest.raises(ToolFailed, match="it is late"):
        list(through(python("raise SystemExit('it is late')"), [b"data"]))
    with pytest.raises(ToolFailed, match="exit code 7"):
        list(through(python("raise SystemExit(7)"), []))


def _children() -> set[str]:
    """Processes that this one has started and that are there, be it as zombies."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {word for task in tasks for word in task.read_text().split()}


def test_a_tool_ends_with_who_uses_it() -> None:
    before = _children()
    endless = through(["yes"], [])
    next(endless)
    endless.close()

    def failing() -> Iterator[bytes]:
        yield b"data"
        raise ImageDamaged("cut off")

    with pytest.raises(ImageDamaged):
        list(through(["cat"], failing()))
    assert _children() == before


def test_the_environment_does_not_change_what_a_tool_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = b"".join(repacked("xz", [CONTENT]))
    monkeypatch.setenv("XZ_OPT", "-9")
    monkeypatch.setenv("XZ_DEFAULTS", "--check=sha256")
    assert b"".join(repacked("xz", [CONTENT])) == plain
