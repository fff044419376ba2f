"""The store: creation, opening, recipes, commits and what survives what."""

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from difffs.errors import (
    CorruptStore,
    FormatTooNew,
    NotAStore,
    RecipeMismatch,
    StoreBusy,
    UsageError,
)
from difffs.recipe import RECIPES
from difffs.store import Store
from tests.pages import compressible_page, guest_memory, random_page, similar_page
from tests.stores import OpenStore

PAGE = 4096


# -- making and opening --------------------------------------------------------------------------


def test_a_new_store_is_empty_clean_and_private(tmp_path: Path) -> None:
    with Store.create(tmp_path / "deep" / "store") as store:
        assert store.recipe.name == "default"
        assert store.page_counts()["total"] == 0
        assert store.object_count() == 0
        assert store.check() == []
        assert 0 < store.occupancy().stored < 200_000
    names = {"format", "lock", "index-2", "payloads", "digests", "sketches"}
    assert set(os.listdir(tmp_path / "deep" / "store")) == names


def test_an_empty_directory_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    with Store.create(tmp_path, "fast") as store:
        assert store.recipe == RECIPES["fast"]
    with Store.open(tmp_path) as store:
        assert store.recipe == RECIPES["fast"]


def test_a_directory_with_files_does_not(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(NotAStore, match="neither a difffs store nor empty"):
        Store.create(tmp_path)
    with pytest.raises(NotAStore, match="is not a difffs store"):
        Store.open_or_create(tmp_path)
    assert os.listdir(tmp_path) == ["precious"]


def test_a_file_does_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotAStore, match="name another"):
            Store.create(path)
        with pytest.raises(NotAStore):
            Store.open(path)


def test_an_unknown_recipe_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe 'best'; there are: default"):
        Store.create(tmp_path / "s", "best")
    assert not (tmp_path / "s").exists()


def test_a_failure_while_making_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_store: Path, _store_id: bytes) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "s").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("difffs.store.format.write_format", fail)
        with pytest.raises(Exception, match="no space left"):
            Store.create(tmp_path / "s")
    assert os.listdir(tmp_path / "s") == []
    Store.create(tmp_path / "s").close()


def test_two_cannot_have_it_open(tmp_path: Path) -> None:
    with Store.create(tmp_path / "s") as store:
        store.set_lock_note("process 1\nmounted on /mnt")
        for read_only in (False, True):
            with pytest.raises(StoreBusy, match="mounted on /mnt"):
                Store.open(tmp_path / "s", read_only=read_only)
    with Store.open(tmp_path / "s", read_only=True) as store:
        assert store.read_only
        assert store.check() == []
        for read_only in (False, True):
            with pytest.raises(StoreBusy):
                Store.open(tmp_path / "s", read_only=read_only)
        reader = (
            "import sys; from difffs.store import Store\n"
            "with Store.open(sys.argv[1], read_only=True) as store: print(store.check())"
        )
        done = subprocess.run(
            [sys.executable, "-c", reader, tmp_path / "s"], capture_output=True, check=True
        )
        assert done.stdout == b"[]\n"


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    store.close()
    store.close()
    store.abandon()


def test_an_error_inside_with_abandons(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), OpenStore(tmp_path / "s") as opened:
        opened.write(opened.new_volume("a"), 0, bytes(PAGE))
        raise ZeroDivisionError
    with Store.open(tmp_path / "s") as store:
        assert store.namespace.volumes() == []


