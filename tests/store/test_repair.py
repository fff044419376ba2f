"""check --repair: for each kind of damage, what is gone is exactly what must be, and named."""

import json
import os
import shutil
import stat
from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random

import lmdb
import pytest

from difffs import _kernels
from difffs.cli.main import main
from difffs.codec import Codec
from difffs.errors import CorruptStore, NotAStore, PayloadDamaged, StoreBusy
from difffs.page import page_count
from difffs.store import Store
from difffs.store.bindings import Kind
from difffs.store.format import read_format
from difffs.store.index import Index
from difffs.store.object_table import ObjectTable
from difffs.store.page_tables import HOLE, LOST, ZERO
from difffs.store.repair import Repair
from difffs.store.repairing import Repaired, repair_store
from tests.pages import compressible_page, guest_memory, similar_page
from tests.store.former_store import unpack
from tests.stores import OpenStore, scratch

PAGE = 4096
CHUNK = _kernels.TABLE_ENTRIES

Pages = dict[str, set[int]]
"""By volume, page numbers."""


class Model:
    """What a store holds, by path."""

    def __init__(self, folder: Path) -> None:
        self.contents: dict[str, bytes] = {}
        self.ids: dict[str, array[int]] = {}
        self.inodes: dict[str, int] = {}
        self.objects = ObjectTable()
        form = read_format(folder)
        with Store.open(folder, read_only=True) as store:
            for inode in store.namespace:
                if inode.is_volume:
                    name = f"inode {inode.number}" if not inode.nlink else ""
                    name = name or store.namespace.path(inode.number)
                    pages = page_count(inode.size)
                    out = bytearray(pages * PAGE)
                    store.read_pages(inode.number, 0, pages, out)
                    self.contents[name] = bytes(out)
                    self.ids[name] = store.lookup(inode.number, 0, pages)
                    self.inodes[name] = inode.number
        if form.version > 1:
            index = Index(folder / "index-2", form.store_id, read_only=True)
            for number, header in index.headers():
                self.objects.add(number, header)
            index.close()

    def pages_of(self, objects: set[int]) -> Pages:
        """The pages that need one of these objects, itself or below a patch."""
        needing = set(objects)
        while True:
            more = {i for i, item in self.objects if item.base in needing} - needing
            if not more:
                break
            needing |= more
        found = {
            name: {page for page, identity in enumerate(ids) if identity in needing}
            for name, ids in self.ids.items()
        }
        return {name: pages for name, pages in found.items() if pages}

    def holes(self) -> Pages:
        """Pages in chunks that map nothing."""
        found: Pages = {}
        for name, ids in self.ids.items():
            for first in range(0, len(ids), CHUNK):
                if not any(ids[first : first + CHUNK]):
                    found.setdefault(name, set()).update(range(first, min(first + CHUNK, len(ids))))
        return found


def make(folder: Path) -> None:
    """Patches in chains, zeros, holes, shared pages, a dictionary, directories, and an image."""
    random = Random(7)
    with OpenStore(folder) as opened:
        opened.store.set_dictionary(guest_memory(3, 2))  # else it takes thousands of pages
    with OpenStore(folder) as opened:
        namespace = opened.store.namespace
        namespace.mkdir("/guests")
        namespace.mkdir("/guests/old")
        namespace.symlink("/link", "guests/vm.mem")
        vm = opened.new_volume("guests/vm.mem", 3 * CHUNK)
        opened.write(vm, 0, guest_memory(1, 700))
        opened.write(vm, 2 * CHUNK + 5, guest_memory(2, 300))
        base = compressible_page(random)
        clone = opened.new_volume("guests/old/clone.mem")
        opened.write(clone, 0, base)
        opened.write(clone, 1, similar_page(base, random, 2))
        opened.write(clone, 2, guest_memory(1, 200))
        opened.write(clone, 300, bytes(3 * PAGE) + guest_memory(4, 20))
        parts = []
        for seed in (5, 6):
            inode = namespace.create_orphan()
            opened.write(inode.number, 0, guest_memory(seed, 30))
            parts.append(inode.number)
        image = namespace.create_orphan()
        namespace.make_image(image.number, 1234, *parts)
        namespace.link(image.number, "/suspended.save")
        opened.write(opened.new_volume("small.mem"), 0, guest_memory(9, 10))


