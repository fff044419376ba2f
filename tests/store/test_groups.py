"""What check finds of groups, and what a repair saves of a damaged one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from difffs.codec import GROUP_CODECS
from difffs.errors import PayloadDamaged
from difffs.page import PAGE_SIZE
from difffs.refine.refiner import Refiner
from difffs.refine.tiers import TIERS, Tier
from difffs.store import Store
from difffs.store.bindings import Kind
from difffs.store.format import read_format
from difffs.store.index import Changes, Index
from difffs.store.object_table import ObjectTable, StoredObject, pack_record
from difffs.store.repairing import repair_store
from tests.pages import guest_memory
from tests.stores import OpenStore

PAGES = 300
CONTENT = guest_memory(3, PAGES)


@pytest.fixture(params=TIERS.values(), ids=lambda tier: str(tier.name))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A closed store that was refined."""
    tier: Tier = request.param
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("vm")
        opened.write(volume, 0, CONTENT)
        Refiner(opened.store, tier).run()
    return tmp_path / "s"


def objects_of(folder: Path) -> ObjectTable:
    index = Index(folder / "index-2", read_format(folder).store_id, read_only=True)
    objects = ObjectTable()
    for key, stored, _right in index.entries(Kind.EXTENT):
        objects.add(int.from_bytes(key, "big"), stored or b"")
    index.close()
    return objects


def first(folder: Path, wanted: Callable[[StoredObject], bool]) -> tuple[int, StoredObject]:
    return next((number, item) for number, item in objects_of(folder) if wanted(item))


def edit(folder: Path, identity: int, record: bytes) -> None:
    """Puts another record in the index, with right bindings, as a faulty version might."""
    form = read_format(folder)
    index = Index(folder / "index-2", form.store_id, read_only=False)
    header = bytearray(index.header(identity >> 8) or b"")
    at = 16 * (identity & 255)
    header[at : at + 16] = record
    changes = Changes(totals=list(index.commit_record.codecs))
    changes.extents.append((identity >> 8, bytes(header)))
    index.commit(changes)
    index.close()


def findings(folder: Path) -> list[str]:
    with Store.open(folder, read_only=True) as store:
        return [str(each) for each in store.check()]


def test_a_refined_store_has_none(folder: Path) -> None:
    assert findings(folder) == []
    assert any(item.codec in GROUP_CODECS for _number, item in objects_of(folder))


def test_a_member_of_no_group(folder: Path) -> None:
    number, item = first(folder, lambda each: each.is_member)
    other = StoredObject(**{**fields(item), "base": 0x7FFF01})
    edit(folder, number, pack_record(other, 0, item.pages, item.patches))
    told = "\n".join(findings(folder))
    assert f"object {number & 255} of extent {number >> 8}: its group" in told
    assert "members," in told  # its group counts one too many


def test_two_members_with_one_place(folder: Path) -> None:
    number, item = first(folder, lambda each: each.is_member)
    other = StoredObject(**{**fields(item), "group_page": (item.group_page + 1) % 8})
    edit(folder, number, pack_record(other, 0, item.pages, item.patches))
    told = "\n".join(findings(folder))
    assert "another member is page" in told
    assert "decodes to another page" in told


def fields(item: StoredObject) -> dict[str, int]:
    return {name: getattr(item, name) for name in StoredObject.__slots__}


def damage(folder: Path, part: float) -> tuple[int, StoredObject]:
    """Flips a bit in a group's payload, so far behind its beginning."""
    number, item = first(folder, lambda each: each.is_group)
    at = item.position + int(part * (item.length - 1))
    with (folder / "payloads").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))
    return number, item


@pytest.mark.parametrize("part", [0.0, 0.5, 0.9])
def test_a_damaged_group_is_named_page_by_page_and_the_rest_is_right(
    folder: Path, part: float
) -> None:
    number, _item = damage(folder, part)
    told = findings(folder)
    named = f"payload: object {number & 255} of extent {number >> 8}: "
    assert any(each.startswith(named) for each in told)
    members = {
        identity for identity, each in objects_of(folder) if each.is_member and each.base == number
    }
    damaged = {
        identity
        for identity in members
        if any(
            each.startswith(f"payload: object {identity & 255} of extent {identity >> 8}: ")
            for each in told
        )
    }
    readable = set()
    with Store.open(folder, read_only=True) as store:
        volume = store.namespace.lookup("/vm").number
        out = bytearray(PAGE_SIZE)
        for page, identity in enumerate(store.lookup(volume, 0, PAGES)):
            try:
                store.read_pages(volume, page, 1, out)
            except PayloadDamaged:
                assert identity in damaged or identity not in members
                continue
            assert out == CONTENT[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
            readable.add(identity)
    assert not readable & damaged


@pytest.mark.parametrize("part", [0.0, 0.7])
def test_a_repair_saves_what_can_be_read(folder: Path, tmp_path: Path, part: float) -> None:
    damage(folder, part)
    told = findings(folder)
    repaired = repair_store(folder, tmp_path / "clean")
    assert not repaired.repair.is_sound
    lost = {
        page
        for each in repaired.repair.lost
        for start, count in each.runs
        for page in range(start, start + count)
    }
    assert bool(lost) == any("decodes to another" in each or "cannot be" in each for each in told)
    with Store.open(tmp_path / "clean") as store:
        assert [each for each in store.check() if each.kind != "lost"] == []
        volume = store.namespace.lookup("/vm").number
        out = bytearray(PAGE_SIZE)
        for page in set(range(PAGES)) - lost:
            store.read_pages(volume, page, 1, out)
            assert out == CONTENT[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]


def test_a_repair_of_a_sound_store_copies_groups(folder: Path, tmp_path: Path) -> None:
    repaired = repair_store(folder, tmp_path / "clean")
    assert repaired.repair.is_sound
    assert not repaired.repair.lost
    assert findings(tmp_path / "clean") == []
    with Store.open(tmp_path / "clean", read_only=True) as store:
        out = bytearray(PAGES * PAGE_SIZE)
        store.read_pages(store.namespace.lookup("/vm").number, 0, PAGES, out)
        assert out == CONTENT


def test_decoded_groups_are_forgotten_when_nobody_reads_any(folder: Path) -> None:
    with OpenStore(folder) as opened:
        store = opened.store
        volume = store.namespace.lookup("/vm").number
        out = bytearray(PAGES * PAGE_SIZE)
        assert store.extents.give_back_memory() == 0, "none was read yet"
        for _ in range(2):
            store.read_pages(volume, 0, PAGES, out)
            assert out == CONTENT
            _, decoded = store.extents.members_read
            assert store.extents.give_back_memory() == 0, "they were read a moment ago"
            store.read_pages(volume, 0, PAGES, out)
            assert store.extents.members_read[1] == decoded, "all come from the cache"
            assert store.extents.give_back_memory() == 0
            assert store.extents.give_back_memory() == 16 << 20
            assert store.extents.give_back_memory() == 0
