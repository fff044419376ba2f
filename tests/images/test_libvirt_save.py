"""Saves as libvirt writes them, in all their forms."""

import contextlib
import os
import random
import shutil

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import EnvironmentProblem, ImageDamaged, UsageError
from difffs.images import libvirt_save as reader
from difffs.images.assembly import LIKE_BYTES
from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from difffs.page import PAGE_SIZE
from tests.images.libvirt_save_builder import XML, libvirt_save
from tests.images.plain_assembly import PlainAssembly
from tests.images.repacked import repacked
from tests.images.small_stream import small_stream

PAGES = [os.urandom(PAGE_SIZE), bytes(PAGE_SIZE), b"text" * 1024, os.urandom(PAGE_SIZE)]
MEMORY = b"".join(PAGES * 5)
STREAM = small_stream({"pc.ram": MEMORY, "vga.vram": PAGES[2] * 2})

LZOP = pytest.mark.skipif(shutil.which("lzop") is None, reason="lzop is not installed")
PACKED = ["gzip", "bzip2", "xz", "zstd", pytest.param("lzop", marks=LZOP)]


@pytest.fixture(autouse=True)
def _zstandard() -> None:
    pytest.importorskip("zstandard", reason="the Python package zstandard is missing")


def read(save: bytes, step: int | None = None) -> tuple[PlainAssembly, Source]:
    """What a save is read as, given in pieces of `step` bytes."""
    step = step or max(len(save), 1)
    source = Source((save[at : at + step] for at in range(0, len(save), step)), name="save")
    assembly = PlainAssembly()
    reader.FORMAT.read(source, assembly)
    assert source.at_end
    assert source.digest == xxhash.xxh3_128_hexdigest(save)
    assert (source.unpacked or source).digest == xxhash.xxh3_128_hexdigest(assembly.file)
    return assembly, source


def test_it_is_known_by_its_magic() -> None:
    for finished in (True, False):
        assert reader.FORMAT.matches(memoryview(libvirt_save(STREAM, finished=finished)))
    assert not reader.FORMAT.matches(memoryview(b"LibvirtQemudSavf" + bytes(200)))
    assert not reader.FORMAT.matches(memoryview(b"LibvirtQemud"))


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("step", [1, 999, None])
def test_the_raw_form(byte_order: str, step: int | None) -> None:
    save = libvirt_save(STREAM, byte_order=byte_order, ran=True)
    assembly, source = read(save, step)
    assert assembly.file == save
    assert assembly.memory_bytes == MEMORY
    assert assembly.packed_as is None
    assert source.unpacked is None
    assert assembly.notes == []
    assert assembly.literal_bytes < 2000 + 2 * PAGE_SIZE  # a page that names its block is literal
    facts = {
        "format": "libvirt-save",
        "version": 2,
        "save_format": "raw",
        "was_running": True,
        "domain": "guest 7",
        "domain_uuid": "23482b7f-0b86-46c6-b8bd-6ba9a468fd22",
        "machine": "pc-q35-10.0",
    }
    assert assembly.facts.items() >= facts.items()


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("step", [1, None])
@pytest.mark.parametrize("form", PACKED)
def test_compressed_forms_are_read_as_the_raw_one(
    form: str, step: int | None, byte_order: str
) -> None:
    save = libvirt_save(STREAM, form, byte_order=byte_order)
    assembly, _source = read(save, step)
    raw = libvirt_save(STREAM, byte_order=byte_order)
    assert assembly.file == raw
    assert assembly.memory_bytes == MEMORY
    assert assembly.facts["save_format"] == form
    # What is told is enough to make the compressed form again.
    assert assembly.packed_as is not None
    kind, start, replaced, like = assembly.packed_as
    assert kind == form
    assert like == save[start : start + LIKE_BYTES]
    head = bytearray(assembly.file[:start])
    for offset, data in replaced:
        head[offset : offset + len(data)] = data
    assert head == save[:start]
    again = libvirt_save(b"", form, packed=b"".join(repacked(form, [assembly.file[start:]], like)))
    assert read(again)[0].file == libvirt_save(STREAM)


