"""The store: objects, page tables and names, committed together.

Threads (docs/concurrency.md): one *routing thread* adds, references and releases objects and
commits. Any thread may look up, read, and change page tables and names with `lock` held; the
references that page tables give up are collected and taken back by the routing thread.
"""

import json
import logging
import mmap
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import TYPE_CHECKING

from difffs._kernels import (
    EXTENT_LIMIT,
    TABLE_BYTES,
    TABLE_ENTRIES,
    Batch,
    Context,
    Dictionary,
    DigestTable,
    Extents,
    Group,
    SketchTable,
    Staged,
    UnknownCodec,
    VolumePages,
)
from difffs.codec import GROUP_CODECS, ROUTE_OF_CODEC, GroupCodec, Route
from difffs.errors import (
    CorruptStore,
    DifffsError,
    DomainsMismatch,
    FormatTooNew,
    FormatTooOld,
    MediumFailed,
    NotAStore,
    PayloadDamaged,
    RecipeMismatch,
    StoreFull,
    TryAgain,
    UsageError,
)
from difffs.page import PAGE_SIZE
from difffs.recipe import DEFAULT_RECIPE, RECIPES, Recipe, recipe_named
from difffs.store import format as names
from difffs.store.creation import can_be_made, create_store
from difffs.store.hints import Hints, noted_commit
from difffs.store.index import Changes, Index
from difffs.store.lock import StoreLock
from difffs.store.namespace import Namespace
from difffs.store.occupancy import Occupancy, occupied_bytes
from difffs.store.page_tables import CHUNK_LIMIT, HOLE, LOST, ZERO, PageTables
from difffs.store.payloads import PayloadFile
from difffs.store.reserve import RESERVE_BYTES, Reserve
from difffs.usage import VolumeUsage

if TYPE_CHECKING:
    from difffs.store.check import Finding, Progress

logger = logging.getLogger("difffs.store")

LOADED_HEADERS = 2048
"""Extent headers kept in memory though unchanged (8 MiB, half a million objects)."""

DEAD_SHARE = 8
"""In 256ths of the live payload bytes: with more dead bytes than that, new payloads go where
dead ones are dropped. 3 % leaves room for block and header slack below the promised 10 %."""

IDLE_DEAD_SHARE = 16
"""In 256ths: with more than that (6 %), extents are rewritten though nothing new comes."""

SUPERSEDED_BYTES = 4 << 20
"""Old sides of extents may occupy this much, or a sixteenth of the payload, without a commit."""

_PAGE_OF_KEY = 0xFFFFFFFF

_SURPLUS = 64
"""Headers or page table chunks above their number at which reading drops some."""

_REWRITES_A_COMMIT = 64
"""Bounds the time that reclaiming adds to a commit (about 0.1 ms each)."""

_DROPPED_AT_ONCE = 512
"""Page table chunks that removing makes holes at most while the lock is held."""

_DROPPING_SECONDS = 0.002
"""How long that may take: where the index comes from a disk, few chunks take as long as many."""

_YIELD_SECONDS = 0.0002
"""Pause after it: Python's locks are not fair, and who waits needs a moment to wake up."""

_RELEASED_AT_ONCE = 1024
"""References that are taken back while the lock is held: some milliseconds."""

_USAGE_CHUNKS = 16
"""Page table chunks that are looked through while the lock is held, to tell a volume's usage."""

_RELEASED_WAITING = 1 << 20
"""References (4 MiB) that may wait to be taken back before a long change waits as well."""

_SCARCE_CHANGES = 64
"""Changed index pages (a quarter MiB) at which a commit is made while room is scarce: the reserve
is enough for them."""

_SCARCE_BYTES = 32 << 20
"""Free bytes of the file system below which closing removes what is left in small commits."""

_REMOVED_A_COMMIT = 4096
"""Changed index pages (16 MiB) at which closing commits while it removes volumes."""

_SCARCE_DEAD_SHARE = 4
"""Instead of IDLE_DEAD_SHARE, while what groups have freed is all the room there is."""

_KEPT_OF_RESERVE = RESERVE_BYTES // 2
"""Of the reserve, what groups leave: room for a commit of _SCARCE_CHANGES, and then for an extent
that is rewritten."""

_ENOUGH_ROOM = 8 << 20
"""Free bytes of the file system at which rewriting half-dead extents can wait."""

_REASONS = {
    -1: "there is no such object",
    -2: "what it decodes to is another page",
    -3: "it cannot be decoded",
    -4: "the payload file ends before it",
    -5: "reading failed",
    -6: "it is at the end of too long a chain of patches",
}
_LOST = -7
_HEADER_MISSING = 1
_BASE_CODECS = [
    codec for codec, route in ROUTE_OF_CODEC.items() if route in (Route.COMPRESS, Route.RAW)
]
_APPEND, _REWRITE = 1, 2


