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
from difffs.errors import CorruptStore, DifffsError, FormatTooNew, PayloadDamaged
from difffs.store import Store
from difffs.store.bindings import Kind
from difffs.store.check import Finding
from difffs.store.format import DICTIONARY, read_format
from difffs.store.index import Changes, Index
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
    try:
        with Store.open(folder, read_only=read_only) as store:
            found = store.check()
    except DifffsError as error:  # as the command does
        found = [Finding("store", str(folder), str(error))]
    for finding in found:
        told[finding.kind] = told.get(finding.kind, "") + f"{finding}\n"
    return told


@contextmanager
def edited(folder: Path) -> Iterator[tuple[Index, Changes]]:
    """The index, and what is to be put in it, with right bindings."""
    form = read_format(folder)
    index = Index(folder / "index-2", form.store_id, read_only=False)
    try:
        changes = Changes(totals=list(index.commit_record.codecs))
        yield index, changes
        index.commit(changes)
    finally:
        index.close()


def edit_header(folder: Path, change: Callable[[bytearray], None]) -> None:
    """Changes the header of extent 1 as a faulty version might."""
    with edited(folder) as (index, changes):
        header = bytearray(index.header(1) or b"")
        change(header)
        changes.extents.append((1, bytes(header)))


def edit_chunk(folder: Path, change: Callable[[bytearray], None]) -> None:
    """Changes the only page table chunk likewise."""
    with edited(folder) as (index, changes):
        ((key, stored, _right),) = index.entries(Kind.TABLE)
        chunk = bytearray(stored or b"")
        change(chunk)
        volume, number = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
        changes.tables.append((volume, number, memoryview(chunk)))


def payload_position(folder: Path, slot: int) -> tuple[int, int]:
    """(position in the payload file, length) of an object of extent 1."""
    index = Index(folder / "index-2", read_format(folder).store_id, read_only=True)
    header = bytes(index.header(1) or b"")
    index.close()
    place = int.from_bytes(header[RECORD * slot : RECORD * slot + 4], "little")
    side = header[4] & 1
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
    assert "object 1 of extent 1: " in told["payload"]
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


def set_base(slot: int, base: int) -> Callable[[bytearray], None]:
    def change(header: bytearray) -> None:
        header[RECORD * slot + 8 : RECORD * slot + 12] = base.to_bytes(4, "little")

    return change


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (set_references(1, 7, 1), "reference", "counts 7 pages, 1 refer to it"),
        (set_references(1, 1, 9), "reference", "counts 9 patches, 1 refer to it"),
        (set_base(2, 0x1FF), "base", "its base object 255 of extent 1 does not exist"),
        (set_base(2, 0x102), "base", "its chain has more than 15 patches"),
        (set_base(2, 0x103), "payload", "object 2 of extent 1: it decodes to another page"),
        (set_base(2, 0x103), "reference", "counts 1 patches, 0 refer to it"),
        (set_base(1, 0x103), "base", "no patch, yet it has a base"),
        (change_byte(RECORD * 1 + 12, 0xAA), "payload", "it decodes to another page"),
        (change_byte(RECORD * 1 + 4, Codec.LZ4), "payload", "malformed payload"),
    ],
)
def test_a_damaged_record(
    folder: Path, change: Callable[[bytearray], None], kind: str, text: str
) -> None:
    edit_header(folder, change)
    assert text in findings(folder)[kind]


