"""Domains: what lies in different directories of the root shares nothing, and is never compared."""

import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from struct import Struct

import pytest

from difffs import dictionary, stats
from difffs.codec import Codec
from difffs.errors import DomainsMismatch
from difffs.mount.live import pack_statistics, unpack_statistics
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store.bindings import Kind
from difffs.store.format import read_format
from difffs.store.index import Changes, Index
from tests.kernels import kernel_oracle as oracle
from tests.pages import compressible_page, guest_memory, random_page, similar_page
from tests.stores import OpenStore, open_volumes, scratch

_NUMBER = Struct(">I")


@contextmanager
def with_domains(path: Path, recipe: str | None = None) -> Iterator[OpenStore]:
    with OpenStore(path, recipe, domains=True) as opened:
        yield opened


def objects_of(opened: OpenStore, volume: int, count: int) -> set[int]:
    return {each for each in opened.store.lookup(volume, 0, count) if each > 255}


def test_the_same_pages_are_stored_once_a_domain(tmp_path: Path) -> None:
    pages = guest_memory(1, 400)
    with with_domains(tmp_path / "s") as opened:
        held = {}
        for name in ("root", "root2", "a/one", "a/deep", "b/one", "b/two"):
            before = opened.store.object_count()
            volume = opened.new_volume(name)
            opened.write(volume, 0, pages)
            held[name] = objects_of(opened, volume, 400)
            added = opened.store.object_count() - before
            assert added == (0 if name in ("root2", "a/deep", "b/two") else len(held["root"]))
            assert opened.read(volume, 0, 400) == pages
        assert held["a/one"] == held["a/deep"]
        assert held["root"] == held["root2"]
        assert not held["a/one"] & held["b/one"]
        assert not held["a/one"] & held["root"]
        assert opened.store.extents.refused == 0  # their tables' keys are others
        opened.assert_clean()


def test_no_page_of_another_domain_is_read_for_a_page(tmp_path: Path) -> None:
    """Neither one with the same bytes nor one like it; within the domain, both are."""
    random = Random(2)
    base = compressible_page(random)
    similar = similar_page(base, random, 3)
    with with_domains(tmp_path / "s") as opened:
        extents = opened.store.extents
        opened.write(opened.new_volume("a/base"), 0, base)
        other = opened.new_volume("b/other")
        opened.write(other, 0, base)
        opened.write(other, 1, similar)
        # each of these found its like in its own domain: the second page the first as its base
        assert extents.compared == 1
        assert opened.store.page_counts()["patch"] == 1
        opened.write(opened.new_volume("a/again"), 0, base + similar)
        assert extents.compared == 3
        assert extents.refused == 0
        assert opened.store.page_counts()["identical"] == 1


@pytest.mark.parametrize("recipe", ["default", "difference-engine", "bwt-mtf"])
def test_a_table_that_proposes_what_is_of_another_domain_is_not_followed(
    tmp_path: Path, recipe: str
) -> None:
    """By chance, or of an extent that was another's before: nothing depends on the tables."""
    page = compressible_page(Random(3))
    with with_domains(tmp_path / "s", recipe) as opened:
        store = opened.store
        mine = opened.new_volume("a/mine")
        opened.write(mine, 0, page)
        identity = opened.object_of(mine)
        theirs = opened.new_volume("b/theirs")
        mask = oracle.domain_mask(store.domain_of(theirs))
        assert store.digests.insert(oracle.digest(page) & 0xFFFFFFFF ^ mask, identity)
        compared = store.extents.compared
        opened.write(theirs, 0, page)
        assert opened.object_of(theirs) != identity
        assert store.extents.refused == 1
        assert store.extents.compared == compared


def test_zeros_need_no_object_and_words_have_one_a_domain(tmp_path: Path) -> None:
    word = b"difffs!!" * 512
    with with_domains(tmp_path / "s") as opened:
        first, second = opened.new_volume("a/v"), opened.new_volume("b/v")
        for volume in (first, second):
            opened.write(volume, 0, bytes(PAGE_SIZE) + word * 2)
        assert opened.object_of(first) == opened.object_of(second) == 255
        assert opened.object_of(first, 1) == opened.object_of(first, 2)
        assert opened.object_of(first, 1) != opened.object_of(second, 1)
        opened.assert_clean()