@pytest.fixture(scope="module")
def kept() -> Iterator[tuple[Path, Model]]:
    with scratch() as folder:
        make(folder / "kept")
        yield folder / "kept", Model(folder / "kept")


@pytest.fixture
def folder(kept: tuple[Path, Model]) -> Iterator[Path]:
    """A copy to be damaged."""
    with scratch() as place:
        shutil.copytree(kept[0], place / "s")
        yield place / "s"


@pytest.fixture
def model(kept: tuple[Path, Model]) -> Model:
    return kept[1]


# ---------------------------------------------------------------------------------- damaging it


NAMES = {
    Kind.EXTENT: b"extents",
    Kind.TABLE: b"tables",
    Kind.INODE: b"inodes",
    Kind.SETTING: b"settings",
}


def put(folder: Path, database: bytes, changes: dict[bytes, bytes | None]) -> None:
    """Changes the index behind its bindings' back; None deletes."""
    with lmdb.open(str(folder / "index-2"), max_dbs=5, map_size=1 << 30, lock=False) as environment:
        opened = environment.open_db(database, create=False)
        with environment.begin(write=True) as transaction:
            for key, value in changes.items():
                if value is None:
                    assert transaction.delete(key, db=opened)
                else:
                    transaction.put(key, value, db=opened)


def get(folder: Path, database: bytes) -> dict[bytes, bytes]:
    with lmdb.open(
        str(folder / "index-2"), max_dbs=5, map_size=1 << 30, lock=False, readonly=True
    ) as environment:
        opened = environment.open_db(database, create=False)
        with environment.begin() as transaction:
            return dict(transaction.cursor(db=opened))


def flipped(value: bytes, at: int = -1) -> bytes:
    changed = bytearray(value)
    changed[at if at >= 0 else len(value) // 2] ^= 0x10
    return bytes(changed)


def flip_value(folder: Path, kind: Kind, key: bytes) -> None:
    put(folder, NAMES[kind], {key: flipped(get(folder, NAMES[kind])[key])})


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def flip_payloads(folder: Path, positions: list[int]) -> None:
    with (folder / "payloads").open("r+b") as file:
        for at in positions:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 4]))


# ------------------------------------------------------------------------------ what must come out


def lost_of(repair: Repair) -> Pages:
    found: Pages = {}
    for volume in repair.lost:
        pages = {page for first, count in volume.runs for page in range(first, first + count)}
        assert len(pages) == volume.pages == sum(count for _first, count in volume.runs)
        assert volume.runs == sorted(volume.runs)
        found[volume.name] = pages
    return found


def read(store: Store, volume: int, first: int, count: int) -> list[bytes | None]:
    """Pages; None where reading is an error."""
    out = bytearray(count * PAGE)
    try:
        store.read_pages(volume, first, count, out)
    except PayloadDamaged:
        if count == 1:
            return [None]
        half = count // 2
        return read(store, volume, first, half) + read(store, volume, first + half, count - half)
    return [bytes(out[PAGE * page : PAGE * (page + 1)]) for page in range(count)]


def contents_of(folder: Path) -> dict[str, list[bytes | None]]:
    """Every page of every volume by path or number; None where reading is an error."""
    found: dict[str, list[bytes | None]] = {}
    with Store.open(folder, read_only=True) as store:
        for inode in store.namespace:
            if not inode.is_volume:
                continue
            name = store.namespace.path(inode.number) if inode.nlink else f"inode {inode.number}"
            pages: list[bytes | None] = []
            for first in range(0, page_count(inode.size), 64):
                count = min(64, page_count(inode.size) - first)
                pages += read(store, inode.number, first, count)
            found[name] = pages
    return found


