"""Refining a store: what it holds stays, byte for byte, and takes less room."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs import stats
from difffs._kernels import Context, Group, GroupEncoder
from difffs.codec import GroupCodec
from difffs.errors import StoreFull
from difffs.page import PAGE_SIZE
from difffs.refine.refiner import Progress, Refiner
from difffs.refine.tiers import COLD, REST, TIERS, UNDER_WAY, Tier
from difffs.refine.window import windows
from difffs.store import Store
from tests.pages import guest_memory, random_page, same_filled_page, similar_page
from tests.stores import OpenStore, new_file, open_volumes, scratch, small_disk

PAGES = 800
BOTH = pytest.mark.parametrize("tier", TIERS.values(), ids=lambda tier: tier.name)


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as place:
        yield place


@pytest.fixture
def opened(folder: Path) -> Iterator[OpenStore]:
    """A store with one volume of a guest's memory, and what never gets smaller."""
    with OpenStore(folder / "s") as store:
        volume = store.new_volume("vm")
        store.write(volume, 0, CONTENT)
        store.store.commit()
        yield store


def _content() -> bytes:
    random = Random(7)
    others = [random_page(random) for _ in range(40)]
    others += [same_filled_page(random) for _ in range(20)]
    return guest_memory(3, PAGES) + b"".join(others)


CONTENT = _content()
COUNT = len(CONTENT) // PAGE_SIZE


def volume_of(opened: OpenStore) -> int:
    return opened.store.namespace.lookup("/vm").number


def content(opened: OpenStore) -> bytes:
    return opened.read(volume_of(opened), 0, COUNT)


def refine(opened: OpenStore, tier: Tier = COLD, workers: int = 1) -> Progress:
    return Refiner(opened.store, tier, workers=workers).run()


@BOTH
@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_bytes_take_less_room(opened: OpenStore, tier: Tier, workers: int) -> None:
    before = opened.store.occupancy().stored
    done = refine(opened, tier, workers)
    assert done.finished
    assert done.members > PAGES // 4
    assert done.bytes_after < done.bytes_before
    assert content(opened) == CONTENT
    opened.assert_clean()
    opened.reopen()
    assert content(opened) == CONTENT
    opened.assert_clean()
    after = opened.store.occupancy()
    assert after.stored < before
    assert after.slack < 0.1 * after.payload


def test_rest_is_denser_than_cold_and_takes_its_pages_over(opened: OpenStore) -> None:
    refine(opened, COLD)
    cold = opened.store.occupancy().payload
    done = refine(opened, REST)
    assert done.members > PAGES // 4
    assert opened.store.occupancy().payload < cold
    assert content(opened) == CONTENT
    counts = opened.store.group_counts
    assert counts[GroupCodec.LZMA][2] > 4 * counts[GroupCodec.ZSTD][2]
    opened.assert_clean()


@BOTH
def test_what_was_refined_is_not_tried_again(opened: OpenStore, tier: Tier) -> None:
    refine(opened, tier)
    opened.reopen()
    again = refine(opened, tier)
    assert (again.finished, again.pages, again.members) == (True, 0, 0)
    assert refine(opened, COLD).pages == 0  # neither for a lower tier