@settings(max_examples=20, deadline=None)
@given(
    padding=st.integers(0, 100_000),
    cookie=st.none() | st.text("c<>/", max_size=3000),
    xml=st.text("x<>/é", max_size=3000),
    step=st.integers(1000, 100_000),
    packed=st.booleans(),
)
def test_the_stream_begins_where_the_header_says(
    padding: int, cookie: str | None, xml: str, step: int, packed: bool
) -> None:
    def save(form: str) -> bytes:
        return libvirt_save(STREAM, form, xml=xml, cookie=cookie, padding=padding)

    assembly, _source = read(save("gzip" if packed else "raw"), step)
    assert assembly.file == save("raw")
    assert assembly.memory_bytes == MEMORY


def test_a_domain_that_hides_its_name_is_read_without() -> None:
    for xml in ("", "<name>" + "n" * 300, "<name><b/></name>", XML.replace("<", "&lt;")):
        facts = read(libvirt_save(STREAM, xml=xml))[0].facts
        assert "domain" not in facts
        assert "domain_uuid" not in facts


def test_version_1_knew_no_compression() -> None:
    save = libvirt_save(STREAM, 1, version=1)
    assert read(save)[0].file == save


def test_a_save_that_goes_on_is_told() -> None:
    save = libvirt_save(STREAM, finished=False)
    assembly, _source = read(save)
    assert assembly.file == save
    assert assembly.notes == ["libvirt has not finished this save, and would not restore it"]


def test_what_is_none_is_told_before_anything_is_taken() -> None:
    for save in (libvirt_save(STREAM, version=3), libvirt_save(STREAM, version=0)):
        with pytest.raises(NotThisFormat, match="version"):
            read(save)
    source = Source(iter([libvirt_save(STREAM, 7)]))
    with pytest.raises(NotThisFormat, match="7"):
        reader.FORMAT.read(source, PlainAssembly())
    assert source.position == 0


def test_headers_that_lie_are_told() -> None:
    for length in (0, 17 << 20, 0xFFFF_FFFF):
        with pytest.raises(ImageDamaged, match="at 20: "):
            read(libvirt_save(STREAM, length=length))
    with pytest.raises(ImageDamaged, match="no migration stream"):
        read(libvirt_save(STREAM, length=1000))
    with pytest.raises(ImageDamaged, match="says gzip"):
        read(libvirt_save(STREAM, 1))
    with pytest.raises(ImageDamaged, match="says zstd"):
        read(libvirt_save(STREAM, "zstd", packed=libvirt_save(STREAM, "gzip")))
    with pytest.raises(ImageDamaged, match="no migration stream"):
        read(libvirt_save(b"no stream", "gzip"))


@pytest.mark.parametrize("form", ["raw", "gzip", "bzip2", "xz", "zstd"])
def test_truncation_is_told(form: str) -> None:
    save = libvirt_save(STREAM, form, padding=100)
    # The stream's own end, behind its memory, is what a reader takes for bytes.
    end = len(save) - 1 if form != "raw" else len(save) - 100
    for length in {16, 91, 92, 93, *range(17, end, 401), end}:
        with pytest.raises(ImageDamaged):
            read(save[:length])


@pytest.mark.parametrize("form", ["raw", "gzip", "bzip2", "xz", "zstd"])
def test_flipped_bytes_are_told_or_kept(form: str) -> None:
    save = libvirt_save(STREAM, form, padding=100)
    chance = random.Random(5)
    for _ in range(400):
        flipped = bytearray(save)
        near = chance.random() < 0.3
        flipped[16 + chance.randrange(200 if near else len(save) - 16)] = chance.randrange(256)
        known = (ImageDamaged, NotThisFormat, UsageError)
        with contextlib.suppress(*known):
            assembly, source = read(bytes(flipped))
            if source.unpacked is None:
                assert assembly.file == flipped


def test_a_missing_tool_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    save = libvirt_save(b"", "lzop", packed=b"\x89LZO\0\r\n\x1a\n" + bytes(100))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentProblem, match="apt install lzop"):
        read(save)