def verify(
    done: Repaired, model: Model, lost: Pages, renamed: dict[str, str] | None = None
) -> None:
    """The pages that read as errors are the expected ones, which are listed; all others are as they
    were; the store checks clean but for them; and it is repaired once more without a loss."""
    renamed = renamed or {}
    contents = contents_of(done.store)
    expected = {renamed.get(name, name): pages for name, pages in lost.items()}
    for name, before in model.contents.items():
        now = contents.pop(renamed.get(name, name))
        gone = lost.get(name, set())
        last = max(
            [page for page, identity in enumerate(model.ids[name]) if identity != HOLE], default=-1
        )
        assert len(now) == len(before) // PAGE or (name in renamed and len(now) == last + 1)
        for page, content in enumerate(now):
            if page in gone:
                assert content is None, (name, page)
            else:
                assert content == before[PAGE * page : PAGE * (page + 1)], (name, page)
    assert not contents
    told = lost_of(done.repair)
    assert {name.rpartition(" (")[0] if " (" in name else name for name in told} == {
        "/suspended.save" if name.startswith("inode ") else name for name in expected
    }
    for name, pages in expected.items():
        if not name.startswith("inode "):
            assert told[name] == pages
    assert done.repair.lost_pages == sum(map(len, lost.values()))
    with Store.open(done.store, read_only=True) as store:
        findings = store.check()
        assert len(findings) == store.lost_pages
        assert {finding.kind for finding in findings} <= {"lost"}
        assert store.lost_pages == done.repair.lost_pages + done.repair.lost_before
    again = repair_store(done.store, None)
    assert (again.repair.is_sound, again.damaged) == (True, None)
    elsewhere = repair_store(done.store, done.store.with_name("again"))
    assert contents_of(elsewhere.store) == contents_of(done.store)
    assert not elsewhere.repair.has_lost
    assert elsewhere.repair.lost_before == done.repair.lost_pages + done.repair.lost_before
    with Store.open(done.store) as store:  # and it can be written
        assert store.check() == findings
        store.namespace.create("/new")


def test_a_sound_store_stays_and_a_copy_is_its_equal(folder: Path, model: Model) -> None:
    before = (folder / "index-2" / "data.mdb").read_bytes()
    done = repair_store(folder, None)
    assert (done.repair.is_sound, done.damaged, done.store) == (True, None, folder)
    assert (folder / "index-2" / "data.mdb").read_bytes() == before
    assert sorted(os.listdir(folder.parent)) == ["s"]
    with Store.open(folder, read_only=True) as store:
        counts, objects = store.page_counts(), store.object_count()
        recipe, since = store.recipe, store.since
        names = {each.number: each.pack() for each in store.namespace}
    done = repair_store(folder, folder.with_name("copy"))
    assert (done.repair.is_sound, done.repair.has_lost) == (True, False)
    assert (done.repair.objects, done.repair.pages) == (objects, counts["total"])
    verify(done, model, {})
    shutil.rmtree(folder.with_name("copy"))
    done = repair_store(folder, folder.with_name("copy"))
    with Store.open(done.store, read_only=True) as store:
        assert (store.page_counts(), store.object_count()) == (counts, objects)
        assert (store.recipe, store.since) == (recipe, since)
        assert {each.number: each.pack() for each in store.namespace} == names


