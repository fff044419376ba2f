"""What answers for open volumes without Python: the same bytes as the volumes, or a plain no."""

import threading
from array import array
from collections.abc import Iterator
from random import Random

import pytest

from difffs._kernels import EXTENT_SIDE_BYTES, TABLE_ENTRIES
from difffs.engine import Engine
from difffs.errors import DifffsError
from difffs.volume import Volumes
from difffs.write_buffer import page_key
from tests.pages import PAGE, guest_pages
from tests.stores import OpenStore, scratch

PAGES = TABLE_ENTRIES + 40
READER, WRITER, OTHER = 1, 2, 3


class Opened:
    """A volume of guests' pages, open to read and to write."""

    def __init__(self, opened: OpenStore) -> None:
        self.opened = opened
        self.pages = guest_pages(Random(3), PAGES)
        self.number = opened.new_volume("guest", PAGES)
        self.volumes = Volumes(Engine(opened.store), quiet_seconds=60)
        self.volumes.write(self.number, 0, b"".join(self.pages))
        self.volumes.flush()
        self.path = self.volumes.pages
        size = PAGES * PAGE
        self.path.open(READER, self.number, size, False)
        self.path.open(WRITER, self.number, size, True)

    def short(self, first: int, count: int = 1, handle: int = READER) -> bytes | None:
        return self.short_bytes(first * PAGE, count * PAGE, handle)

    def short_bytes(self, offset: int, size: int, handle: int = READER) -> bytes | None:
        out = bytearray(size)
        return bytes(out) if self.path.answer_read(handle, offset, out) else None

    def long(self, first: int, count: int = 1) -> bytes:
        return self.volumes.read(self.number, first * PAGE, count * PAGE)

    def assert_clean(self) -> None:
        self.volumes.close()
        assert self.opened.store.check() == []


@pytest.fixture
def volume() -> Iterator[Opened]:
    with scratch() as folder, OpenStore(folder / "store") as opened:
        made = Opened(opened)
        yield made
        if made.volumes.failed is None:
            made.volumes.close()
        else:
            opened.abandon()


def test_every_page_is_the_one_written(volume: Opened) -> None:
    for number, page in enumerate(volume.pages):
        assert volume.short(number) == page, number


@pytest.mark.parametrize("count", [2, 15, 16, 17, 200, PAGES])
def test_many_pages_at_once(volume: Opened, count: int) -> None:
    for first in range(0, PAGES - count + 1, 97):
        assert volume.short(first, count) == b"".join(volume.pages[first : first + count])


@pytest.mark.parametrize("offset", [1, 511, PAGE - 1])
def test_parts_of_pages_take_the_long_way(volume: Opened, offset: int) -> None:
    assert volume.short_bytes(offset, PAGE) is None
    assert volume.short_bytes(0, offset) is None
    assert not volume.path.answer_write(WRITER, offset, bytes(PAGE))
    assert not volume.path.answer_write(WRITER, 0, bytes(offset))
    assert not volume.path.answer_punch(WRITER, offset, PAGE)
    assert not volume.path.answer_punch(WRITER, 0, offset)


def test_nothing_at_all_takes_the_long_way(volume: Opened) -> None:
    assert volume.short_bytes(0, 0) is None
    assert not volume.path.answer_write(WRITER, 0, b"")
    assert not volume.path.answer_punch(WRITER, 0, 0)


def test_what_ends_behind_the_volume_takes_the_long_way(volume: Opened) -> None:
    assert volume.short(PAGES - 1) == volume.pages[-1]
    assert volume.short(PAGES - 1, 2) is None
    assert volume.short(PAGES) is None
    assert not volume.path.answer_write(WRITER, PAGES * PAGE, bytes(PAGE))
    assert not volume.path.answer_punch(WRITER, (PAGES - 1) * PAGE, 2 * PAGE)
    for offset in (2**64 - PAGE, 2**63):
        assert volume.short_bytes(offset, PAGE) is None
        assert not volume.path.answer_write(WRITER, offset, bytes(PAGE))
        assert not volume.path.answer_punch(WRITER, offset, PAGE)


def test_a_size_is_heeded_at_once(volume: Opened) -> None:
    volume.volumes.truncate(volume.number, 5 * PAGE + 7)
    assert volume.short(4) == volume.pages[4]
    assert volume.short(5) is None
    assert not volume.path.answer_write(WRITER, 5 * PAGE, bytes(PAGE))
    volume.volumes.truncate(volume.number, 9 * PAGE)
    assert volume.path.answer_write(WRITER, 8 * PAGE, volume.pages[0])
    assert volume.short(8) == volume.long(8) == volume.pages[0]
    assert volume.long(5) == volume.pages[5][:7] + bytes(PAGE - 7)


def test_only_handles_that_are_open_are_answered_for(volume: Opened) -> None:
    assert volume.short(0, handle=OTHER) is None
    assert not volume.path.answer_write(READER, 0, bytes(PAGE)), "not for writing"
    assert not volume.path.answer_punch(READER, 0, PAGE)
    volume.path.close(READER)
    volume.path.close(READER)
    assert volume.short(0) is None
    assert volume.short(0, handle=WRITER) == volume.pages[0]


