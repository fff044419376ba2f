"""Images and how they are grouped."""

import hashlib
from pathlib import Path

import pytest

from difffs.errors import UsageError
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Image, Origin, group_by_folder


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_image_is_described_by_its_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 16 * 3 + b"an incomplete page"
    image = Image.of(write(tmp_path / "vm1.mem", content))
    assert (image.name, image.pages) == ("vm1", 3)
    assert image.sha256 == hashlib.sha256(content).hexdigest()
    with image.mapped() as pages:
        assert pages == content[: 3 * PAGE_SIZE]
        assert pages.readonly
        kept = pages[PAGE_SIZE : PAGE_SIZE + 4]
    assert kept == content[:4]
    with pytest.raises(ValueError, match="released"):
        bytes(pages)


def test_what_is_no_image(tmp_path: Path) -> None:
    for path in (tmp_path, write(tmp_path / "short.mem", bytes(PAGE_SIZE - 1))):
        with pytest.raises(UsageError, match="at least a page"):
            Image.of(path)
    with pytest.raises(UsageError, match=r"gone.mem cannot be read"):
        Image.of(tmp_path / "gone.mem")


def test_each_folder_is_a_corpus(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b/2.mem", "a/1.mem", "b/1.mem")]
    images = [Image.of(write(path, b"x" * PAGE_SIZE * (2 + at))) for at, path in enumerate(paths)]
    corpora = group_by_folder(images)
    assert [(corpus.name, corpus.images) for corpus in corpora] == [
        ("b", (images[0], images[2])),
        ("a", (images[1],)),
    ]
    assert corpora[0].pages == 2 + 4
    assert corpora[0].bytes == 6 * PAGE_SIZE


def test_an_image_belongs_where_it_was_given(tmp_path: Path) -> None:
    given = Origin(tmp_path / "b" / "vm1.save", "migration")
    memory = write(tmp_path / "scratch" / "memory", bytes(2 * PAGE_SIZE))
    plain = write(tmp_path / "b" / "vm2.mem", bytes(PAGE_SIZE))
    images = [Image.of(memory, given), Image.of(plain)]
    assert [(image.name, image.path, image.origin) for image in images] == [
        ("vm1", memory, given),
        ("vm2", plain, Origin(plain)),
    ]
    (corpus,) = group_by_folder(images)
    assert (corpus.name, corpus.images) == ("b", tuple(images))