def test_windows_are_small_where_room_is_scarce(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difffs.refine.window.WINDOW_WHEN_SCARCE", 300)
    (large,) = windows(opened.store, COLD, sparse=False)
    monkeypatch.setattr(Store, "is_scarce", True)
    small = list(windows(opened.store, COLD, sparse=False))
    assert len(small) > 1
    assert [each for window in small for each in window.ids] == list(large.ids)


def test_pages_that_come_later_have_their_turn(opened: OpenStore) -> None:
    refine(opened)
    later = guest_memory(99, 200)
    volume = opened.new_volume("later")
    opened.write(volume, 0, later)
    done = refine(opened)
    assert 100 < done.pages <= 200
    assert opened.read(volume, 0, 200) == later
    assert content(opened) == CONTENT
    opened.assert_clean()


def test_pages_that_are_written_again_share_members_and_are_patches_of_them(
    opened: OpenStore,
) -> None:
    refine(opened)
    before = opened.store.page_counts()
    again = opened.new_volume("again")
    opened.write(again, 0, CONTENT)
    counts = opened.store.page_counts()
    assert counts["identical"] - before["identical"] >= 0.9 * PAGES - counts["zero"]
    random = Random(1)
    alike = b"".join(
        similar_page(CONTENT[i * PAGE_SIZE : (i + 1) * PAGE_SIZE], random, 2)
        for i in range(0, PAGES, 10)
    )
    volume = opened.new_volume("alike")
    opened.write(volume, 0, alike)
    assert opened.store.page_counts()["patch"] > before["patch"]
    assert opened.read(volume, 0, PAGES // 10) == alike
    assert opened.read(again, 0, COUNT) == CONTENT
    opened.assert_clean()


def test_pages_of_rest_are_no_bases(opened: OpenStore) -> None:
    refine(opened, REST)
    random = Random(1)
    alike = similar_page(CONTENT[:PAGE_SIZE], random, 2)
    for page in range(PAGES):
        base = CONTENT[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
        if opened.object_of(volume_of(opened), page) > 255 and len(set(base)) > 30:
            alike = similar_page(base, random, 2)
            break
    volume = opened.new_volume("alike")
    before = opened.store.page_counts()["patch"]
    opened.write(volume, 0, alike)
    assert opened.store.page_counts()["patch"] == before
    assert opened.read(volume) == alike


@BOTH
def test_dead_members_go_and_groups_that_lack_many_are_packed_anew(
    opened: OpenStore, tier: Tier
) -> None:
    refine(opened, tier)
    random = Random(2)
    expected = bytearray(CONTENT)
    for page in random.sample(range(PAGES), PAGES // 2):
        opened.write(volume_of(opened), page, bytes(PAGE_SIZE))
        expected[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = bytes(PAGE_SIZE)
    opened.store.commit()
    gone = sum(gone for *_others, gone in opened.store.group_counts.values())
    assert gone > PAGES // 8
    slack = opened.store.occupancy().slack
    assert refine(opened, tier).members > 0
    assert sum(gone for *_others, gone in opened.store.group_counts.values()) < gone // 4
    assert opened.store.occupancy().slack < slack
    assert content(opened) == expected
    opened.assert_clean()


def test_nothing_is_left_of_a_volume_that_is_removed(opened: OpenStore) -> None:
    refine(opened)
    opened.remove(volume_of(opened))
    opened.assert_clean()
    assert opened.store.object_count() == 0
    assert set(opened.store.group_counts.values()) == {(0, 0, 0, 0)}
    opened.reopen()
    assert opened.store.occupancy().payload == 0


def test_domains_have_groups_of_their_own_and_no_dictionary(folder: Path) -> None:
    with OpenStore(folder / "s", domains=True) as opened:
        pages = guest_memory(5, 600)
        volumes = [opened.new_volume(f"{name}/vm") for name in ("a", "b")]
        for volume in volumes:
            opened.write(volume, 0, pages)
        assert refine(opened).members > 300
        for volume in volumes:
            assert opened.read(volume, 0, 600) == pages
        assert opened.store.group_counts[GroupCodec.ZSTD_DICTIONARY][0] == 0
        opened.assert_clean()


def test_large_windows_give_the_store_a_dictionary_of_groups(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difffs.refine.refiner._SAMPLES", 800)
    pages = guest_memory(12, 1600)
    with OpenStore(folder / "s") as opened:
        volume = opened.new_volume("vm")
        opened.write(volume, 0, pages)
        refine(opened, workers=2)
        assert opened.store.group_dictionary is not None
        assert opened.store.group_counts[GroupCodec.ZSTD_DICTIONARY][2] > 300
        assert opened.read(volume, 0, 1600) == pages
        opened.assert_clean()
        opened.reopen()
        assert opened.read(volume, 0, 1600) == pages
        opened.assert_clean()


@BOTH
def test_it_ends_when_it_is_told_to_and_goes_on_from_there(opened: OpenStore, tier: Tier) -> None:
    def after_some() -> None:
        if refiner.progress.groups == 3:
            refiner.stop()

    refiner = Refiner(opened.store, tier, give_way=after_some)
    first = refiner.run()
    assert not first.finished
    assert 0 < first.members < PAGES // 2
    opened.assert_clean()
    opened.reopen()
    assert content(opened) == CONTENT
    second = refine(opened, tier)
    assert second.finished
    assert second.pages <= COUNT - first.members
    assert content(opened) == CONTENT
    opened.assert_clean()


def test_no_time_is_no_harm(opened: OpenStore) -> None:
    done = Refiner(opened.store, COLD).run(seconds=0)
    assert not done.finished
    assert done.members == 0
    opened.assert_clean()
    assert refine(opened).members > 0


def test_what_is_appended_meanwhile_is_no_part_of_what_was_tried(opened: OpenStore) -> None:
    """Its extent is fresh again."""
    extra = guest_memory(50, 30)
    volume = opened.new_volume("extra")
    written = False

    def write_some() -> None:
        nonlocal written
        if not written:
            written = True
            opened.write(volume, 0, extra)

    Refiner(opened.store, COLD, give_way=write_some).run()
    assert refine(opened).pages >= 10
    assert opened.read(volume, 0, 30) == extra
    opened.assert_clean()


def test_a_crash_while_extents_are_under_way_leaves_them_fresh(opened: OpenStore) -> None:
    with opened.store.lock:
        numbers = [
            n for n in range(1, opened.store.extents.count) if opened.store.extents.in_use(n)
        ]
    opened.store.note_refined(numbers, UNDER_WAY)
    opened.store.commit()
    opened.crash()
    assert refine(opened).members > PAGES // 4
    opened.assert_clean()


def test_a_crash_leaves_the_last_commit(opened: OpenStore) -> None:
    def stop_committing() -> None:
        if refiner.progress.members > 200:
            raise InterruptedError

    refiner = Refiner(opened.store, COLD, commit=lambda: None, give_way=stop_committing)
    with pytest.raises(InterruptedError):
        refiner.run()
    opened.crash()
    assert sum(opened.store.group_counts[GroupCodec.ZSTD]) == 0
    assert content(opened) == CONTENT
    opened.assert_clean()
    assert refine(opened).members > PAGES // 4


# -- one group ---------------------------------------------------------------------------------


def gathered(opened: OpenStore, first: int, count: int) -> Group:
    ids = opened.store.lookup(volume_of(opened), first, count)
    group = Group()
    opened.store.prepare(ids)
    assert group.gather(opened.store.extents, Context(), ids) == 0
    group.encode(GroupEncoder(GroupCodec.LZMA))
    return group


def test_objects_that_changed_meanwhile_stay_out(opened: OpenStore) -> None:
    """Ids are given out again: what has one now may be another page."""
    group = gathered(opened, 100, 64)
    kept = set(group.ids())
    volume = volume_of(opened)
    for page in range(100, 130):
        opened.write(volume, page, bytes(PAGE_SIZE))
    opened.store.settle()
    random = Random(3)
    fresh = b"".join(random_page(random) for _ in range(400))
    other = opened.new_volume("other")
    opened.write(other, 0, fresh)
    members = opened.store.adopt_group(group)
    assert members < len(kept)
    assert opened.read(other, 0, 400) == fresh
    assert content(opened)[130 * PAGE_SIZE :] == CONTENT[130 * PAGE_SIZE :]
    opened.assert_clean()


def test_objects_that_moved_meanwhile_are_compared_and_taken(opened: OpenStore) -> None:
    group = gathered(opened, 0, 64)
    while opened.store.reclaim(dead_share=0):
        opened.store.commit()
    for page in range(500, 700):  # dead bytes in all extents
        opened.write(volume_of(opened), page, bytes(PAGE_SIZE))
    opened.store.commit()
    while opened.store.reclaim(dead_share=0):
        opened.store.commit()
    assert opened.store.adopt_group(group) == len(group)
    assert content(opened)[: 64 * PAGE_SIZE] == CONTENT[: 64 * PAGE_SIZE]
    opened.assert_clean()


def test_a_group_that_is_not_worth_it_any_more_changes_nothing(opened: OpenStore) -> None:
    group = gathered(opened, 0, 64)
    opened.remove(volume_of(opened))
    assert opened.store.adopt_group(group) == 0
    assert opened.store.group_counts[GroupCodec.LZMA] == (0, 0, 0, 0)
    opened.assert_clean()


def test_groups_of_nothing_and_of_words_are_empty(opened: OpenStore) -> None:
    same = gathered(opened, PAGES + 40, 20)
    assert len(same) == 0
    assert same.content() == b""
    assert same.length == 0


@given(st.integers(0, 2**32))
@settings(max_examples=5, deadline=None)
def test_any_order_of_changes_and_passes(seed: int) -> None:
    """A model: two volumes that are overwritten, punched and refined to either tier."""
    random = Random(seed)
    with scratch() as place, OpenStore(place / "s") as opened:
        volume = opened.new_volume("vm", 300)
        model = bytearray(300 * PAGE_SIZE)
        for _ in range(12):
            first, count = random.randrange(250), random.randint(1, 50)
            kind = random.randrange(6)
            start, end = first * PAGE_SIZE, (first + count) * PAGE_SIZE
            if kind < 3:
                pages = guest_memory(random.randrange(5), count)
                opened.write(volume, first, pages)
                model[start:end] = pages
            elif kind == 3:
                opened.store.make_hole(volume, first, first + count)
                model[start:end] = bytes(end - start)
            elif kind == 4:
                refine(opened, random.choice([COLD, REST]))
            elif random.random() < 0.5:
                opened.reopen()
            else:
                opened.store.commit()
                opened.crash()
            assert opened.read(volume, 0, 300) == model
        refine(opened, random.choice([COLD, REST]))
        assert opened.read(volume, 0, 300) == model
        opened.assert_clean()


# -- in a live store ---------------------------------------------------------------------------


@BOTH
def test_writers_and_readers_go_on_beside_it(folder: Path, tier: Tier) -> None:
    with open_volumes(folder) as volumes:
        inode = new_file(volumes)
        volumes.write(inode, 0, CONTENT)
        volumes.flush()
        model = bytearray(CONTENT)
        refiner = Refiner(
            volumes.store,
            tier,
            on_routing_thread=volumes.on_routing_thread,
            commit=volumes.commit,
        )
        errors: list[BaseException] = []

        def run() -> None:
            try:
                refiner.run()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        random = Random(4)
        while thread.is_alive():
            page = random.randrange(PAGES)
            start = page * PAGE_SIZE
            if page > PAGES // 2 and random.random() < 0.3:  # the rest may join groups
                data = similar_page(bytes(model[start : start + PAGE_SIZE]), random)
                volumes.write(inode, start, data)
                model[start : start + PAGE_SIZE] = data
            if random.random() < 0.02:
                volumes.flush()
            assert volumes.read(inode, start, PAGE_SIZE) == model[start : start + PAGE_SIZE]
        thread.join()
        assert errors == []
        assert refiner.progress.members > 0
        volumes.flush()
        assert volumes.read(inode, 0, len(model)) == model
        assert volumes.failed is None


def test_jobs_of_the_routing_thread_raise_where_they_were_given(folder: Path) -> None:
    with open_volumes(folder) as volumes:

        def full() -> None:
            raise StoreFull("no room")

        with pytest.raises(StoreFull, match="no room"):
            volumes.on_routing_thread(full)
        assert volumes.failed is None
        done: list[str] = []
        volumes.on_routing_thread(lambda: done.append(threading.current_thread().name))
        assert done == ["difffs-router"]


# -- statistics --------------------------------------------------------------------------------


def test_what_statistics_tell_of_tiers(opened: OpenStore) -> None:
    before = stats.collect(opened.store)
    assert before["tiers"]["cold"] == {"objects": 0, "bytes": 0, "groups": 0, "gone": 0}
    done = refine(opened)
    after = stats.collect(opened.store)
    assert after["pages"]["total"] == before["pages"]["total"]
    tiers = after["tiers"]
    assert tiers["cold"]["objects"] == done.members
    assert tiers["cold"]["groups"] == done.groups
    assert tiers["none"]["objects"] + tiers["cold"]["objects"] == after["objects"] - done.groups
    assert tiers["none"]["bytes"] + tiers["cold"]["bytes"] == after["bytes"]["payload"]
    opened.reopen()
    content(opened)
    reads = stats.collect(opened.store)["tiers"]["reads"]
    assert reads["pages"] >= done.members
    assert done.members <= reads["decoded"] <= 16 * reads["pages"]
    usage = opened.store.volume_usage(volume_of(opened))
    held = opened.store.occupancy().payload
    assert 0.95 * held < usage.stored < 1.2 * held


def test_a_full_disk_harms_nothing_and_with_room_it_goes_on(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    with small_disk(tmp_path / "disk", 24 << 20) as disk, OpenStore(disk / "s") as opened:
        volume = opened.new_volume("vm")
        opened.write(volume, 0, CONTENT)
        opened.store.commit()
        opened.store.hold_reserve()
        filler = disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, opened.store.free_bytes() - (64 << 10))
        with suppress(StoreFull):  # with so little room it may come to its end, or not
            refine(opened)
        assert opened.read(volume, 0, COUNT) == CONTENT
        filler.unlink()
        opened.store.give_reserve_back()
        assert refine(opened).finished
        assert opened.read(volume, 0, COUNT) == CONTENT
        opened.assert_clean()