def test_what_was_written_last_is_read(volume: Opened) -> None:
    """From the buffer, while it is routing, and from the store."""
    pages = b"".join(volume.pages[:40])
    assert volume.path.answer_write(WRITER, 100 * PAGE, pages)
    assert volume.short(99, 42) == volume.pages[99] + pages + volume.pages[140]
    assert volume.long(99, 42) == volume.short(99, 42)
    volume.volumes.flush()
    assert volume.path.buffered(volume.number) == 0
    assert volume.short(99, 42) == volume.pages[99] + pages + volume.pages[140]


def test_a_punched_page_is_a_hole_wherever_it_was(volume: Opened) -> None:
    assert volume.path.answer_write(WRITER, 7 * PAGE, volume.pages[9])
    assert volume.path.answer_punch(WRITER, 6 * PAGE, 3 * PAGE)
    expected = volume.pages[5] + bytes(3 * PAGE) + volume.pages[9]
    assert volume.short(5, 5) == volume.long(5, 5) == expected
    volume.volumes.flush()
    assert volume.short(5, 5) == expected
    assert volume.opened.store.mapped_pages(volume.number) == PAGES - 3
    volume.assert_clean()


def test_a_range_over_two_chunks_is_punched_whole_or_not(volume: Opened) -> None:
    first = TABLE_ENTRIES - 2
    assert volume.path.answer_punch(WRITER, first * PAGE, 4 * PAGE)
    assert volume.long(first - 1, 6) == (
        volume.pages[first - 1] + bytes(4 * PAGE) + volume.pages[first + 4]
    )
    number = volume.opened.new_volume("empty", PAGES)
    volume.path.open(OTHER, number, PAGES * PAGE, True)
    assert not volume.path.answer_punch(OTHER, 0, PAGE), "its table is not in memory"
    assert volume.short(0, handle=OTHER) is None


def test_no_table_changes_while_a_commit_copies_them(volume: Opened) -> None:
    volume.path.hold_tables(True)
    assert not volume.path.answer_punch(WRITER, 0, PAGE)
    assert volume.path.answer_write(WRITER, 0, volume.pages[3])
    volume.path.hold_tables(False)
    assert volume.path.answer_punch(WRITER, 0, PAGE)


def test_times_of_what_was_written(volume: Opened) -> None:
    record = volume.volumes.namespace.get(volume.number)
    record.mtime_ns = 5
    assert volume.path.answer_write(WRITER, 0, volume.pages[3])
    assert record.mtime_ns == 5
    volume.volumes.note_writes(volume.number)
    assert record.mtime_ns > 5
    assert volume.path.take_written() == []
    record.mtime_ns = 5
    assert volume.path.answer_punch(WRITER, 0, PAGE)
    volume.path.close(WRITER)
    volume.path.close(READER)
    volume.volumes.flush()  # each commit asks for all of them
    assert record.mtime_ns > 5


@pytest.mark.expected_log("writing has stopped: a surprise")
def test_nothing_is_written_after_a_failure(volume: Opened) -> None:
    volume.volumes.fail(DifffsError("a surprise"))
    assert not volume.path.answer_write(WRITER, 0, bytes(PAGE))
    assert not volume.path.answer_punch(WRITER, 0, PAGE)
    assert volume.short(0) == volume.pages[0]


def test_a_full_buffer_takes_the_long_way(volume: Opened) -> None:
    slots = volume.path.slots
    number = volume.opened.new_volume("large", slots + 1)
    volume.path.open(OTHER, number, (slots + 1) * PAGE, True)
    with volume.opened.store.lock:  # so that nothing is routed
        done = 0
        while volume.path.answer_write(OTHER, done * PAGE, volume.pages[done % PAGES]):
            done += 1
        assert done == slots - slots // 8
        assert volume.path.answer_write(OTHER, 0, volume.pages[1]), "a page that waits has its slot"


def test_a_damaged_page_takes_the_long_way(volume: Opened) -> None:
    (identity,) = volume.opened.store.lookup(volume.number, 3, 1)
    with (volume.opened.path / "payloads").open("r+b") as file:
        for side in (0, 1):
            file.seek((2 * (identity >> 8) + side) * EXTENT_SIDE_BYTES)
            file.write(bytes(EXTENT_SIDE_BYTES))
    assert volume.short(3) is None