def test_domains_last(tmp_path: Path) -> None:
    """Over closing, a crash, lost tables, and renaming the directory."""
    pages = guest_memory(4, 200)
    with with_domains(tmp_path / "s") as opened:
        first, second = opened.new_volume("a/v"), opened.new_volume("b/v")
        opened.write(first, 0, pages)
        opened.write(second, 0, pages)
        domains = [opened.store.domain_of(volume) for volume in (first, second)]
        assert len({0, *domains}) == 3
        opened.store.commit()
        opened.crash()
        opened.reopen()
        opened.store.namespace.rename("/a", "/c")
        opened.store.namespace.rename("/b", "/a")
        opened.close()
        for name in ("digests", "sketches"):
            (tmp_path / "s" / name).unlink()
        opened._open(None, change_recipe=False)
        assert opened.store.has_domains
        assert [opened.store.domain_of(volume) for volume in (first, second)] == domains
        before = opened.store.object_count()
        again = opened.new_volume("a/again")
        opened.write(again, 0, pages)  # found again, though the tables were filled anew
        assert opened.store.object_count() == before
        assert objects_of(opened, again, 200) == objects_of(opened, second, 200)
        opened.assert_clean()


def test_a_number_is_not_given_out_again_while_pages_have_it(tmp_path: Path) -> None:
    with with_domains(tmp_path / "s") as opened:
        names = opened.store.namespace
        domain = names.domain_for("/new/v")
        orphan = names.create_orphan(domain=domain)
        names.set_size(orphan, PAGE_SIZE)
        opened.engine.write(orphan.number, [0], random_page(Random(5)))
        names.mkdir("/new", domain=domain)
        names.link(orphan.number, "/new/v")
        assert names.lookup("/new").number > domain
        names.unlink("/new/v")  # as a file that somebody still has open
        names.rmdir("/new")
        opened.store.commit()
        opened.crash()
        assert opened.store.has_removals
        assert opened.store.namespace.mkdir("/other").domain != domain
        opened.assert_clean()


def test_domains_are_for_life_or_not_at_all(tmp_path: Path) -> None:
    Store.create(tmp_path / "without").close()
    for read_only in (False, True):
        with pytest.raises(DomainsMismatch, match="made without domains"):
            Store.open(tmp_path / "without", read_only=read_only, domains=True)
    with pytest.raises(DomainsMismatch):
        Store.open_or_create(tmp_path / "without", domains=True)
    with Store.open(tmp_path / "without") as store:
        assert not store.has_domains
        assert "domains" not in stats.collect(store)
    Store.create(tmp_path / "with", domains=True).close()
    for asked in (False, True):
        with Store.open(tmp_path / "with", domains=asked) as store:
            assert store.has_domains


def test_dead_payloads_are_dropped_in_their_domain(tmp_path: Path) -> None:
    with with_domains(tmp_path / "s", "identical-only") as opened:
        random, volumes = Random(6), []
        for name in ("a/v", "b/v"):
            volumes.append(opened.new_volume(name))
            for first in range(0, 200, 20):
                opened.write(volumes[-1], first, b"".join(random_page(random) for _ in range(20)))
        opened.store.commit()
        kept = opened.read(volumes[0], 0, 200), opened.read(volumes[1], 100, 100)
        opened.store.fill(volumes[1], 0, 100, 0)
        while opened.store.uncommitted or opened.store.reclaimable:
            opened.store.commit()
        assert opened.store.occupancy().slack < 64 << 10
        assert (opened.read(volumes[0], 0, 200), opened.read(volumes[1], 100, 100)) == kept
        opened.assert_clean()


