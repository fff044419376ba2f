"""Which format an image is of."""

import pytest

from difffs.images import compression
from difffs.images.formats import FORMAT_NAMES, compression_of, format_named, format_of
from tests.images.elf_builder import elf_core
from tests.images.lime_builder import lime_dump

BEGINNINGS = {
    "migration": b"QEVM\0\0\0\3",
    "libvirt-save": b"LibvirtQemudSave" + bytes(80),
    "qcow2": b"QFI\xfb\0\0\0\3" + bytes(100),
    "elf": elf_core([(0, b"memory"), (1 << 20, b"more")]),
    "kdump": b"KDUMP   " + bytes(100),
    "flattened": b"makedumpfile\0\0\0\0" + bytes(100),
    "lime": lime_dump([(0, b"memory")]),
    "avml": b"AVML\2\0\0\0" + bytes(32),
}


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_each_format_is_found_by_its_name(name: str) -> None:
    assert format_named(name).name == name


@pytest.mark.parametrize("name", BEGINNINGS)
def test_each_format_is_known_by_its_first_bytes(name: str) -> None:
    form = format_of(memoryview(BEGINNINGS[name]))
    assert form is not None
    assert form.name == name
    assert form.matches(memoryview(BEGINNINGS[name]))


@pytest.mark.parametrize("beginning", [b"", b"\x7fELF", bytes(100), b"any text", b"EMi"])
def test_other_images_are_of_none(beginning: bytes) -> None:
    assert format_of(memoryview(beginning)) is None


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"\x1f\x8b\x08" + bytes(9), "gzip"),
        (b"BZh91AY&SY" + bytes(9), "bzip2"),
        (b"\xfd7zXZ\0" + bytes(9), "xz"),
        (b"\x89LZO\0\r\n\x1a\n" + bytes(9), "lzop"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd"),
        (b"BZhere is text", None),
        (b"", None),
    ],
)
def test_compressions_are_known_as_their_module_knows_them(
    beginning: bytes, kind: str | None
) -> None:
    assert compression_of(memoryview(beginning)) == kind
    assert compression.compression_of(beginning) == kind