class Store:
    """An open store; use as a context manager or call close()."""

    path: Path
    recipe: Recipe
    read_only: bool
    namespace: Namespace
    lock: threading.RLock

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        recipe: str | Recipe | None = None,
        *,
        domains: bool = False,
    ) -> "Store":
        """Makes a store in a new or empty directory and opens it. With `domains`, directories in
        its root share no pages with each other, for the store's life."""
        directory = Path(path)
        chosen = recipe if isinstance(recipe, Recipe) else recipe_named(recipe or DEFAULT_RECIPE)
        create_store(directory, chosen, domains=domains)
        return cls(directory, None, read_only=False, change_recipe=False, domains=domains)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        recipe: str | None = None,
        *,
        read_only: bool = False,
        change_recipe: bool = False,
        domains: bool = False,
    ) -> "Store":
        """Opens a store.

        With `domains`, it must have been made with them (DomainsMismatch); without, it may.

        With `recipe`, it must be the store's own (RecipeMismatch), unless change_recipe makes it
        the recipe of new pages; those that are there stay as they are, and readable.
        """
        return cls(
            *(Path(path), recipe),
            read_only=read_only,
            change_recipe=change_recipe,
            domains=domains,
        )

    @classmethod
    def open_or_create(
        cls,
        path: str | os.PathLike[str],
        recipe: str | None = None,
        *,
        change_recipe: bool = False,
        domains: bool = False,
    ) -> "Store":
        """Opens the store, or makes it where there is an empty directory or nothing."""
        directory = Path(path)
        if not names.is_store(directory) and can_be_made(directory):
            try:
                return cls.create(directory, recipe, domains=domains)
            except NotAStore:
                if not names.is_store(directory):
                    raise  # else somebody has made it meanwhile
        return cls.open(directory, recipe, change_recipe=change_recipe, domains=domains)

    def __init__(
        self,
        path: Path,
        recipe: str | None,
        *,
        read_only: bool,
        change_recipe: bool,
        domains: bool,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.lock = threading.RLock()
        names.read_format(path)
        with ExitStack() as cleanup:
            self._lock_file = StoreLock(path, shared=read_only)
            cleanup.callback(self._lock_file.release)
            form = names.read_format(path)  # once more: before, it may have been upgraded
            self._payloads = PayloadFile(path / names.PAYLOAD_FILE, read_only=read_only)
            cleanup.callback(self._payloads.close)
            self._index = self._open_index(form)
            cleanup.callback(self._index.close)
            self._verify_index()
            self._settings_to_write: list[tuple[str, bytes]] = []
            self.recipe = self._choose_recipe(recipe, change=change_recipe)
            self._extents = Extents(self._payloads.file)
            self._account_extents()
            self._page_tables = PageTables(self._index)
            self._chunks = self._page_tables.chunks
            self._volume_pages: VolumePages | None = None
            self._hints: Hints | None = None
            if not read_only:
                commit = self._index.commit_record.number
                self._hints = Hints(path, names.DIGEST_FILE, names.SKETCH_FILE, commit)
                cleanup.callback(self._hints.close, complete=False)
                if not self._hints.complete:
                    self._payloads.sweep(self._sides_in_use())
                if self._settings_to_write:  # another recipe, which may share where none did
                    self._hints.complete = False
            self.namespace = Namespace(self._index.inodes())
            self._begin_domains(wanted=domains)
            # Orphans whose pages are to be freed, and how far that is with the first of them.
            self._removals: deque[int] = deque()
            self._removed_to = 0
            if not read_only:
                # Nobody gives the orphans that are found here a name any more.
                orphans = {each.number: each.is_image for each in self.namespace.orphans()}
                # An image goes before its parts, lest a crash leaves one that lacks them.
                for number in sorted(orphans, key=lambda each: not orphans[each]):
                    self.remove(number, in_use=orphans.__contains__)
            self._reserve = None if read_only else Reserve(path / names.RESERVE_FILE)
            # Long changes of page tables that are under way: a commit waits for their end.
            self._unfinished = 0
            self._finished = threading.Condition(self.lock)
            self._broken: DifffsError | None = None
            """Why nothing is committed any more."""
            self._staged = Staged()
            self._unusable = 0
            self._superseded = 0
            self._reader = Context()
            self.dictionary = self._stored_dictionary()
            self.group_dictionary = self._stored_group_dictionary()
            self.counters = self._stored_counters()
            if self._hints is not None and not self._hints.complete:
                self._fill_digests()
            cleanup.pop_all()
        self._open = True

    def _open_index(self, form: names.StoreFormat) -> Index:
        if form.version == names.FORMAT_VERSION:
            if not self.read_only:  # what a crash left of upgrading
                rmtree(self.path / names.FORMER_INDEX_DIRECTORY, ignore_errors=True)
            directory = self.path / names.INDEX_DIRECTORY
            return Index(directory, form.store_id, read_only=self.read_only)
        if not self.read_only:
            raise FormatTooOld(
                f"{self.path} has format {form.version}, which this difffs only reads;"
                f" run `difffs upgrade {self.path}`"
            )
        from difffs.store.version_1 import FormerIndex

        return FormerIndex(self.path / names.FORMER_INDEX_DIRECTORY, self._payloads.file)

    def _verify_index(self) -> None:
        """An index that has gone back in time as a whole agrees with itself: what was noted
        elsewhere tells."""
        noted = noted_commit(self.path / names.DIGEST_FILE)
        if noted > self._index.commit_record.number and not self._index.damage:
            raise CorruptStore(
                f"{self._index.path} holds commit {self._index.commit_record.number}, but commit"
                f" {noted} was made: restore the store from a copy"
            )
        if self._index.damage and not self.read_only:
            raise CorruptStore(
                f"{self._index.path}: {self._index.damage};"
                " run `difffs check` and restore the store from a copy"
            )

    def _begin_domains(self, *, wanted: bool) -> None:
        if wanted and not self.has_domains:
            raise DomainsMismatch(
                f"{self.path} was made without domains, and stays so: leave the option out, or make"
                " another store with it and copy the volumes there"
            )
        if self.has_domains:
            self._extents.keep_domains()
        if self.namespace.is_damaged:  # what was damaged may have said whose extents there are
            used = filter(self._extents.in_use, range(self._extents.count))
            self.namespace.keep_above(max(map(self._extents.domain_of, used), default=0))

    def _stored_dictionary(self) -> Dictionary | None:
        content = self._index.setting(names.DICTIONARY)
        if content is None:
            return None
        dictionary = Dictionary(content, self.recipe.compress_level)
        self._reader.use(dictionary)
        return dictionary

    def _stored_group_dictionary(self) -> Dictionary | None:
        content = self._index.setting(names.GROUP_DICTIONARY)
        if content is None:
            return None
        dictionary = Dictionary(content, None)
        self._reader.use_for_groups(dictionary)
        return dictionary

    def set_group_dictionary(self, content: bytes) -> Dictionary:
        """Gives the store its dictionary of groups, once and for all. Routing thread."""
        if self.group_dictionary is not None:
            raise ValueError("the store has a dictionary of groups")
        dictionary = Dictionary(content, None)
        with self.lock:
            self.group_dictionary = dictionary
            self._reader.use_for_groups(dictionary)
            if self._volume_pages is not None:
                self._volume_pages.use_group_dictionary(dictionary)
            self._settings_to_write.append((names.GROUP_DICTIONARY, content))
        return dictionary

    def set_dictionary(self, content: bytes) -> Dictionary:
        """Gives the store its dictionary, once and for all: payloads depend on it."""
        if self.dictionary is not None:
            raise ValueError("the store has a dictionary")
        with self.lock:
            self.dictionary = Dictionary(content, self.recipe.compress_level)
            self._reader.use(self.dictionary)
            if self._volume_pages is not None:
                self._volume_pages.use_dictionary(self.dictionary)
            self._settings_to_write.append((names.DICTIONARY, content))
        return self.dictionary

    def _choose_recipe(self, name: str | None, *, change: bool) -> Recipe:
        stored = self._index.setting("recipe")
        try:
            recipe = Recipe.from_dict(json.loads(stored or b""))
        except (ValueError, TypeError) as error:
            raise CorruptStore(
                f"{self.path} holds no readable recipe ({error}); restore it from a copy"
            ) from None
        if name is None or name == recipe.name:
            return recipe
        wanted = recipe_named(name)
        if not change:
            raise RecipeMismatch(
                f"{self.path} has the recipe {recipe.name!r}, not {name!r}; leave --recipe out,"
                " or add --change-recipe to use it for new pages"
            )
        self._settings_to_write.append(("recipe", json.dumps(wanted.to_dict()).encode()))
        return wanted

    def _account_extents(self) -> None:
        with self._judging(str(self._index.path)):
            self._index.account(self._extents)

    @contextmanager
    def _judging(self, what: str) -> Iterator[None]:
        """Within this, what the kernels say of headers becomes an error that names `what`."""
        try:
            yield
        except UnknownCodec as error:
            raise FormatTooNew(f"{self._index.path} has {error}; use a newer difffs") from None
        except ValueError as error:
            raise CorruptStore(
                f"{what} is damaged ({error}); run `difffs check` and restore the store from a copy"
            ) from None

    def _stored_counters(self) -> dict[str, list[int]]:
        try:
            stored = json.loads(self._index.setting("counters") or b"{}")
        except ValueError:
            stored = {}
        return {route.name.lower(): stored.get(route.name.lower(), [0] * 5) for route in Route}

    def _fill_digests(self) -> None:
        """After a crash: the digest table from the extent headers."""
        assert self._hints is not None
        self._hints.clear_digests()
        if self.recipe.share:
            try:
                for number, stored in self._index.headers():
                    while not self._hints.digests.insert_header(number, stored):
                        self._hints.grow_digests()
            except StoreFull:
                return  # a smaller table finds less
        self._hints.complete = True

    def _sides_in_use(self) -> dict[int, tuple[int, int]]:
        """For every extent its current side and that side's end."""
        used = filter(self._extents.in_use, range(self._extents.count))
        return {number: self._extents.summary(number)[:2] for number in used}

    @property
    def since(self) -> float:
        """When the store was made (seconds since the epoch)."""
        with self.lock:  # a commit on another thread renews what the index reads from
            return float(self._index.setting("created") or b"0")

    @property
    def digests(self) -> DigestTable:
        """The digest table; it moves when it grows, so do not keep it."""
        assert self._hints is not None
        return self._hints.digests

    @property
    def sketches(self) -> SketchTable:
        """The sketch table; it moves when it grows, so do not keep it."""
        assert self._hints is not None
        return self._hints.sketches

    @property
    def extents(self) -> Extents:
        """The extent headers."""
        return self._extents

    def set_lock_note(self, text: str) -> None:
        """Tells others who has the store open and where it is mounted."""
        with suppress(TryAgain):  # the lock counts, the note is a help
            self._lock_file.write_note(text)

    @property
    def has_domains(self) -> bool:
        """Whether directories in the root share no pages with each other."""
        return self.namespace.has_domains

    def domain_of(self, volume: int) -> int:
        """The domain that a volume's pages belong to; 0 in a store without any."""
        if not self.namespace.has_domains:
            return 0
        with self.lock:
            return self.namespace.domain_of(volume)

    # -- reading ---------------------------------------------------------------------------------

    def load_headers(self, numbers: Iterable[int]) -> None:
        """Brings extent headers into memory; numbers of no extent are passed over."""
        for number in numbers:
            if self._extents.is_loaded(number) or not self._extents.in_use(number):
                continue
            stored = self._index.header(number)
            if stored is None:
                raise CorruptStore(
                    f"{self._index.path} lacks the header of extent {number};"
                    " run `difffs check` and restore the store from a copy"
                )
            with self._judging(f"{self._index.path}: extent {number}"):
                self._extents.load(number, stored)

    def prepare(self, ids: "array[int]") -> None:
        """Loads every header that reading the objects takes, their bases' included."""
        known: set[int] = set()
        while missing := self._extents.missing(ids) - known:
            with self.lock:
                self.load_headers(missing)
            known |= missing

    def lookup(self, volume: int, first: int, count: int) -> "array[int]":
        """Object ids of pages [first, first + count): 0 a hole, 255 zeros."""
        with self.lock:
            ids = self._page_tables.lookup(volume, first, count)
            self._page_tables.trim(_SURPLUS)
            return ids

    def read_pages(self, volume: int, first: int, count: int, out: memoryview | bytearray) -> None:
        """Fills out with pages; PayloadDamaged names the page that cannot be rebuilt."""
        with self.lock:
            at = 0
            while at < count:
                chunk, entry = divmod(first + at, TABLE_ENTRIES)
                run = min(count - at, TABLE_ENTRIES - entry)
                if not self._page_tables.load(volume, chunk):
                    out[at * PAGE_SIZE : (at + run) * PAGE_SIZE] = bytes(run * PAGE_SIZE)
                    at += run
                    continue
                failure = self._extents.read_mapped(
                    self._chunks, volume, first + at, out, at, run, self._reader
                )
                if failure is None:
                    at += run
                else:
                    at += failure[1]
                    self._recover(volume, first + at, failure)
            # Not before: a page takes up to as many headers as its chain of patches is long.
            if self._extents.loaded > LOADED_HEADERS + _SURPLUS:
                self._extents.trim(LOADED_HEADERS)
            self._page_tables.trim(_SURPLUS)

    def volume_pages(self, arena: bytearray | mmap.mmap) -> VolumePages:
        """What answers for open volumes, with a write buffer in an arena of whole pages. One a
        store: its changes belong to the store's commits."""
        self._volume_pages = VolumePages(self._chunks, self._extents, arena)
        if self.dictionary is not None:
            self._volume_pages.use_dictionary(self.dictionary)
        if self.group_dictionary is not None:
            self._volume_pages.use_group_dictionary(self.group_dictionary)
        return self._volume_pages

    def decode_totals(self) -> list[tuple[int, int]]:
        """Per codec (objects decoded, nanoseconds) since the store was opened."""
        totals = self._extents.decode_totals
        if self._volume_pages is None:
            return totals
        return [
            (objects + more, nanoseconds + longer)
            for (objects, nanoseconds), (more, longer) in zip(
                totals, self._volume_pages.decode_totals(), strict=True
            )
        ]

    def _recover(self, volume: int, page: int, failure: tuple[int, int, int, int]) -> None:
        """Brings the header that a page lacks into memory, or tells why it cannot be read."""
        status, _index, culprit, error = failure
        if status == _HEADER_MISSING:
            self.load_headers([culprit])
            return
        where = f"{self.path}: page {page} of {self._volume_name(volume)} cannot be read"
        if status == _LOST:
            raise PayloadDamaged(
                f"{where}: its content was lost, and given up by a repair;"
                " restore the volume from a copy, or overwrite the page"
            )
        reason = os.strerror(error) if error else _REASONS.get(status, "of an unknown error")
        raise PayloadDamaged(
            f"{where}: object {culprit & 255} of extent {culprit >> 8}: {reason};"
            " run `difffs check` and restore from a copy"
        )

    def _volume_name(self, volume: int) -> str:
        try:
            return f"volume {self.namespace.path(volume)}"
        except (KeyError, OSError):
            return f"volume number {volume}"

    def mapped_pages(self, volume: int) -> int:
        """Pages of the volume that are not holes."""
        with self.lock:
            return self._page_tables.mapped(volume)

    # -- changing page tables (any thread, with the lock) ----------------------------------------

    def fill(self, volume: int, first: int, count: int, value: int) -> None:
        """Makes pages holes (0), zeros (255) or lost (254): reading these is an error."""
        if value not in (HOLE, LOST, ZERO):
            raise UsageError(f"pages cannot be filled with object {value}")
        with self.lock:
            if count > 0:
                self._page_tables.fill(volume, first, count, value)

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """Within this, page tables and names change in steps: a commit waits for the last."""
        with self.lock:
            self._unfinished += 1
        try:
            yield
        finally:
            with self.lock:
                self._unfinished -= 1
                self._finished.notify_all()

    def make_hole(
        self,
        volume: int,
        first: int,
        end: int,
        forget: Callable[[int, int], None] = lambda _first, _end: None,
    ) -> None:
        """Makes pages [first, end) holes. In a long range, and where the caller does not hold it,
        this lets go of the lock now and then; no commit comes in between. O(page table chunks that
        map anything there).

        `forget` is told, with the lock, of each piece that has become holes: newer bytes of these
        pages that are elsewhere go only then. Before, who reads would find older ones here.
        """
        low, high = -(-first // TABLE_ENTRIES), end // TABLE_ENTRIES
        if high <= low:
            with self.lock:
                self.fill(volume, first, end - first, HOLE)
                forget(first, end)
            return
        with self.one_change():
            for start, stop in ((first, low * TABLE_ENTRIES), (high * TABLE_ENTRIES, end)):
                with self.lock:
                    self.fill(volume, start, stop - start, HOLE)
                    forget(start, stop)
            while low < high:
                with self.lock:
                    done = self._drop(volume, low, high, _RELEASED_AT_ONCE)
                    forget(low * TABLE_ENTRIES, done * TABLE_ENTRIES)
                    low = done
                    if low < high and self._chunks.released > _RELEASED_WAITING:
                        self._finished.wait(0.1)  # the routing thread takes them back

    def chunks_of(self, volume: int, first_chunk: int, end_chunk: int) -> list[int]:
        """Page table chunks of the volume in [first_chunk, end_chunk) that may map anything."""
        with self.lock:
            return self._page_tables.chunks_of(volume, first_chunk, end_chunk)

    def next_data(self, volume: int, first: int, end: int) -> int | None:
        """The first page in [first, end) that is no hole. O(1) where that one is none."""
        while first < end:
            with self.lock:
                chunk = self._page_tables.next_chunk(
                    volume, first // TABLE_ENTRIES, (end - 1) // TABLE_ENTRIES + 1
                )
                if chunk is None:
                    return None
                first = max(first, chunk * TABLE_ENTRIES)
                entry = self._page_tables.first_page(
                    volume, chunk, first % TABLE_ENTRIES, hole=False
                )
                if entry is not None:
                    page = chunk * TABLE_ENTRIES + entry
                    return page if page < end else None
            first = (chunk + 1) * TABLE_ENTRIES
        return None

    def next_hole(self, volume: int, first: int, end: int) -> int:
        """The first page in [first, end) that is a hole; `end` when there is none. O(1) where that
        one is a hole or where there is none in [0, end)."""
        if self.mapped_pages(volume) >= end:
            return end
        while first < end:
            chunk, at = divmod(first, TABLE_ENTRIES)
            with self.lock:
                entry = self._page_tables.first_page(volume, chunk, at, hole=True)
            if entry is not None:
                return min(end, chunk * TABLE_ENTRIES + entry)
            first = (chunk + 1) * TABLE_ENTRIES
        return end

    # -- removing volumes ------------------------------------------------------------------------

    def remove(self, number: int, *, in_use: Callable[[int], bool] | None = None) -> None:
        """Queues an orphan: nobody finds it from now on; remove_some() frees its pages and forgets
        it, at the latest when the store is closed, or after a crash when it is opened for writing.
        OSError EBUSY while it has a name.

        With an image go those of its parts that have no name, but for those that somebody uses: who
        does removes them later. A part of an image that has a name stays until that one goes.
        """
        with self.lock:
            if self.namespace.is_held(number):
                return
            parts = self.namespace.release_parts(number)
            for each in (number, *parts):
                if each == number or in_use is None or not in_use(each):
                    self.namespace.retire(each)
                    self._removals.append(each)

    @property
    def has_removals(self) -> bool:
        """Whether volumes wait for their pages to be freed."""
        return bool(self._removals)

    def remove_some(self, references: int = _RELEASED_AT_ONCE) -> bool:
        """Frees some pages of what waits for it; whether there was anything to do. Routing thread.

        Goes on from chunk to chunk of the page table until so many references are to be taken back,
        and holds the lock for some milliseconds.
        """
        with self.lock:
            if not self._removals:
                return False
            number = self._removals[0]
            self._removed_to = self._drop(number, self._removed_to, CHUNK_LIMIT, references)
            if self._removed_to == CHUNK_LIMIT:
                self.namespace.drop(number)
                self._removals.popleft()
                self._removed_to = 0
        self.settle()
        time.sleep(_YIELD_SECONDS)
        return True

    def _drop(self, volume: int, first: int, end: int, references: int) -> int:
        """Makes some whole chunks holes; the chunk to go on with."""
        most_released = self._chunks.released + references
        deadline = time.monotonic() + _DROPPING_SECONDS
        return self._page_tables.drop(volume, first, end, _DROPPED_AT_ONCE, most_released, deadline)

    # -- changing objects (routing thread only) --------------------------------------------------

    def pack(self, batch: Batch) -> None:
        """Writes the batch's new payloads and makes them objects that nothing refers to yet.

        StoreFull leaves the store as it was.
        """
        begin = batch.next_object(0)
        with self.lock:
            try:
                while begin < batch.count:
                    self._stage(batch.domain)
                    end = batch.pack(begin, self._staged)
                    self._install()
                    batch.added(self._extents, begin, end)
                    begin = batch.next_object(end)
            except TryAgain:
                self._extents.discard(batch.new_ids(begin))
                raise

    def _stage(self, domain: int) -> None:
        kind, number = self._extents.choose(DEAD_SHARE, domain)
        while kind == _REWRITE and not self._stage_rewrite(number):
            kind, number = self._extents.choose(DEAD_SHARE, domain)
        if kind == _APPEND:
            self.load_headers([number])
            self._staged.append(self._extents, number)
        elif kind != _REWRITE:
            number = self._extents.unused()
            self._require_number(number)
            self._staged.new(number, domain)

    def _stage_rewrite(self, number: int) -> bool:
        """False when the extent cannot be read: it stays as it is, with what can be read of it, and
        is not chosen again."""
        self.load_headers([number])
        side, end, live, _slots = self._extents.summary(number)
        try:
            stored = self._payloads.read(number, side, end) if live else b""
        except PayloadDamaged as error:
            logger.warning("%s", error)
            self._extents.leave_alone(number)
            return False
        # Of a payload file that was cut, what is missing stays damaged, and the rest is kept.
        self._staged.rewrite(self._extents, number, stored.ljust(end, b"\0"))
        self._superseded += end
        return True

    def _install(self) -> None:
        staged = self._staged
        self._payloads.write(staged.number, staged.side, staged.position, staged.bytes())
        staged.install(self._extents)

    def adopt_group(self, group: Group) -> int:
        """Stores an encoded group, and makes those of its objects its members that still have the
        bytes that were gathered. Returns how many: 0, and nothing is changed, where that is not
        worth it any more. StoreFull leaves the store as it was. Routing thread.

        Objects keep their ids, so no page table changes. What they were before is dead from here
        on, and stays where it is until a commit has made them members.
        """
        with self.lock:
            self._load_all_headers_of(group)
            current = group.current(self._extents, self._reader)
            if not group.length or group.length * len(group) >= group.present * current:
                return 0
            domain = self._extents.domain_of(group.ids()[0] >> 8)
            self._stage_for(domain, group.length)
            identity = self._staged.put_group(group)
            self._install()
            self._extents.added_group(identity)
            ids, by_patch = group.join(self._extents, identity), True
            while ids:
                self.load_headers({i >> 8 for i in ids})
                ids = self._extents.release(ids, by_patch, self.digests)
            self._extents.trim(LOADED_HEADERS)
            return current

    def _load_all_headers_of(self, group: Group) -> None:
        known: set[int] = set()
        while missing := group.missing(self._extents) - known:
            self.load_headers(missing)
            known |= missing

    def _stage_for(self, domain: int, length: int) -> None:
        """As _stage(), with room for a payload of that length."""
        self._stage(domain)
        if self._staged.has_room(length):
            return
        if self._staged.rewritten:
            self._install()  # what was dead there is dropped all the same
        number = self._extents.unused()
        self._require_number(number)
        self._staged.new(number, domain)

    def _require_number(self, number: int) -> None:
        if number >= EXTENT_LIMIT:
            raise StoreFull(
                f"{self.path} has as many extents as there can be ({EXTENT_LIMIT - 1});"
                " remove volumes, or use another store"
            )

    def note_refined(self, numbers: Iterable[int], tier: int, *, only: int | None = None) -> None:
        """Notes what refining has made of extents' objects, with `only` of those of which that was
        noted last: whatever is added to an extent takes its note away. Routing thread."""
        for number in numbers:
            with self.lock:
                if self._extents.in_use(number):
                    self.load_headers([number])
                    if only is None or self._extents.refined(number) == only:
                        self._extents.note_refined(number, tier)

    @property
    def group_counts(self) -> dict[GroupCodec, tuple[int, int, int, int]]:
        """Of each kind of groups: groups, bytes, members, and members that are gone."""
        with self.lock:
            totals = self._extents.totals()
        return {codec: totals[codec] for codec in sorted(GROUP_CODECS)}

    def _bytes_of_gone_members(self) -> int:
        """Of payloads of groups, what is taken by pages that nothing refers to any more: their part
        by number."""
        return sum(
            size * gone // (members + gone)
            for _groups, size, members, gone in self.group_counts.values()
            if gone
        )

    def reclaim(self, most: int = _REWRITES_A_COMMIT, dead_share: int = IDLE_DEAD_SHARE) -> int:
        """Drops dead payloads where they are more than so many 256ths of the live ones, in at most
        so many extents; their space is free after the next commit. Returns in how many."""
        count = 0
        while count < most:
            with self.lock:
                number = self._extents.deadest(dead_share)
                if not number:
                    break
                if self._stage_rewrite(number):
                    self._install()
                    count += 1
        return count

    def adopt(
        self,
        batch: Batch,
        ids: "array[int]",
        targets: Iterable[tuple[int, "array[int]", "array[int]"]],
    ) -> None:
        """Maps packed pages: targets are (volume, pages ascending, ids), of the batch's ids, each
        named once.

        Every id gets one reference. All volumes are of the batch's domain.
        """
        with self.lock:
            targets = list(targets)
            for volume, _pages, _ids in targets:
                self._require_domain(batch, volume)
            self._refer(batch, ids)
            for volume, pages, page_ids in targets:
                self._page_tables.map(volume, pages, page_ids)
            self._publish(batch)

    def adopt_buffered(
        self, batch: Batch, ids: "array[int]", keys: "array[int]", slots: "array[int]"
    ) -> None:
        """Maps packed pages that came from the write buffer, and ends their routing: keys are
        volume << 32 | page, ascending. Pages that were dropped meanwhile are not mapped, and their
        objects' references are taken back with the next settle()."""
        assert self._volume_pages is not None
        with self.lock:
            self._refer(batch, ids)
            at = 0
            while at < len(keys):
                volume, page = keys[at] >> 32, keys[at] & _PAGE_OF_KEY
                self._require_domain(batch, volume)
                self._page_tables.load_to_map(volume, page // TABLE_ENTRIES)
                at = bisect_left(keys, keys[at] - page % TABLE_ENTRIES + TABLE_ENTRIES, at)
            self._volume_pages.adopt(keys, slots, ids)
            self._publish(batch)

    def _require_domain(self, batch: Batch, volume: int) -> None:
        if self.domain_of(volume) != batch.domain:
            raise RuntimeError(
                f"pages of domain {batch.domain} for volume {volume}, which is of another"
            )

    def _refer(self, batch: Batch, ids: "array[int]") -> None:
        bases = batch.bases()
        self.load_headers({i >> 8 for i in ids if i > ZERO})
        self.load_headers({i >> 8 for i in bases})
        self._extents.reference(ids, False)
        self._extents.reference(bases, True)

    def release(self, ids: "array[int]") -> None:
        """Gives up references by pages; they are taken back with the next settle()."""
        with self.lock:
            self._chunks.release(ids)

    def _publish(self, batch: Batch) -> None:
        assert self._hints is not None
        totals = self._extents.totals()  # with the batch's objects
        bases = sum(totals[codec][0] for codec in _BASE_CODECS)
        features = self.recipe.sketch.features if self.recipe.patch_codec else 0
        pages = sum(total[0] for codec, total in enumerate(totals) if codec not in GROUP_CODECS)
        digests = pages if self.recipe.share else 0
        # The pages are stored; that fewer are found by later ones is no reason to fail.
        with suppress(TryAgain, MediumFailed):
            self._hints.make_room(digests, bases, features)
        _references, fits = batch.publish(self._hints.digests, self._hints.sketches)
        try:
            while not fits:
                self._hints.grow_digests()
                _references, fits = batch.publish(self._hints.digests, self._hints.sketches)
        except (TryAgain, MediumFailed):
            self._hints.complete = False

    def settle(self) -> None:
        """Takes back the references that page tables gave up, and frees what nothing needs."""
        while True:
            with self.lock:
                ids = self._chunks.take_released(_RELEASED_AT_ONCE)
                if not ids:
                    self._finished.notify_all()
                    break
                more, by_patch = self._chunks.released > 0, False
                while ids:
                    self.load_headers({i >> 8 for i in ids})
                    try:
                        ids = self._extents.release(ids, by_patch, self.digests)
                    except ValueError as error:
                        raise CorruptStore(
                            f"{self.path}: {error}; run `difffs check` and restore from a copy"
                        ) from None
                    by_patch = True
            if more:
                time.sleep(_YIELD_SECONDS)
        with self.lock:
            self._extents.trim(LOADED_HEADERS)

    @property
    def holds_superseded(self) -> bool:
        """Whether rewritten extents' old sides, which the next commit frees, occupy much."""
        limit = max(SUPERSEDED_BYTES, self._extents.live_bytes() // 16)
        return self._superseded > limit

    @property
    def reclaimable(self) -> bool:
        """Whether a commit would give dead payloads' space back."""
        with self.lock:
            return bool(self._extents.deadest(IDLE_DEAD_SHARE))

    @property
    def uncommitted(self) -> int:
        """Changed index pages that no finished commit holds; 0: everything is durable."""
        with self.lock:
            return (
                self._page_tables.dirty_count
                + self._extents.dirty_count()
                + bool(self._chunks.released)
                + bool(self._settings_to_write)
                + self.namespace.is_dirty
            )

    def commit(self, rewrites: int = _REWRITES_A_COMMIT) -> None:
        """Makes everything so far durable, as one state. Routing thread only.

        Rewrites at most so many extents to drop their dead bytes. TryAgain (StoreFull, ...): the
        last commit stands, what is newer stays in memory, and commit may be called again.
        MediumFailed: the last commit stands, and no other comes after it.
        """
        if self.read_only:
            return
        if self._broken is not None:
            raise self._broken.again()
        try:
            self._commit(rewrites)
        except MediumFailed as error:
            self.stop(error)
            raise

    def stop(self, error: DifffsError) -> None:
        """After an error that leaves doubt about what is in memory or on the medium: from here on
        every commit, close()'s too, raises it, and the last one stands."""
        if self._broken is None:
            self._broken = error

    def _commit(self, rewrites: int) -> None:
        self.settle()
        with suppress(StoreFull):  # no room to rewrite anything: what is freed is free all the same
            self.reclaim(rewrites)
        if not self.uncommitted:
            self._payloads.discard_again()
            return
        self._payloads.synchronise()
        transaction = self._index.begin_commit()
        with self.lock:
            dropped = self._page_tables.begin_dropping()
        changes = Changes()
        settings: list[tuple[str, bytes]] = []
        try:
            # Without the lock: these may be many.
            self._index.drop_chunks(transaction, dropped)
            with self.lock:
                while self._unfinished:
                    self._finished.wait(0.01)
                    self.settle()  # or else what is released meanwhile would need much memory
                with self._held_tables():
                    # Page tables may have changed since settle: a reference too many is taken back
                    # after the next commit, one too few never happens.
                    self.settle()
                    self._index.drop_chunks(transaction, self._page_tables.begin_dropping())
                    changes.extents = self._extents.begin_commit()
                    changes.totals = self._extents.totals()
                    changes.tables = self._page_tables.begin_commit()
                    changes.inodes = self.namespace.take_dirty()
                    settings, self._settings_to_write = self._settings_to_write, []
                    changes.settings = [
                        *settings,
                        ("counters", json.dumps(self.counters).encode()),
                    ]
                    self._index.put(transaction, changes)
                    changes.tables = []  # views of what may change from here on
            self._index.end_commit(transaction)
        except BaseException:
            self._index.abandon(transaction)
            with self.lock:
                self._take_back(changes, settings)
            raise
        with self.lock:
            self._index.refresh()
            if self._hints is not None:
                self._hints.note_commit(self._index.commit_record.number)
            self._page_tables.end_commit(succeeded=True)
            self._superseded = 0
            self._payloads.discard_again()
            for number, side in self._extents.end_commit(True):
                self._payloads.discard(number, side)
            for number, header in changes.extents:
                if header is None:
                    self._payloads.discard(number, 0)
                    self._payloads.discard(number, 1)
                    self._extents.drop(number)
            self._extents.trim(LOADED_HEADERS)

    @contextmanager
    def _held_tables(self) -> Iterator[None]:
        """Within this, with the lock, nothing but the caller changes page tables."""
        if self._volume_pages is not None:
            self._volume_pages.hold_tables(True)
        try:
            yield
        finally:
            if self._volume_pages is not None:
                self._volume_pages.hold_tables(False)

    def hold_reserve(self) -> bool:
        """Keeps room for the commits that free some (difffs/store/reserve.py), while the store is
        open. False when there is no room for it; the next call tries again."""
        return self._reserve is None or self._reserve.hold()

    def give_reserve_back(self) -> None:
        """Ends that: what the store occupies from here on is what it will occupy at rest."""
        if self._reserve is not None:
            self._reserve.give_back()

    def make_room(self, dead_share: int = IDLE_DEAD_SHARE) -> bool:
        """On a full file system: frees what can be freed, with the reserve's help, dead payloads as
        reclaim() does; whether there is room for pages again, and for the reserve. Routing thread
        only. Raises as commit() does, but for StoreFull."""
        if self._reserve is None:
            return False
        try:
            freed = self._free_with_reserve(dead_share)
        finally:
            held = self._reserve.hold()
        return freed and held

    def _free_with_reserve(self, dead_share: int) -> bool:
        while True:
            removing = bool(self._removals)
            while self._removals and self.uncommitted < _SCARCE_CHANGES:
                self.remove_some(_SCARCE_CHANGES)
            self.settle()
            # With the old side of an extent free, there is room to rewrite the next.
            rewritten = self._rewrite_with_reserve(dead_share)
            if not self._commit_with_reserve(removing=removing):
                return False
            if not self._removals and (not rewritten or self.free_bytes() > _ENOUGH_ROOM):
                return True

    def _rewrite_with_reserve(self, dead_share: int) -> int:
        assert self._reserve is not None
        try:
            return self.reclaim(1, dead_share)
        except StoreFull:
            self._reserve.give_back()
        try:
            return self.reclaim(1, dead_share)
        except StoreFull:
            return 0

    def _commit_with_reserve(self, *, removing: bool) -> bool:
        """Commits, and gives up the reserve for a commit that frees more than it takes."""
        assert self._reserve is not None
        try:
            self.commit(rewrites=0)
        except StoreFull:
            gain = self._extents.emptied_bytes() + self._superseded
            if not removing and gain < 2 * PAGE_SIZE * self.uncommitted:
                return False
        else:
            return True
        self._reserve.give_back()
        try:
            self.commit(rewrites=0)
        except StoreFull:
            return False
        return True

    @property
    def is_scarce(self) -> bool:
        """Whether the file system has so little room left that commits are to be small."""
        return self.free_bytes() < _ENOUGH_ROOM

    @property
    def takes_groups(self) -> bool:
        """Whether there may be more groups before make_room_for_groups() is next."""
        if not self.is_scarce:
            return True
        assert self._reserve is not None
        kept = self._reserve.held or self._room() >= _KEPT_OF_RESERVE
        return kept and self.uncommitted < _SCARCE_CHANGES

    def make_room_for_groups(self, *, full: bool = False) -> None:
        """As make_room(); then groups get a part of the reserve if there is no other room, since in
        the end they free more than they take. StoreFull when that part is used up. `full`: a group
        was just refused."""
        if full:
            self._unusable = self._blocks_left()
        self.make_room(_SCARCE_DEAD_SHARE)
        if self._room() < _KEPT_OF_RESERVE:
            self.give_reserve_back()
            if self._room() < _KEPT_OF_RESERVE:
                raise StoreFull(
                    f"no space left for {self.path}, nor enough to refine it; free some there,"
                    " nothing is lost"
                )

    def _room(self) -> int:
        """Bytes that may still be filled, as far as is known: what a file system keeps for itself
        or for root shows when it is full."""
        return self._blocks_left() - self._unusable

    def _blocks_left(self) -> int:
        status = os.fstatvfs(self._payloads.file)
        return status.f_bfree * status.f_frsize

    def free_bytes(self) -> int:
        """Bytes that the store's file system has left."""
        status = os.fstatvfs(self._payloads.file)  # also of a store that was moved meanwhile
        return status.f_bavail * status.f_frsize

    def _take_back(self, changes: Changes, settings: list[tuple[str, bytes]]) -> None:
        self._extents.end_commit(False)
        self._page_tables.end_commit(succeeded=False)
        self.namespace.restore_dirty(number for number, _record in changes.inodes)
        self._settings_to_write[:0] = settings

    # -- telling ---------------------------------------------------------------------------------

    def page_counts(self) -> dict[str, int]:
        """Pages by route. Holes are no pages; `total` is the sum of the rest, with lost ones."""
        with self.lock:
            totals = self._extents.totals()
            counts = {route.name.lower(): 0 for route in Route}
            referenced = 0
            for codec, (objects, _bytes, references, pageless) in enumerate(totals):
                route = ROUTE_OF_CODEC.get(codec)
                if route is None:
                    continue
                if route is Route.SAME:
                    counts["same"] += references
                else:
                    counts[route.name.lower()] += objects - pageless
                    counts["identical"] += references - (objects - pageless)
                referenced += references
            counts["zero"] = self._chunks.zeros
            total = referenced + counts["zero"] + self._chunks.lost
            return {"total": total, **counts}

    @property
    def lost_pages(self) -> int:
        """Pages whose content is lost: reading them is an error."""
        with self.lock:
            return self._chunks.lost

    def object_count(self) -> int:
        """Stored pages, each counted once, and groups."""
        with self.lock:
            return sum(objects for objects, _bytes, _references, _bare in self._extents.totals())

    def occupancy(self) -> Occupancy:
        """Bytes really occupied."""
        with self.lock:
            payload = self._extents.live_bytes() - self._bytes_of_gone_members()
            in_payload_file = occupied_bytes(self.path / names.PAYLOAD_FILE)
            return Occupancy(
                payload=payload,
                slack=in_payload_file - payload,
                metadata=occupied_bytes(self.path) - in_payload_file,
            )

    def check(
        self, progress: "Progress | None" = None, *, payloads: bool = True
    ) -> "list[Finding]":
        """Verifies every invariant (difffs/store/check.py); commits first when it can."""
        from difffs.store.check import check_store

        while self.remove_some():
            pass
        self.commit()
        with self.lock:
            hints = self._hints
            return check_store(
                self.path,
                self._index,
                hints,
                self.namespace,
                self.dictionary,
                self.group_dictionary,
                progress,
                payloads=payloads,
            )

    def volume_usage(self, volume: int) -> VolumeUsage:
        """What one volume takes. O(pages), with the lock held now and then."""
        usage, chunk = self.usage_from(volume, 0)
        while chunk:
            piece, chunk = self.usage_from(volume, chunk)
            usage += piece
        return usage

    def usage_from(self, volume: int, first_chunk: int) -> tuple[VolumeUsage, int]:
        """A piece of the usage from a page table chunk on, and the chunk to go on with, or 0 when
        that was all."""
        usage = VolumeUsage()
        with self.lock:
            chunks = self._page_tables.chunks_of(volume, first_chunk, CHUNK_LIMIT, _USAGE_CHUNKS)
            for chunk in chunks:
                objects, zeros = self._page_tables.counts(volume, chunk)
                stored = float(TABLE_BYTES if objects or zeros else 0)
                if objects:
                    ids = self._page_tables.lookup(volume, chunk * TABLE_ENTRIES, TABLE_ENTRIES)
                    self.load_headers({i >> 8 for i in ids if i > ZERO})
                    share, missing = self._extents.shares(ids)
                    while missing:
                        self.load_headers(missing)
                        share, missing = self._extents.shares(ids)
                    stored += share
                    self._extents.trim(LOADED_HEADERS)
                usage += VolumeUsage(objects + zeros, zeros, stored)
            self._page_tables.trim(_SURPLUS)
        return usage, chunks[-1] + 1 if len(chunks) == _USAGE_CHUNKS else 0

    # -- closing ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Commits and closes. After an error in the commit the store is closed all the same."""
        if not self._open:
            return
        self._open = False
        committed = False
        try:
            if not self.read_only:
                self._close_writing()
            # What could not be given back is swept up at the next opening.
            committed = not self._payloads.has_undiscarded
        finally:
            self._release(committed=committed)

    def abandon(self) -> None:
        """Closes without a commit: what was not committed is gone, as after a crash."""
        if self._open:
            self._open = False
            self._release(committed=False)

    def _close_writing(self) -> None:
        if self._removals and self._broken is None and self.free_bytes() < _SCARCE_BYTES:
            with suppress(TryAgain):  # the commits below say what is wrong
                self.make_room()
        while self._broken is None and self.remove_some():
            if self.uncommitted > _REMOVED_A_COMMIT:
                self.commit()
        self.give_reserve_back()
        self.commit()
        if self.reclaimable:  # what the last commit freed
            self.commit()
        self._compact_index()

    def _compact_index(self) -> None:
        """Gives the index's free pages back when they are a large part of it."""
        occupied = occupied_bytes(self._index.path / "data.mdb")
        if self._index.free_bytes() > max(occupied // 8, 64 << 10):
            with suppress(DifffsError):  # then the free pages stay for the next commits
                self._index.compact()

    def _release(self, *, committed: bool) -> None:
        self.give_reserve_back()
        if self._hints is not None:
            self._hints.close(complete=committed)
        self._index.close()
        self._payloads.close()
        self._lock_file.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


__all__ = ["DEAD_SHARE", "LOADED_HEADERS", "RECIPES", "Store"]