def test_what_only_a_newer_version_can_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec of tomorrow among objects of today."""

    def summary(stored: bytes) -> bytes:
        known = bytearray(stored)
        known[RECORD * 1 + 4] = Codec.RAW
        return _kernels.header_summary(known)

    monkeypatch.setattr("difffs.store.bindings.header_summary", summary)
    edit_header(folder, change_byte(RECORD * 1 + 4, 40))
    told = findings(folder)
    assert "object 1 of extent 1: has codec 40, which this version cannot read" in told["header"]
    assert set(told) == {"header", "payload"}, "its patch cannot be read, either"
    with Store.open(folder, read_only=True) as store:
        volume = store.namespace.lookup("/vm.mem").number
        with pytest.raises(FormatTooNew, match="use a newer difffs"):
            store.read_pages(volume, 0, 1, bytearray(PAGE))


def test_totals_that_are_not_those_of_the_objects(folder: Path) -> None:
    with edited(folder) as (_index, changes):
        objects, *others = changes.totals[Codec.RAW]
        changes.totals[Codec.RAW] = (objects + 1, *others)  # type: ignore[assignment]
    assert "its totals are not those of the objects" in findings(folder)["commit"]


def test_overlapping_payloads(folder: Path) -> None:
    def change(header: bytearray) -> None:
        places = [int.from_bytes(header[RECORD * s : RECORD * s + 4], "little") for s in (1, 3)]
        moved = places[1] & ~0xFFFFF | places[0] & 0xFFFFF
        header[RECORD * 3 : RECORD * 3 + 4] = moved.to_bytes(4, "little")

    edit_header(folder, change)
    assert "overlaps the payload before it" in findings(folder)["space"]


def set_entry(chunk: bytearray, entry: int, value: int) -> None:
    """Put another object id in one place of a page table chunk, and count again."""
    entries = array("I", chunk[16:]).tolist()
    entries[entry] = value
    chunk[:] = kernel_oracle.table_chunk(entries)


def test_an_object_that_nothing_needs(folder: Path) -> None:
    edit_chunk(folder, lambda chunk: set_entry(chunk, 1, 0))
    assert "counts 1 pages, 0 refer to it" in findings(folder)["reference"]
    edit_header(folder, set_references(2, 0, 0))
    assert "nothing refers to it, yet it is kept" in findings(folder)["reference"]


def test_a_page_of_no_object(folder: Path) -> None:
    edit_chunk(folder, lambda chunk: set_entry(chunk, 3, 0x1FE))
    assert "pages refer to it, but it does not exist" in findings(folder)["reference"]


def test_pages_behind_the_end_and_of_no_volume(folder: Path) -> None:
    with Store.open(folder, read_only=True) as store:
        volume = store.namespace.lookup("/vm.mem").number
    zeros = bytearray(_kernels.TABLE_BYTES)
    set_entry(zeros, 0, 255)
    with edited(folder) as (_index, changes):
        changes.tables += [(volume, 9, memoryview(zeros)), (77, 0, memoryview(zeros))]
    told = findings(folder)["table"]
    assert "maps pages behind the volume's end" in told
    assert "belongs to no volume" in told


def test_wrong_counts_of_a_chunk(folder: Path) -> None:
    def change(chunk: bytearray) -> None:
        chunk[4] += 1

    edit_chunk(folder, change)
    assert "its counts are wrong" in findings(folder)["table"]


def test_lost_pages_are_named(folder: Path) -> None:
    with Store.open(folder) as store:
        volume = store.namespace.lookup("/vm.mem").number
        store.fill(volume, 40, 2, 254)
        assert store.lost_pages == 2
        assert store.next_hole(volume, 40, 42) == 42, "they count as data"
    told = findings(folder)
    assert set(told) == {"lost"}
    for page in (40, 41):
        assert f"page {page} of volume /vm.mem: its content was given up" in told["lost"]
    with Store.open(folder) as store:
        with pytest.raises(PayloadDamaged, match=r"page 40 of volume .vm.mem.*was lost"):
            store.read_pages(volume, 39, 5, bytearray(5 * PAGE))
        assert store.lost_pages == 2
        store.fill(volume, 40, 1, 0)
        store.fill(volume, 41, 1, 255)
        assert store.lost_pages == 0
    assert findings(folder) == {}


def test_a_damaged_name(folder: Path) -> None:
    with edited(folder) as (index, changes):
        *_others, (key, stored, _right) = index.entries(Kind.INODE)
        damaged = bytearray(stored or b"")
        damaged[len(damaged) // 2] ^= 1
        changes.inodes.append((int.from_bytes(key, "big"), bytes(damaged)))
    assert findings(folder)["name"]


def test_a_damaged_dictionary(folder: Path) -> None:
    """zstd itself would take any bytes."""
    with lmdb.open(str(folder / "index-2"), max_dbs=5, map_size=1 << 30) as environment:
        settings = environment.open_db(b"settings", create=False)
        with environment.begin(write=True) as transaction:
            transaction.put(DICTIONARY.encode(), b"another", db=settings)
    with pytest.raises(CorruptStore, match=r"dictionary.*restore"):
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