def test_only_domain_0_has_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compresses well with a dictionary tells of the pages that it was made of."""
    monkeypatch.setattr(dictionary, "SAMPLES", 64)
    monkeypatch.setattr(dictionary, "_EVERY", 1)
    random = Random(7)
    pages = b"".join(compressible_page(random) for _ in range(100))
    more = b"".join(compressible_page(random) for _ in range(30))
    with with_domains(tmp_path / "s", "dense") as opened:
        store, extents = opened.store, opened.store.extents
        opened.write(opened.new_volume("a/v"), 0, pages)
        assert store.dictionary is None  # none is trained from these
        opened.write(opened.new_volume("v"), 0, pages)
        assert store.dictionary is not None
        opened.write(opened.new_volume("a/w"), 0, more)
        assert extents.totals()[Codec.ZSTD_DICTIONARY][0] == 0
        opened.write(opened.new_volume("w"), 0, more)
        assert extents.totals()[Codec.ZSTD_DICTIONARY][0] > 0
        opened.assert_clean()  # which looks for such payloads in other domains


# -- the write buffer -----------------------------------------------------------------------------


def test_pages_of_many_domains_wait_together(tmp_path: Path) -> None:
    random = Random(11)
    shared = [compressible_page(random) for _ in range(40)]
    with open_volumes(tmp_path / "s", domains=True) as volumes:
        inodes = []
        with volumes.lock:
            inodes.append(volumes.namespace.create("/v").number)
            for name in "abcdefgh":
                volumes.namespace.mkdir(f"/{name}")
                inodes.append(volumes.namespace.create(f"/{name}/v").number)
        for page, content in enumerate(shared):
            for inode in inodes:
                volumes.write(inode, page * PAGE_SIZE, content)
        gone = inodes.pop()
        with volumes.lock:
            volumes.namespace.unlink("/h/v")
        volumes.remove(gone)
        volumes.flush()
        assert volumes.store.object_count() == len(inodes) * len(shared)
        domains = {volumes.store.domain_of(inode) for inode in inodes}
        assert len(domains) == len(inodes)
        for inode in inodes:
            assert volumes.read(inode, 0, 40 * PAGE_SIZE) == b"".join(shared)


def test_quiet_pages_of_many_domains_are_stored_by_themselves(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s", quiet_seconds=0.1, domains=True) as volumes:
        content = random_page(Random(12))
        with volumes.lock:
            inodes = []
            for name in "abc":
                volumes.namespace.mkdir(f"/{name}")
                inodes.append(volumes.namespace.create(f"/{name}/v").number)
        for inode in inodes:
            volumes.write(inode, 0, content * 2)
        while volumes.pages.waiting_count or volumes.pages.routing_count:
            volumes.pages.wake()
        with volumes.lock:
            assert volumes.store.object_count() == len(inodes)


# -- check ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store: in each of /a and /b a volume with a base and a patch of it."""
    random = Random(13)
    base = compressible_page(random)
    with with_domains(tmp_path / "s") as opened:
        for name in ("a/v", "b/v"):
            opened.write(opened.new_volume(name), 0, base)
            opened.write(
                opened.store.namespace.lookup(f"/{name}").number, 1, similar_page(base, random, 2)
            )
        assert opened.store.page_counts()["patch"] == 2
    return tmp_path / "s"


@contextmanager
def edited(folder: Path) -> Iterator[tuple[Index, Changes]]:
    """The index, and what is to be put in it, with right bindings."""
    index = Index(folder / "index-2", read_format(folder).store_id, read_only=False)
    try:
        changes = Changes(totals=list(index.commit_record.codecs))
        yield index, changes
        index.commit(changes)
    finally:
        index.close()


def domain_findings(folder: Path) -> list[str]:
    with Store.open(folder, read_only=True) as store:
        return [str(each) for each in store.check() if each.kind == "domain"]


def test_a_sound_store_with_domains(folder: Path) -> None:
    with Store.open(folder, read_only=True) as store:
        assert store.check() == []