def test_the_damaged_store_is_kept_as_it_is(folder: Path, model: Model) -> None:
    objects = {identity for identity, item in model.objects if item.codec != Codec.SAME}
    item = model.objects.get(min(objects))
    assert item is not None
    flip_payloads(folder, [item.position])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = repair_store(folder, None)
    assert done.damaged == folder.with_name("s.damaged")
    assert done.damaged is not None
    for path, content in before.items():
        assert (done.damaged / path.relative_to(folder)).read_bytes() == content
    assert sorted(os.listdir(folder.parent)) == ["s", "s.damaged"]
    assert not list(folder.glob("repair*"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    verify(done, model, model.pages_of({min(objects)}))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_payloads_take_their_patches_along(folder: Path, model: Model, seed: int) -> None:
    random = Random(seed)
    items = dict(model.objects)
    bases = {item.base for item in items.values() if item.base}
    chosen = set(random.sample(sorted(items), 10)) | set(random.sample(sorted(bases), 3))
    # The first byte of any payload counts.
    flip_payloads(folder, [items[i].position for i in chosen])
    verify(repair_store(folder, None), model, model.pages_of(chosen))


def test_a_cut_payload_file(folder: Path, model: Model) -> None:
    size = max(item.position + item.length for _identity, item in model.objects) - 100_000
    os.truncate(folder / "payloads", size)
    behind = {i for i, item in model.objects if item.position + item.length > size}
    assert behind
    verify(repair_store(folder, None), model, model.pages_of(behind))


def test_a_zeroed_block_of_payloads(folder: Path, model: Model) -> None:
    at = (2 << 20) + 5 * PAGE
    with (folder / "payloads").open("r+b") as file:
        file.seek(at)
        file.write(bytes(PAGE))
    hit = {
        i
        for i, item in model.objects
        if item.position < at + PAGE and at < item.position + item.length
    }
    verify(repair_store(folder, None), model, model.pages_of(hit))


@pytest.mark.parametrize("how", ["flipped", "gone", "another's"])
def test_a_damaged_header(folder: Path, model: Model, how: str) -> None:
    headers = get(folder, b"extents")
    keys = sorted(headers)
    new = {"flipped": flipped(headers[keys[0]]), "gone": None, "another's": headers[keys[-1]]}
    put(folder, b"extents", {keys[0]: new[how]})
    extent = int.from_bytes(keys[0], "big")
    done = repair_store(folder, None)
    verify(done, model, model.pages_of({i for i, _item in model.objects if i >> 8 == extent}))
    assert any(f"the header of extent {extent}" in note for note in done.repair.notes)


@pytest.mark.parametrize("how", ["flipped", "gone", "cut", "another's"])
def test_a_damaged_chunk_is_lost_and_no_hole(folder: Path, model: Model, how: str) -> None:
    vm = model.inodes["/guests/vm.mem"]
    chunks = get(folder, b"tables")
    key = number(vm) + number(2)
    other = chunks[number(vm) + number(0)]
    new = {
        "flipped": flipped(chunks[key]),
        "gone": None,
        "cut": chunks[key][:9],
        "another's": other,
    }
    put(folder, b"tables", {key: new[how]})
    done = repair_store(folder, None)
    verify(done, model, {"/guests/vm.mem": set(range(2 * CHUNK, 3 * CHUNK))})
    assert done.repair.is_proven


def test_the_last_chunk_is_lost_up_to_the_end(folder: Path, model: Model) -> None:
    small = model.inodes["/small.mem"]
    put(folder, b"tables", {number(small) + number(0): None})
    verify(repair_store(folder, None), model, {"/small.mem": set(range(10))})


def test_two_chunks_exchanged(folder: Path, model: Model) -> None:
    chunks = get(folder, b"tables")
    one, other = (number(model.inodes[name]) + number(0) for name in sorted(model.inodes)[:2])
    put(folder, b"tables", {one: chunks[other], other: chunks[one]})
    names = {model.inodes[name]: name for name in model.inodes}
    lost = {
        names[int.from_bytes(key[:4], "big")]: set(
            range(min(CHUNK, len(model.ids[names[int.from_bytes(key[:4], "big")]])))
        )
        for key in (one, other)
    }
    verify(repair_store(folder, None), model, lost)


@pytest.mark.parametrize("how", ["flipped", "gone"])
@pytest.mark.parametrize("kind", list(Kind))
def test_damaged_bindings_cost_nothing(folder: Path, model: Model, kind: Kind, how: str) -> None:
    """The commit record tells that the value is right."""
    bindings = get(folder, b"bindings")
    keys = [key for key in sorted(bindings) if key[:1] == kind.value][:6]
    put(
        folder,
        b"bindings",
        {key: None if how == "gone" else flipped(bindings[key], 3) for key in keys},
    )
    done = repair_store(folder, None)
    assert done.repair.is_proven
    verify(done, model, {})


def test_bindings_and_values_damaged_at_once(folder: Path, model: Model) -> None:
    """Which of them were right is found out."""
    vm = model.inodes["/guests/vm.mem"]
    bindings, chunks = get(folder, b"bindings"), get(folder, b"tables")
    headers = sorted(key for key in bindings if key[:1] == b"X")[:4]
    put(folder, b"bindings", {key: flipped(bindings[key], 2) for key in headers})
    key = number(vm) + number(2)
    put(folder, b"tables", {key: flipped(chunks[key])})
    done = repair_store(folder, None)
    assert done.repair.is_proven
    verify(done, model, {"/guests/vm.mem": set(range(2 * CHUNK, 3 * CHUNK))})


def test_where_nothing_tells_of_a_chunk_any_hole_may_be_it(folder: Path, model: Model) -> None:
    vm = model.inodes["/guests/vm.mem"]
    key = number(vm) + number(2)
    put(folder, b"tables", {key: None})
    put(folder, b"bindings", {Kind.TABLE.value + key: None})
    done = repair_store(folder, None)
    assert not done.repair.is_proven
    lost = model.holes()
    lost["/guests/vm.mem"] |= set(range(2 * CHUNK, 3 * CHUNK))
    verify(done, model, lost)


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_damaged_commit_record_costs_nothing(folder: Path, model: Model, how: str) -> None:
    record = get(folder, b"settings")[b"commit"]
    put(folder, b"settings", {b"commit": None if how == "gone" else flipped(record)})
    done = repair_store(folder, None)
    verify(done, model, {})


def test_a_damaged_dictionary(folder: Path, model: Model) -> None:
    codecs = {identity for identity, item in model.objects if item.codec == Codec.ZSTD_DICTIONARY}
    assert codecs
    flip_value(folder, Kind.SETTING, b"dictionary/0")
    verify(repair_store(folder, None), model, model.pages_of(codecs))


@pytest.mark.parametrize("setting", ["recipe", "created", "counters", "id"])
def test_other_settings_cost_no_page(folder: Path, model: Model, setting: str) -> None:
    flip_value(folder, Kind.SETTING, setting.encode())
    done = repair_store(folder, None)
    verify(done, model, {})
    assert any(setting in note for note in done.repair.notes)


def test_a_volume_that_lost_its_name(folder: Path, model: Model) -> None:
    clone = model.inodes["/guests/old/clone.mem"]
    flip_value(folder, Kind.INODE, number(clone))
    done = repair_store(folder, None)
    name = f"/lost+found/inode-{clone}"
    verify(done, model, {}, {"/guests/old/clone.mem": name})
    assert any(name in text for text in done.repair.moved)


def test_directories_that_lost_their_names(folder: Path, model: Model) -> None:
    with Store.open(folder, read_only=True) as store:
        guests = store.namespace.lookup("/guests").number
    put(folder, b"inodes", {number(guests): None})
    done = repair_store(folder, None)
    place = f"/lost+found/inode-{guests}"
    renamed = {f"/guests/{name}": f"{place}/{name}" for name in ("vm.mem", "old/clone.mem")}
    verify(done, model, {}, renamed)


def test_a_lost_root(folder: Path, model: Model) -> None:
    flip_value(folder, Kind.INODE, number(1))
    done = repair_store(folder, None)
    verify(done, model, {})
    assert done.repair.moved == ["the root directory: its owner, mode and times are gone"]


def test_a_link_that_is_gone_is_told(folder: Path, model: Model) -> None:
    with Store.open(folder, read_only=True) as store:
        link = store.namespace.lookup("/link").number
    flip_value(folder, Kind.INODE, number(link))
    done = repair_store(folder, None)
    assert done.repair.has_lost
    assert any(f"inode {link}:" in text for text in done.repair.gone)
    verify(done, model, {})


def test_an_image_that_lost_its_record_leaves_its_parts(folder: Path, model: Model) -> None:
    with Store.open(folder, read_only=True) as store:
        image = store.namespace.lookup("/suspended.save")
    flip_value(folder, Kind.INODE, number(image.number))
    done = repair_store(folder, None)
    parts = (image.skeleton, image.memory)
    verify(done, model, {}, {f"inode {part}": f"/lost+found/inode-{part}" for part in parts})


def test_a_part_of_an_image_that_lost_its_record(folder: Path, model: Model) -> None:
    """What the image holds of it is there."""
    with Store.open(folder, read_only=True) as store:
        image = store.namespace.lookup("/suspended.save")
    flip_value(folder, Kind.INODE, number(image.memory))
    done = repair_store(folder, None)
    verify(done, model, {})
    with Store.open(folder, read_only=True) as store:
        assert store.namespace.lookup("/suspended.save").memory == image.memory


def test_an_image_with_a_part_of_which_nothing_is_left(folder: Path, model: Model) -> None:
    with Store.open(folder, read_only=True) as store:
        image = store.namespace.lookup("/suspended.save")
    put(folder, b"inodes", {number(image.memory): None})
    put(folder, b"tables", {number(image.memory) + number(0): None})
    bindings: dict[bytes, bytes | None] = {Kind.INODE.value + number(image.memory): None}
    bindings[Kind.TABLE.value + number(image.memory) + number(0)] = None
    put(folder, b"bindings", bindings)
    done = repair_store(folder, None)
    assert any("an image of which a part is gone" in text for text in done.repair.gone)
    contents = contents_of(folder)
    skeleton = b"".join(page or b"" for page in contents[f"/lost+found/inode-{image.skeleton}"])
    assert skeleton == model.contents[f"inode {image.skeleton}"]


def test_volumes_that_were_being_removed_stay_removed(folder: Path, model: Model) -> None:
    with OpenStore(folder) as opened:
        volume = model.inodes["/small.mem"]
        opened.store.namespace.unlink("/small.mem")
        opened.store.remove(volume)
        opened.store.commit()
        opened.store.abandon()
    flip_value(folder, Kind.SETTING, b"counters")
    done = repair_store(folder, None)
    assert "/small.mem" not in contents_of(folder)
    assert not done.repair.lost


# ------------------------------------------------------------------- where nothing can be saved


def test_an_index_that_is_gone_or_cut(folder: Path) -> None:
    data = folder / "index-2" / "data.mdb"
    whole = data.read_bytes()
    for content in (None, b"", whole[:4096], whole[:100], bytes(len(whole))):
        if content is None:
            data.unlink()
        else:
            data.write_bytes(content)
        if content == whole[:4096]:
            continue  # a meta page is left, and nothing else
        with pytest.raises(CorruptStore, match="nothing can be saved"):
            repair_store(folder, None)
        assert os.listdir(folder.parent) == ["s"]


def test_an_index_that_has_gone_back_in_time(folder: Path) -> None:
    data = folder / "index-2" / "data.mdb"
    before = data.read_bytes()
    with OpenStore(folder) as opened:
        opened.write(opened.new_volume("later.mem"), 0, guest_memory(20, 5))
    data.write_bytes(before)
    with pytest.raises(CorruptStore, match="all of it is of an earlier time"):
        repair_store(folder, None)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_block_of_the_index_is_damaged(folder: Path, model: Model, seed: int) -> None:
    """Nothing that is saved is wrong, whatever it is that is lost."""
    random = Random(seed)
    data = folder / "index-2" / "data.mdb"
    content = bytearray(data.read_bytes())
    blocks = len(content) // PAGE
    for _ in range(1 + seed % 3):
        at = PAGE * random.randrange(blocks)
        kind = random.randrange(3)
        if kind == 0:
            content[at : at + PAGE] = bytes(PAGE)
        elif kind == 1:
            content[at + random.randrange(PAGE)] ^= 1 << random.randrange(8)
        else:
            other = PAGE * random.randrange(blocks)
            content[at : at + PAGE] = content[other : other + PAGE]
    data.write_bytes(content)
    try:
        done = repair_store(folder, None)
    except CorruptStore:
        return
    numbers = {number: name for name, number in model.inodes.items()}
    with Store.open(folder, read_only=True) as store:
        assert {each.kind for each in store.check()} <= {"lost"}
        inodes = [each for each in store.namespace if each.is_volume]
        for inode in inodes:
            before = model.contents[numbers[inode.number]]
            found = read(store, inode.number, 0, page_count(inode.size))
            for page, now in enumerate(found):
                assert now in (None, before[PAGE * page : PAGE * (page + 1)]), page
    assert done.repair.has_lost or len(inodes) == len(numbers)


# ---------------------------------------------------------------------------- where it is put


def test_a_repair_that_was_cut_off_is_made_anew(
    folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_value(folder, Kind.SETTING, b"counters")

    def interrupted(_self: object, _directory: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("difffs.store.repair.StoreRepair.save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            repair_store(folder, None)
    assert os.listdir(folder.parent) == ["s"]
    left = folder.with_name("s.repaired")
    left.mkdir()
    (left / "repair-unfinished").write_text("")
    (left / "payloads").write_bytes(b"half")
    verify(repair_store(folder, None), model, {})


def test_what_is_in_the_way_is_left_alone(folder: Path) -> None:
    flip_value(folder, Kind.SETTING, b"counters")
    left = folder.with_name("s.repaired")
    left.mkdir()
    (left / "precious").write_text("mine")
    with pytest.raises(NotAStore, match="there already"):
        repair_store(folder, None)
    assert (left / "precious").read_text() == "mine"
    with pytest.raises(NotAStore, match="there already"):
        repair_store(folder, left)
    (left / "precious").unlink()
    assert repair_store(folder, left).store == left
    folder.with_name("s.damaged").mkdir()
    assert repair_store(folder, folder.with_name("elsewhere")).damaged is None
    shutil.rmtree(left)
    assert repair_store(folder, None).damaged == folder.with_name("s.damaged-2")


def test_a_store_that_is_written_is_not_repaired(folder: Path) -> None:
    with Store.open(folder), pytest.raises(StoreBusy):
        repair_store(folder, None)


def test_a_file_system_that_exchanges_no_names(
    folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(one: Path, _other: Path) -> None:
        raise OSError(22, "Invalid argument", str(one))

    monkeypatch.setattr("difffs.store.repairing.exchange", refused)
    flip_value(folder, Kind.SETTING, b"counters")
    done = repair_store(folder, None)
    assert sorted(os.listdir(folder.parent)) == ["s", "s.damaged"]
    verify(done, model, {})


def test_a_store_of_version_1() -> None:
    with scratch() as place:
        folder = unpack(place)
        model = Model(folder)
        done = repair_store(folder, place / "clean")
        assert not done.repair.has_lost
        verify(done, model, {})
        assert read_format(done.store).version == 2
        shutil.rmtree(place / "again")
        with lmdb.open(str(folder / "index"), max_dbs=4, map_size=1 << 30) as environment:
            tables = environment.open_db(b"tables", create=False)
            with environment.begin(write=True) as transaction:
                key, value = next(iter(transaction.cursor(db=tables)))
                transaction.put(key, flipped(value), db=tables)
        done = repair_store(folder, None)
        numbers = {inode: name for name, inode in model.inodes.items()}
        name, chunk = numbers[int.from_bytes(key[:4], "big")], int.from_bytes(key[4:], "big")
        end = min(len(model.ids[name]), CHUNK * (chunk + 1))
        verify(done, model, {name: set(range(CHUNK * chunk, end))})


# --------------------------------------------------------------------------------- the command


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--repair", str(folder)]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    with Store.open(folder, read_only=True) as store:
        small = store.namespace.lookup("/small.mem").number
    put(folder, b"tables", {number(small) + number(0): None})
    into = folder.with_name("clean")
    assert main(["check", "--json", "--repair-into", str(into), str(folder)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["lost"] == [{"volume": "/small.mem", "pages": 10, "runs": [[0, 10]]}]
    assert (told["lost_pages"], told["lost_before"], told["proven"]) == (10, 0, True)
    assert (told["repaired_store"], told["damaged_store"]) == (str(into), None)
    assert (told["gone"], told["renamed"], told["clean"]) == ([], [], False)
    assert main(["check", "--repair", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "lost: pages 0 to 9 of volume /small.mem" in out
    assert f"{folder}.damaged: the damaged store as it was" in out
    assert main(["check", "--repair", str(folder)]) == 0
    assert main(["check", str(folder)]) == 1, "the lost pages are findings"
    assert main(["check", "--repair", "--no-payloads", str(folder)]) == 2


def test_lost_pages_are_unlike_zeros_and_holes() -> None:
    assert len({LOST, HOLE, ZERO}) == 3


@pytest.mark.parametrize("what", ["volume", "directory", "root's volume", "payloads"])
def test_domains_stay_apart(what: str) -> None:
    with scratch() as place:
        folder = place / "s"
        with OpenStore(folder, domains=True) as opened:
            namespace = opened.store.namespace
            for name in ("one", "two"):
                namespace.mkdir(f"/{name}")
                opened.write(opened.new_volume(f"{name}/a.mem"), 0, guest_memory(1, 80))
            opened.write(opened.new_volume("b.mem"), 0, guest_memory(1, 40))
            paths = ("/one/a.mem", "/one", "/b.mem")
            numbers = {path: namespace.lookup(path).number for path in paths}
        model = Model(folder)
        volume, directory, root = numbers.values()
        gone = {"volume": volume, "directory": directory, "root's volume": root}.get(what)
        lost: Pages = {}
        renamed = {}
        if gone is not None:
            flip_value(folder, Kind.INODE, number(gone))
        if what == "volume":
            renamed = {"/one/a.mem": f"/one/lost+found/inode-{volume}"}
        elif what == "directory":
            renamed = {"/one/a.mem": f"/lost+found-{directory}/inode-{directory}/a.mem"}
        elif what == "root's volume":
            renamed = {"/b.mem": f"/inode-{root}"}
        else:
            item = model.objects.get(model.ids["/two/a.mem"][3])
            assert item is not None
            flip_payloads(folder, [item.position])
            lost = model.pages_of({model.ids["/two/a.mem"][3]})
        verify(repair_store(folder, None), model, lost, renamed)
