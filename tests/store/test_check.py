"""check(): each finding, made by damaging exactly what it is about."""

import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import lmdb
import pytest

from difffs import _kernels
from difffs.codec import Codec
from difffs.errors import CorruptStore, PayloadDamaged
from difffs.store import Store
from tests.kernels import kernel_oracle
from tests.pages import compressible_page, guest_memory, similar_page
from tests.stores import OpenStore

PAGE = 4096
RECORD = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store: a base in slot 1 of extent 1, its patch in slot 2, and more pages."""
    random = Random(5)
    base = compressible_page(random)
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("vm.mem")
    opened.write(volume, 0, base)
    opened.write(volume, 1, similar_page(base, random, 2))
    opened.write(volume, 2, guest_memory(3, 100))
    assert opened.object_of(volume, 1) == 0x102
    opened.store.close()
    return tmp_path / "s"


def findings(folder: Path, *, read_only: bool = True) -> dict[str, str]:
    """Kind -> all findings of that kind in one text."""
    told: dict[str, str] = {}
    with Store.open(folder, read_only=read_only) as store:
        for finding in store.check():
            told[finding.kind] = told.get(finding.kind, "") + f"{finding}\n"
    return told


@contextmanager
def database(folder: Path, name: str) -> Iterator[tuple[lmdb.Transaction, "lmdb._Database"]]:
    with lmdb.open(str(folder / "index"), max_dbs=4, map_size=1 << 30) as environment:
        opened = environment.open_db(name.encode())
        with environment.begin(write=True) as transaction:
            yield transaction, opened


def edit_header(folder: Path, change: Callable[[bytearray], None]) -> None:
    """Changes the header of extent 1 and gives it a right checksum."""
    with database(folder, "extents") as (transaction, extents):
        key = (1).to_bytes(4, "big")
        header = bytearray(transaction.get(key, db=extents) or b"")
        change(header)
        header[0:4] = _kernels.checksum(header[4:]).to_bytes(4, "little")
        transaction.put(key, bytes(header), db=extents)


def payload_position(folder: Path, slot: int) -> tuple[int, int]:
    """(position in the payload file, length) of an object of extent 1."""
    with database(folder, "extents") as (transaction, extents):
        header = transaction.get((1).to_bytes(4, "big"), db=extents) or b""
    place = int.from_bytes(header[RECORD * slot : RECORD * slot + 4], "little")
    side = header[8]
    return (2 + side) * _kernels.EXTENT_SIDE_BYTES + (place & 0xFFFFF), (place >> 20) + 1


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_a_sound_store_has_none(folder: Path) -> None:
    assert findings(folder) == {}
    assert findings(folder, read_only=False) == {}


def test_a_flipped_payload_is_found_named_and_harms_no_other(folder: Path) -> None:
    position, length = payload_position(folder, 1)
    flip(folder / "payloads", position + length // 2)
    told = findings(folder)
    assert "object 1 of extent 1: its checksum is wrong" in told["payload"]
    assert "object 2 of extent 1: its base object 1 of extent 1 is damaged" in told["payload"]
    with Store.open(folder) as store:
        volume = store.namespace.lookup("/vm.mem").number
        out = bytearray(PAGE)
        for page in (0, 1):
            with pytest.raises(PayloadDamaged, match=rf"page {page} of volume /vm.mem.*extent 1:"):
                store.read_pages(volume, page, 1, out)
        image = guest_memory(3, 100)
        for page in range(100):
            store.read_pages(volume, 2 + page, 1, out)
            assert out == image[PAGE * page : PAGE * (page + 1)]


def test_a_cut_payload_file(folder: Path) -> None:
    os.truncate(folder / "payloads", payload_position(folder, 5)[0])
    assert "the payload file ends before it" in findings(folder)["payload"]


def change_byte(at: int, value: int) -> Callable[[bytearray], None]:
    def change(header: bytearray) -> None:
        header[at] = value

    return change


def set_references(slot: int, pages: int, patches: int) -> Callable[[bytearray], None]:
    def change(header: bytearray) -> None:
        at = RECORD * slot + 5
        header[at : at + 3] = (pages | patches << 14).to_bytes(3, "little")

    return change


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (set_references(1, 7, 1), "reference", "counts 7 pages, 1 refer to it"),
        (set_references(1, 1, 9), "reference", "counts 9 patches, 1 refer to it"),
        (change_byte(RECORD * 2 + 4, 5 | 3 << 4), "base", "depth is not its base's plus one"),
        (change_byte(RECORD * 1 + 4, 3 | 1 << 4), "base", "no patch, yet it has a depth"),
        (change_byte(RECORD * 1 + 8, 0xAA), "digest", "its page has another digest"),
        (change_byte(RECORD * 1 + 12, 0xAA), "payload", "its checksum is wrong"),
        (change_byte(RECORD * 1 + 4, Codec.LZ4), "payload", "malformed payload"),
    ],
)
def test_a_damaged_record(
    folder: Path, change: Callable[[bytearray], None], kind: str, text: str
) -> None:
    edit_header(folder, change)
    assert text in findings(folder)[kind]


def test_overlapping_payloads(folder: Path) -> None:
    def change(header: bytearray) -> None:
        places = [int.from_bytes(header[RECORD * s : RECORD * s + 4], "little") for s in (1, 3)]
        moved = places[1] & ~0xFFFFF | places[0] & 0xFFFFF
        header[RECORD * 3 : RECORD * 3 + 4] = moved.to_bytes(4, "little")

    edit_header(folder, change)
    assert "overlaps the payload before it" in findings(folder)["space"]


def with_entry(stored: bytes, entry: int, value: int) -> bytes:
    """A page table chunk with another object id in one place, and sealed again."""
    entries = array("I", bytes(stored[16:])).tolist()
    entries[entry] = value
    return kernel_oracle.table_chunk(entries)


def test_an_object_that_nothing_needs(folder: Path) -> None:
    with database(folder, "tables") as (transaction, tables):
        with transaction.cursor(tables) as cursor:
            assert cursor.first()
            key, stored = cursor.item()
        transaction.put(key, with_entry(bytes(stored), 1, 0), db=tables)
    assert "counts 1 pages, 0 refer to it" in findings(folder)["reference"]
    edit_header(folder, set_references(2, 0, 0))
    assert "nothing refers to it, yet it is kept" in findings(folder)["reference"]


def test_a_page_of_no_object(folder: Path) -> None:
    with database(folder, "tables") as (transaction, tables):
        with transaction.cursor(tables) as cursor:
            assert cursor.first()
            key, stored = cursor.item()
        transaction.put(key, with_entry(bytes(stored), 3, 0x1FE), db=tables)
    assert "pages refer to it, but it does not exist" in findings(folder)["reference"]


def test_pages_behind_the_end_and_of_no_volume(folder: Path) -> None:
    with Store.open(folder, read_only=True) as store:
        volume = store.namespace.lookup("/vm.mem").number
    zeros = with_entry(bytes(_kernels.TABLE_BYTES), 0, 255)
    with database(folder, "tables") as (transaction, tables):
        for owner, chunk in ((volume, 9), (77, 0)):
            key = owner.to_bytes(4, "big") + chunk.to_bytes(4, "big")
            transaction.put(key, zeros, db=tables)
    told = findings(folder)["table"]
    assert "maps pages behind the volume's end" in told
    assert "belongs to no volume" in told


def test_wrong_counts_of_a_chunk(folder: Path) -> None:
    with database(folder, "tables") as (transaction, tables):
        with transaction.cursor(tables) as cursor:
            assert cursor.first()
            key, stored = cursor.item()
        chunk = bytearray(stored)
        chunk[4] += 1
        chunk[:4] = _kernels.checksum(bytes(chunk[4:])).to_bytes(4, "little")
        transaction.put(key, bytes(chunk), db=tables)
    assert "its counts are wrong" in findings(folder)["table"]


def test_a_lost_name(folder: Path) -> None:
    with database(folder, "inodes") as (transaction, inodes):
        with transaction.cursor(inodes) as cursor:
            assert cursor.last()
            key, stored = cursor.item()
        damaged = bytearray(stored)
        damaged[len(damaged) // 2] ^= 1
        transaction.put(key, bytes(damaged), db=inodes)
    assert findings(folder)["name"]


def test_a_damaged_dictionary(folder: Path) -> None:
    with database(folder, "settings") as (transaction, settings):
        transaction.put(b"dictionary", b"not a dictionary", db=settings)
    with pytest.raises(CorruptStore, match=r"dictionary is wrong.*restore"):
        Store.open(folder)


def test_a_wrong_digest_in_the_table(folder: Path) -> None:
    with Store.open(folder) as store:
        digest, number = store.digests.pairs()[0]
        store.digests.remove(digest, number)
        store.digests.insert(digest ^ 1 << 31, number)
        kinds = [finding.kind for finding in store.check()]
        store.digests.remove(digest ^ 1 << 31, number)
        store.digests.insert(digest, number)
    assert kinds == ["digest"]


def test_a_wrong_digest_in_the_table_on_disk(folder: Path) -> None:
    file = (folder / "digests").read_bytes()
    slot = next(at for at in range(4096, len(file), 4) if file[at : at + 4] != bytes(4))
    flip(folder / "digests", slot + 3)  # the highest bits, of the tag
    assert "the digest table has another digest" in findings(folder)["digest"]


def test_progress_reaches_the_number_of_objects(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    with Store.open(folder, read_only=True) as store:
        store.check(lambda done, total: told.append((done, total)))
        assert told[-1] == (store.object_count(), store.object_count())