class Stress:
    """Writers that own pages of a volume each, and readers that know what may be there."""

    def __init__(self, volume: Opened, seed: int) -> None:
        self.volume = volume
        self.seed = seed
        self.written = [0] * PAGES
        self.begun = [0] * PAGES
        self.ended = threading.Event()
        self.wrong: list[str] = []
        self.short_reads = self.long_reads = 0

    def content(self, page: int, version: int) -> bytes:
        """A hole now and then; like others else, so that there are patches too."""
        if version == 0:
            return self.volume.pages[page]
        if version % 5 == 0:
            return bytes(PAGE)
        like = self.volume.pages[(page * 7 + version) % 60]
        return page.to_bytes(4, "little") + version.to_bytes(4, "little") + like[8:]

    def write(self, part: int, parts: int) -> None:
        random = Random(self.seed * 10 + part)
        path, volumes, number = self.volume.path, self.volume.volumes, self.volume.number
        mine = range(part, PAGES, parts)
        while not self.ended.is_set():
            page = random.choice(mine)
            version = self.written[page] + 1
            self.begun[page] = version
            content = self.content(page, version)
            if version % 5 == 0:
                if not path.answer_punch(WRITER, page * PAGE, PAGE):
                    volumes.punch(number, page * PAGE, PAGE)
            elif version % 7 == 0:  # in two parts
                volumes.write(number, page * PAGE, content[:100])
                volumes.write(number, page * PAGE + 100, content[100:])
            elif not path.answer_write(WRITER, page * PAGE, content):
                volumes.write(number, page * PAGE, content)
            self.written[page] = version

    def read(self, part: int) -> None:
        random = Random(self.seed * 100 + part)
        while not self.ended.is_set():
            first = random.randrange(PAGES - 8)
            before = self.written[first : first + 8]
            found = self.volume.short(first, 8) if part else None
            self.short_reads += found is not None
            if found is None:
                found = self.volume.long(first, 8)
                self.long_reads += 1
            after = self.begun[first : first + 8]
            for i in range(8):
                self.judge(first + i, found[i * PAGE : (i + 1) * PAGE], before[i], after[i])

    def judge(self, page: int, found: bytes, before: int, after: int) -> None:
        allowed = [self.content(page, version) for version in range(before, after + 1)]
        # Of a page that is written in two parts, both are there or the first one.
        parts = [v for v in range(max(1, before), after + 1) if v % 7 == 0 and v % 5]
        allowed += [self.content(page, v)[:100] + self.content(page, v - 1)[100:] for v in parts]
        if found not in allowed:
            self.wrong.append(f"page {page}: {found[:8]!r}, allowed {before} to {after}")

    def flush(self) -> None:
        while not self.ended.is_set():
            self.volume.volumes.flush()


@pytest.mark.parametrize("seed", range(3))
def test_readers_and_writers_at_once(volume: Opened, seed: int) -> None:
    """Every page read is one that was there at that time; at the end all are the last."""
    stress = Stress(volume, seed)
    tasks = [
        *(threading.Thread(target=stress.write, args=(part, 2)) for part in range(2)),
        *(threading.Thread(target=stress.read, args=(part,)) for part in range(3)),
        threading.Thread(target=stress.flush),
    ]
    for task in tasks:
        task.start()
    stress.ended.wait(2.5)
    stress.ended.set()
    for task in tasks:
        task.join()
    assert stress.wrong == []
    assert stress.short_reads > 0
    for page in range(PAGES):
        wanted = stress.content(page, stress.written[page])
        assert volume.long(page) == wanted
    volume.volumes.flush()
    for page in range(PAGES):
        assert volume.short(page) == stress.content(page, stress.written[page])
    volume.assert_clean()


@pytest.mark.parametrize("punched", [(5,), (3, 4, 5)])
def test_a_page_punched_after_it_was_chosen_for_routing_is_a_hole(
    volume: Opened, monkeypatch: pytest.MonkeyPatch, punched: tuple[int, ...]
) -> None:
    """Punches are answered while the routing thread is between its choice and its copy."""
    volumes, path = volume.volumes, volume.path
    choose = volumes._choose_batch
    chosen: list[int] = []

    def choose_then_punch(
        wanted: "list[tuple[int, array[int]]] | None",
    ) -> "tuple[int, array[int]]":
        domain, keys = choose(wanted)
        if keys and not chosen:
            chosen.extend(keys)
            for page in punched:
                assert path.answer_punch(WRITER, page * PAGE, PAGE)
        return domain, keys

    monkeypatch.setattr(volumes, "_choose_batch", choose_then_punch)
    newer = {page: bytes([page]) + volume.pages[page][1:] for page in (3, 4, 5)}
    for page, content in newer.items():
        assert path.answer_write(WRITER, page * PAGE, content)
    volumes.flush()
    assert {page_key(volume.number, page) for page in newer} == set(chosen)
    for page, content in newer.items():
        assert volume.long(page) == (bytes(PAGE) if page in punched else content)
    volume.assert_clean()


def test_a_punch_that_takes_its_time_shows_no_older_bytes(
    volume: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the page tables still have, when newer ones wait in the buffer."""
    page, newer = 7, b"n" * PAGE
    assert volume.path.answer_write(WRITER, page * PAGE, newer)
    found = []
    fill = volume.opened.store.fill

    def look_while_filling(*arguments: int) -> None:
        found.append(volume.short(page))
        fill(*arguments)
        found.append(volume.short(page))

    monkeypatch.setattr(volume.opened.store, "fill", look_while_filling)
    volume.volumes.punch(volume.number, page * PAGE, PAGE)
    assert found == [newer, newer]
    assert volume.short(page) == bytes(PAGE)