@pytest.mark.parametrize("missing", ["payloads", "index-2/data.mdb", "index-2", "format"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "s"
    with OpenStore(path) as opened:
        opened.write(opened.new_volume("a"), 0, guest_memory(1, 10))
    (path / missing).rename(tmp_path / "away")
    expected = NotAStore if missing == "format" else CorruptStore
    for read_only in (False, True):
        with pytest.raises(expected, match=missing):
            Store.open(path, read_only=read_only)
    (tmp_path / "away").rename(path / missing)
    with OpenStore(path) as opened:
        opened.assert_clean()


@pytest.mark.parametrize("missing", ["digests", "sketches", "lock"])
def test_a_missing_helper_is_made_again(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "s"
    image = guest_memory(1, 200)
    with OpenStore(path) as opened:
        opened.write(opened.new_volume("a"), 0, image)
    (path / missing).unlink()
    with OpenStore(path) as opened:
        number = opened.store.namespace.lookup("/a").number
        assert opened.read(number, 0, 200) == image
        objects = opened.store.object_count()
        opened.write(number, 300, image)
        assert opened.store.object_count() == objects
        opened.assert_clean()


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store.create(tmp_path / "s").close()
    (tmp_path / "s" / "format").write_text("difffs store\nversion 99\n")
    with pytest.raises(FormatTooNew, match="has format 99"):
        Store.open(tmp_path / "s")


def test_modes_keep_other_users_out(tmp_path: Path) -> None:
    """Guests' memory is in it."""
    Store.create(tmp_path / "s").close()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) & 0o077 == 0


# -- recipes -------------------------------------------------------------------------------------


def test_a_recipe_is_remembered(tmp_path: Path) -> None:
    Store.create(tmp_path / "s", "compress-only").close()
    Store.open(tmp_path / "s", "compress-only").close()
    with pytest.raises(RecipeMismatch, match="has the recipe 'compress-only', not 'fast'"):
        Store.open(tmp_path / "s", "fast")
    with pytest.raises(UsageError, match="no recipe"):
        Store.open(tmp_path / "s", "best", change_recipe=True)
    with Store.open(tmp_path / "s", "fast", change_recipe=True) as store:
        assert store.recipe.name == "fast"
    with Store.open(tmp_path / "s") as store:
        assert store.recipe.name == "fast"


def test_an_abandoned_change_of_recipe_did_not_happen(tmp_path: Path) -> None:
    Store.create(tmp_path / "s", "compress-only").close()
    Store.open(tmp_path / "s", "fast", change_recipe=True).abandon()
    with OpenStore(tmp_path / "s") as opened:
        assert opened.store.recipe.name == "compress-only"
        opened.write(opened.new_volume("a"), 0, guest_memory(1, 50))
        opened.assert_clean()


@pytest.mark.parametrize("old", RECIPES)
@pytest.mark.parametrize("new", RECIPES)
def test_a_change_of_recipe_keeps_what_is_there(tmp_path: Path, old: str, new: str) -> None:
    before, after = guest_memory(1, 150), guest_memory(2, 150)
    with OpenStore(tmp_path / "s", old) as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, before)
        opened.reopen(new, change_recipe=True)
        opened.write(volume, 150, after)
        opened.assert_clean()
        opened.reopen()
        assert opened.read(volume, 0, 300) == before + after
        opened.write(volume, 0, after)
        opened.assert_clean()
        assert opened.read(volume, 0, 300) == after + after


def test_after_a_change_to_sharing_old_pages_are_shared(tmp_path: Path) -> None:
    image = guest_memory(1, 200)
    with OpenStore(tmp_path / "s", "compress-only") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, image)
        opened.reopen("default", change_recipe=True)
        objects = opened.store.object_count()
        opened.write(volume, 200, image)
        assert opened.store.object_count() == objects


# -- commits -------------------------------------------------------------------------------------


def test_only_commits_survive(tmp_path: Path) -> None:
    first, second = guest_memory(1, 300), guest_memory(2, 300)
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, first)
        opened.engine.commit()
        opened.write(volume, 100, second)
        other = opened.new_volume("b")
        opened.write(other, 0, second)
        opened.crash()
        assert [inode.name for inode in opened.store.namespace.volumes()] == ["a"]
        assert opened.store.namespace.get(volume).size == 300 * PAGE
        assert opened.read(volume, 0, 300) == first
        opened.assert_clean()
        opened.write(volume, 100, second)
        opened.assert_clean()
        opened.reopen()
        assert opened.read(volume, 0, 400) == first[: 100 * PAGE] + second


def test_abandoned_objects_leave_no_hints_behind(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, guest_memory(1, 300))
        opened.engine.commit()
        digests = sorted(opened.store.digests.pairs())
        opened.write(volume, 0, guest_memory(2, 300))
        opened.crash()
        assert sorted(opened.store.digests.pairs()) == digests
        opened.assert_clean()