def test_a_page_of_another_domain_is_found(folder: Path) -> None:
    """Its counts are right, and it is the page that was written: only the domain tells."""
    with Store.open(folder, read_only=True) as store:
        mine, theirs = (store.namespace.lookup(f"/{name}/v").number for name in "ab")
        own, other = (store.lookup(volume, 0, 1)[0] for volume in (mine, theirs))
    with edited(folder) as (index, changes):
        table = bytearray(index.table(mine, 0) or b"")
        assert table[16:20] == own.to_bytes(4, "little")
        table[16:20] = other.to_bytes(4, "little")
        changes.tables = [(mine, 0, memoryview(bytes(table)))]
        changes.extents = [
            with_pages(index, other, 1),
            with_pages(index, own, -1),
        ]
    assert [text for text in domain_findings(folder) if f"volume {mine}" in text] == [
        f"domain: page table of volume {mine}, chunk 0: is of domain {domain(folder, 'a')}, and"
        f" refers to object {other & 255} of extent {other >> 8} of domain {domain(folder, 'b')}"
    ]


def domain(folder: Path, name: str) -> int:
    with Store.open(folder, read_only=True) as store:
        return store.namespace.lookup(f"/{name}").domain or 0


def with_pages(index: Index, identity: int, more: int) -> tuple[int, bytes]:
    """The header of an object's extent, in which it counts more references by pages."""
    header = bytearray(index.header(identity >> 8) or b"")
    at = 16 * (identity & 255) + 4
    kind = int.from_bytes(header[at : at + 4], "little") + (more << 8)
    header[at : at + 4] = kind.to_bytes(4, "little")
    return identity >> 8, bytes(header)


def test_a_base_of_another_domain_is_found(folder: Path) -> None:
    with Store.open(folder, read_only=True) as store:
        bases = [
            store.lookup(store.namespace.lookup(f"/{name}/v").number, 0, 1)[0] for name in "ab"
        ]
        patch = store.lookup(store.namespace.lookup("/a/v").number, 1, 1)[0]
    with edited(folder) as (index, changes):
        header = bytearray(index.header(patch >> 8) or b"")
        at = 16 * (patch & 255) + 8
        assert header[at : at + 4] == bases[0].to_bytes(4, "little")
        header[at : at + 4] = bases[1].to_bytes(4, "little")
        changes.extents = [(patch >> 8, bytes(header))]
    (finding,) = domain_findings(folder)
    assert f"its base object {bases[1] & 255} of extent {bases[1] >> 8} of domain" in finding


