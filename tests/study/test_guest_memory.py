"""The guest's memory out of images of known formats."""

import hashlib
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from difffs.errors import ImageDamaged, UsageError
from difffs.image import ImageReader
from difffs.images import elf, lime
from difffs.images.format import Format, NotThisFormat
from difffs.page import PAGE_SIZE
from difffs.progress import Progress
from difffs.study.cache import Cache
from difffs.study.corpus import Image, Origin
from difffs.study.guest_memory import take_memory
from tests.images.elf_builder import elf_core
from tests.images.lime_builder import lime_dump
from tests.pages import guest_pages

PAGES = guest_pages(Random(5), 300)
MEMORY = b"".join(PAGES)


def taken(path: Path, form: Format, into: Path) -> Origin:
    with closing(ImageReader.open(str(path))) as image, Progress("memory", 0) as progress:
        origin = take_memory(image, form, into, progress)
        assert progress.done == path.stat().st_size
    return origin


def test_dumps_of_the_same_memory_are_the_same_image(tmp_path: Path) -> None:
    files = {
        "vm.mem": MEMORY,
        "vm.elf": elf_core([(0, MEMORY)]),
        "vm.lime": lime_dump([(0, MEMORY[:5000]), (5000, MEMORY[5000:])]),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    origins = {
        "vm.elf": taken(tmp_path / "vm.elf", elf.FORMAT, tmp_path / "1.mem"),
        "vm.lime": taken(tmp_path / "vm.lime", lime.FORMAT, tmp_path / "2.mem"),
    }
    images = [
        Image.of(tmp_path / "vm.mem"),
        Image.of(tmp_path / "1.mem", origins["vm.elf"]),
        Image.of(tmp_path / "2.mem", origins["vm.lime"]),
    ]
    assert [image.name for image in images] == ["vm"] * 3
    assert [image.pages for image in images] == [300] * 3
    assert {image.sha256 for image in images} == {hashlib.sha256(MEMORY).hexdigest()}
    assert [image.origin for image in images] == [
        Origin(tmp_path / "vm.mem"),
        Origin(tmp_path / "vm.elf", "elf"),
        Origin(tmp_path / "vm.lime", "lime"),
    ]
    for image in images:
        with image.mapped() as pages:
            assert pages == MEMORY
    keys = {Cache.key("import", 1, [image], {}) for image in images}
    assert len(keys) == 1, "what was found of one holds for all"


def test_what_a_dump_lacks_is_noted(tmp_path: Path) -> None:
    (tmp_path / "cut.lime").write_bytes(lime_dump([(0, MEMORY)])[:-PAGE_SIZE])
    origin = taken(tmp_path / "cut.lime", lime.FORMAT, tmp_path / "1.mem")
    (note,) = origin.notes
    assert "the dump was cut off" in note
    assert Image.of(tmp_path / "1.mem", origin).pages == 299


def test_less_than_a_page_of_memory(tmp_path: Path) -> None:
    (tmp_path / "small.lime").write_bytes(lime_dump([(0, MEMORY[:100])]))
    with pytest.raises(
        UsageError, match=r"small\.lime \(LiME or AVML dump\) has 100 bytes of memory"
    ):
        taken(tmp_path / "small.lime", lime.FORMAT, tmp_path / "1.mem")


def test_damage_and_other_formats_are_told(tmp_path: Path) -> None:
    path = tmp_path / "vm.lime"
    dump = bytearray(lime_dump([(0, MEMORY), (len(MEMORY), MEMORY)]))
    dump[32 + len(MEMORY) : 36 + len(MEMORY)] = b"else"
    path.write_bytes(dump)
    with pytest.raises(
        ImageDamaged, match=rf"vm\.lime is damaged or cut off at {32 + len(MEMORY):,}"
    ):
        taken(path, lime.FORMAT, tmp_path / "1.mem")
    path.write_bytes(elf_core([(0, MEMORY)], kind=2))
    with pytest.raises(NotThisFormat):
        taken(path, elf.FORMAT, tmp_path / "2.mem")