def test_space_of_uncommitted_payloads_comes_back_after_a_crash(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, guest_memory(1, 500))
        opened.engine.commit()
        before = opened.store.occupancy()
        for seed in range(2, 6):
            opened.write(volume, 1000 * seed, guest_memory(seed, 1000))
        opened.crash()
        after = opened.store.occupancy()
        assert after.payload == before.payload
        assert after.slack <= before.slack + 4096


def test_a_commit_without_changes_writes_nothing(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        opened.write(opened.new_volume("a"), 0, guest_memory(1, 10))
        opened.engine.commit()
        data = tmp_path / "s" / "index-2" / "data.mdb"
        before = data.read_bytes()
        for _ in range(3):
            opened.engine.commit()
        assert data.read_bytes() == before
        assert opened.store.uncommitted == 0


def test_the_index_does_not_grow_with_the_number_of_commits(tmp_path: Path) -> None:
    random = Random(5)
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, guest_memory(1, 2000))
        opened.engine.commit()
        data = tmp_path / "s" / "index-2" / "data.mdb"
        sizes = []
        for _ in range(300):
            opened.write(volume, random.randrange(2000), compressible_page(random))
            opened.engine.commit()
            sizes.append(data.stat().st_size)
        assert sizes[-1] <= sizes[50] + (64 << 10), "free pages are used again"
        opened.close()
        assert data.stat().st_size < 4096 * 30, "closing gives free pages back"
    with OpenStore(tmp_path / "s") as opened:
        opened.assert_clean()


def test_counters_survive(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        opened.write(opened.new_volume("a"), 0, guest_memory(1, 100))
        counted = {route: list(values) for route, values in opened.store.counters.items()}
        since = opened.store.since
        assert counted["zero"][0] > 0
        opened.reopen()
        assert opened.store.counters == counted
        assert opened.store.since == since > 1e9


# -- references ----------------------------------------------------------------------------------


def test_a_base_outlives_its_own_page(tmp_path: Path) -> None:
    random = Random(3)
    base = compressible_page(random)
    similar = similar_page(base, random)
    with OpenStore(tmp_path / "s") as opened:
        one, two = opened.new_volume("one"), opened.new_volume("two")
        opened.write(one, 0, base)
        opened.write(two, 0, similar)
        assert opened.store.page_counts()["patch"] == 1
        opened.assert_clean()
        opened.write(one, 0, bytes(PAGE))
        opened.assert_clean()
        assert opened.store.object_count() == 2, "the base is kept for the patch"
        assert opened.store.page_counts()["compress"] == 0, "but it is nobody's page"
        opened.reopen()
        assert opened.read(two) == similar
        opened.write(two, 0, random.randbytes(PAGE))
        opened.assert_clean()
        assert opened.store.object_count() == 1, "patch and base are gone"


def test_a_base_outlives_its_volume(tmp_path: Path) -> None:
    random = Random(3)
    bases = [compressible_page(random) for _ in range(300)]
    similar = b"".join(similar_page(base, random) for base in bases)
    with OpenStore(tmp_path / "s") as opened:
        one, two = opened.new_volume("one"), opened.new_volume("two")
        opened.write(one, 0, b"".join(bases))
        opened.write(two, 0, similar)
        patched = opened.store.page_counts()["patch"]
        assert patched > 200
        opened.remove(one)
        opened.assert_clean()
        opened.reopen()
        assert opened.read(two, 0, 300) == similar
        assert opened.store.page_counts()["patch"] == patched
        opened.remove(two)
        opened.assert_clean()
        assert opened.store.object_count() == 0
        assert opened.store.occupancy().payload == 0


def test_a_base_that_became_a_page_again_is_shared(tmp_path: Path) -> None:
    random = Random(3)
    base = compressible_page(random)
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, base)
        opened.write(volume, 1, similar_page(base, random))
        opened.write(volume, 0, bytes(PAGE))
        opened.write(volume, 2, base)
        assert opened.store.object_count() == 2
        opened.assert_clean()