def test_a_summary_of_another_domain_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound as it is: the header is read, and says otherwise."""
    from difffs.store import bindings

    right = bindings.summary_of
    with edited(folder) as (index, changes):
        changes.extents = [(1, bytes(index.header(1) or b""))]
        changed = bytearray(right(Kind.EXTENT, changes.extents[0][1] or b""))
        changed[4:8] = (77).to_bytes(4, "little")
        with monkeypatch.context() as patch:
            patch.setattr(
                bindings,
                "summary_of",
                lambda kind, value: bytes(changed) if kind is Kind.EXTENT else right(kind, value),
            )
            index.commit(changes)
        changes.extents = []
    assert any("its summary says 77" in text for text in domain_findings(folder))


def test_an_extent_of_a_domain_in_a_store_without_any_is_found(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        opened.write(opened.new_volume("v"), 0, random_page(Random(14)))
    with edited(tmp_path / "s") as (index, changes):
        header = bytearray(index.header(1) or b"")
        header[8:12] = (5).to_bytes(4, "little")
        changes.extents = [(1, bytes(header))]
    told = domain_findings(tmp_path / "s")
    assert any("is of domain 5, but the store has none" in text for text in told)
    assert any("refers to object 1 of extent 1 of domain 5" in text for text in told)


def test_a_payload_that_needs_another_domains_dictionary_is_found(folder: Path) -> None:
    with Store.open(folder, read_only=True) as store:
        identity = store.lookup(store.namespace.lookup("/a/v").number, 0, 1)[0]
    with edited(folder) as (index, changes):
        header = bytearray(index.header(identity >> 8) or b"")
        header[16 * (identity & 255) + 4] = Codec.ZSTD_DICTIONARY
        changes.extents = [(identity >> 8, bytes(header))]
    assert any("needs the dictionary of domain 0" in text for text in domain_findings(folder))


# -- what it costs, and is told -------------------------------------------------------------------


def test_statistics_of_domains_add_up(tmp_path: Path) -> None:
    with with_domains(tmp_path / "s") as opened:
        opened.write(opened.new_volume("v"), 0, guest_memory(15, 300))
        opened.write(opened.new_volume("a/v"), 0, guest_memory(15, 300))
        large = opened.new_volume("b/v")
        opened.write(large, 0, guest_memory(16, 900))
        opened.store.namespace.mkdir("/empty")
        opened.store.commit()
        opened.read(large, 0, 900)
        told = stats.collect(opened.store)
        domains = {each["directory"]: each for each in told["domains"]}
        assert list(domains) == ["", "a", "b", "empty"]
        assert [each["pages"] for each in told["domains"]] == [300, 300, 900, 0]
        assert told["domains"][0]["domain"] == 0
        assert sum(each["objects"] for each in domains.values()) == told["objects"]
        for size in ("logical", "payload", "stored"):
            total = sum(each["bytes"][size] for each in domains.values())
            assert abs(total - told["bytes"][size]) <= len(domains)
        for each in domains.values():
            sizes = each["bytes"]
            assert each["factor"] == (sizes["logical"] / sizes["stored"] if each["pages"] else 0.0)
        assert domains["b"]["decode_count"] > 300
        assert domains["b"]["decode_us"] > 0
        assert domains["a"]["decode_count"] == domains[""]["decode_count"] == 0
        opened.read(opened.store.namespace.lookup("/v").number, 0, 300)
        domains = {each["directory"]: each for each in stats.collect(opened.store)["domains"]}
        assert domains[""]["decode_count"] > 100
        json.dumps(told)


def test_pages_of_a_removed_directory_are_still_told(tmp_path: Path) -> None:
    with with_domains(tmp_path / "s") as opened:
        opened.write(opened.new_volume("a/v"), 0, guest_memory(17, 50))
        names = opened.store.namespace
        names.unlink("/a/v")
        names.rmdir("/a")
        told = stats.collect(opened.store)["domains"]
        assert [(each["directory"], each["pages"]) for each in told] == [("", 0), (None, 50)]


def test_a_small_domain_costs_some_kilobytes(tmp_path: Path) -> None:
    """Extents are sparse: one that is hardly filled takes a block and a header."""
    page, count = compressible_page(Random(18)), 50
    sizes = []
    for domains in (False, True):
        with scratch() as folder:
            with OpenStore(folder / "s", domains=domains) as opened:
                for at in range(count):
                    random = Random(at)
                    pages = [similar_page(page, random, 200) for _ in range(20)]
                    opened.write(opened.new_volume(f"d{at}/v"), 0, b"".join(pages))
            with Store.open(folder / "s", read_only=True) as store:
                occupancy = store.occupancy()
                sizes.append(occupancy.slack + occupancy.metadata)
    assert (sizes[1] - sizes[0]) / count < 6 << 10


def test_statistics_of_many_domains_fit_an_ioctl() -> None:
    """The largest are told, and how many are not."""
    random = Random(19)
    told = {
        "domains": [
            {
                "domain": at,
                "directory": random.randbytes(100).hex(),
                "bytes": {"stored": at},
            }
            for at in range(1000)
        ]
    }
    found = unpack_statistics(pack_statistics(told))
    kept = [each["domain"] for each in found["domains"]]
    assert kept == list(range(1000 - len(kept), 1000))
    assert len(kept) > 50
    assert found["domains_left_out"] == 1000 - len(kept)
    assert len(told["domains"]) == 1000


def test_engine_refuses_volumes_of_another_domain(tmp_path: Path) -> None:
    with with_domains(tmp_path / "s") as opened:
        volume = opened.new_volume("a/v", 1)
        ids = opened.engine.route(random_page(Random(20)))
        with pytest.raises(RuntimeError, match="of another"):
            opened.engine.adopt(ids, [(volume, array("Q", [0]), ids)])
        opened.store.extents.discard(ids)
