"""A damaged index is refused before LMDB maps it: LMDB would follow it out of its file."""

from pathlib import Path
from random import Random

import pytest

from difffs._kernels import lmdb_damage_of
from difffs.errors import CorruptStore
from difffs.store import Store
from tests.store.test_lmdb_file import file as file
from tests.stores import OpenStore

PAGE = 4096


def damage_of(path: Path) -> str | None:
    with path.open("rb") as opened:
        return lmdb_damage_of(opened.fileno())


def test_what_lmdb_has_written_is_sound(file: Path) -> None:
    assert damage_of(file) is None


def test_every_page_of_keys_counts(file: Path) -> None:
    """Zeroed, moved or with another page's bytes: whatever has nodes is missed; what has values
    alone is none of this check's business."""
    whole, random, found = file.read_bytes(), Random(4), 0
    for at in range(0, len(whole), PAGE):
        kind = int.from_bytes(whole[at + 10 : at + 12], "little")
        named = whole[at : at + 8] == (at // PAGE).to_bytes(8, "little")
        in_use = at < 2 * PAGE or (kind in (1, 2) and named)
        other = PAGE * random.randrange(len(whole) // PAGE)
        for block in (bytes(PAGE), whole[other : other + PAGE]):
            if block == whole[at : at + PAGE]:
                continue
            file.write_bytes(whole[:at] + block + whole[at + PAGE :])
            told = damage_of(file)
            found += told is not None
            assert told is None or in_use, told
    assert found > 40


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (16, "page 0 is no meta page"),
        (PAGE + 40, "page 1 is no meta page"),  # bytes of a page
        (PAGE + 44, "page 1 is no meta page"),  # flags: of a map at a fixed address
    ],
)
def test_meta_pages(file: Path, at: int, text: str) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert damage_of(file) == text


def test_a_free_page_that_is_in_use(file: Path) -> None:
    """LMDB would give it to the next commit, which would overwrite what is there."""
    data = bytearray(file.read_bytes())
    metas = [int.from_bytes(data[at : at + 8], "little") for at in (144, PAGE + 144)]
    base = PAGE * metas.index(max(metas))
    free_root = int.from_bytes(data[base + 80 : base + 88], "little")
    main_root = int.from_bytes(data[base + 128 : base + 136], "little")
    page = PAGE * free_root
    at = page + int.from_bytes(data[page + 16 : page + 18], "little")
    assert not data[at + 4], "the list lies in the page"
    assert int.from_bytes(data[at + 16 : at + 24], "little") > 0
    data[at + 24 : at + 32] = main_root.to_bytes(8, "little")
    file.write_bytes(data)
    told = damage_of(file)
    assert told is not None
    assert "free" in told


def test_a_store_is_not_opened_with_it(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        opened.new_volume("a", 3)
    path = tmp_path / "s" / "index-2" / "data.mdb"
    data = bytearray(path.read_bytes())
    for at in range(2 * PAGE, len(data), PAGE):
        data[at + 10] ^= 3  # a leaf says that it is a branch
    path.write_bytes(data)
    for read_only in (True, False):
        with pytest.raises(CorruptStore, match=r"damaged: page \d+ .*check --repair"):
            Store.open(tmp_path / "s", read_only=read_only)


def test_whatever_is_flipped_it_ends(file: Path) -> None:
    whole, random = file.read_bytes(), Random(6)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(random.choice((1, 4, 300))):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        if random.random() < 0.2:
            del data[random.randrange(len(data)) :]
        file.write_bytes(data)
        damage_of(file)