@pytest.mark.parametrize("batch", [1, 512])
def test_a_page_shared_more_often_than_its_counter_counts(tmp_path: Path, batch: int) -> None:
    copies = 20_480 if batch == 512 else 17_000
    page = compressible_page(Random(4))
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        if batch == 1:  # up to the limit at once, then page by page
            opened.write(volume, 0, page * 15_300)
        for first in range(15_300 if batch == 1 else 0, copies, batch):
            opened.write(volume, first, page * batch)
        counts = opened.store.page_counts()
        assert counts["total"] == copies
        assert opened.store.object_count() == 2, "a second object takes over"
        opened.assert_clean()
        opened.crash()
        assert opened.read(volume, copies - 600, 600) == page * 600
        opened.write(volume, 0, bytes(PAGE) * copies)
        opened.assert_clean()
        assert opened.store.object_count() == 0


def test_a_base_with_more_patches_than_its_counter_counts(tmp_path: Path) -> None:
    random = Random(4)
    base = compressible_page(random)
    pages = b"".join(similar_page(base, random, 4) for _ in range(2000))
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, base)
        opened.write(volume, 1, pages)
        counts = opened.store.page_counts()
        assert counts["patch"] > 1400, "new bases take over"
        opened.assert_clean()
        opened.crash()
        assert opened.read(volume, 1, 2000) == pages
        opened.write(volume, 0, bytes(PAGE))
        opened.assert_clean()
        assert opened.read(volume, 1, 2000) == pages


def test_removing_a_large_volume_gives_everything_back(tmp_path: Path) -> None:
    pages = 100_000
    image = guest_memory(6, 2000)
    with OpenStore(tmp_path / "s") as opened:
        kept = opened.new_volume("kept")
        opened.write(kept, 0, image[: 500 * PAGE])
        opened.engine.commit()
        before = opened.store.occupancy()
        volume = opened.new_volume("large")
        for first in range(0, pages, 2000):
            opened.write(volume, first, image)
        assert opened.store.mapped_pages(volume) == pages
        opened.engine.commit()
        opened.remove(volume)
        opened.engine.commit()
        assert opened.store.mapped_pages(volume) == 0
        after = opened.store.occupancy()
        assert after.payload == before.payload
        opened.assert_clean()
        opened.reopen()
        assert opened.read(kept, 0, 500) == image[: 500 * PAGE]
        after = opened.store.occupancy()
        assert after.metadata <= before.metadata + (64 << 10)


@pytest.mark.parametrize("workers", [1, 2])
def test_reading_keeps_few_headers_and_page_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Once, a store that had been read from end to end was in memory with all its headers."""
    random = Random(5)
    bases = [random_page(random) for _ in range(1500)]
    image = b"".join(bases + [similar_page(base, random, 3) for base in bases])
    count = len(image) // PAGE
    with OpenStore(tmp_path / "s", workers=workers) as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, image)
        opened.reopen()
        store = opened.store
        monkeypatch.setattr("difffs.store.store.LOADED_HEADERS", 0)
        monkeypatch.setattr("difffs.store.store._SURPLUS", 0)
        monkeypatch.setattr("difffs.store.page_tables.CLEAN_CHUNKS", 0)
        assert store.page_counts()["patch"] > 1000, "reading these takes two headers"
        for page in random.sample(range(count), 300):
            assert opened.read(volume, page, 1) == image[page * PAGE : (page + 1) * PAGE]
            assert store.extents.loaded == 0
            assert not store._page_tables.chunks
        assert opened.read(volume, 0, count) == image
        assert not store._page_tables.chunks
        opened.assert_clean()


def test_a_store_that_is_moved_while_it_is_open_goes_on(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("a", 9000)
    opened.write(volume, 0, guest_memory(1, 500))
    opened.engine.commit()
    (tmp_path / "s").rename(tmp_path / "moved")
    image = guest_memory(2, 8000)  # tables and index grow
    for first in range(0, 8000, 1000):
        opened.write(volume, first, image[first * PAGE : (first + 1000) * PAGE])
        opened.engine.commit()
    assert opened.store.free_bytes() > 0
    opened.close()
    with Store.open(tmp_path / "moved") as store:
        assert store.check() == []
        out = bytearray(len(image))
        store.read_pages(volume, 0, 8000, out)
        assert out == image
