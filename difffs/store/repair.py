"""Saving what can be saved of a damaged store into a clean one.

The damaged store is only read. Of its index counts what is proven to be of the last commit
(difffs/store/salvage.py), and of its payloads what decodes to the page that its record names. What
a page table names beyond that becomes *lost*: reading it is an error, never zeros. Payloads are
copied as they are, and objects keep their ids.
"""

import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import Struct

from difffs import _kernels
from difffs.codec import Codec, GroupCodec
from difffs.errors import CorruptStore, FormatTooNew
from difffs.page import PAGE_SIZE, page_count
from difffs.recipe import DEFAULT_RECIPE, RECIPES, Recipe
from difffs.store import format as names
from difffs.store.bindings import STORE_ID_BYTES, Kind
from difffs.store.failures import explained
from difffs.store.hints import noted_commit
from difffs.store.index import Changes, Index, synchronise_directory
from difffs.store.inode import Inode
from difffs.store.object_table import (
    DEPTH_LIMIT,
    HEADER_PREFIX,
    RECORD_BYTES,
    ObjectTable,
    StoredObject,
    pack_record,
    parse_prefix,
)
from difffs.store.page_tables import HOLE, LOST, ZERO
from difffs.store.payloads import PayloadFile
from difffs.store.repair_names import RepairedNames, repaired_names
from difffs.store.salvage import FormerSalvage, Salvage
from difffs.store.stored_groups import StoredGroups, in_order_of_decoding

Progress = Callable[[int, int], None]
"""Called with (objects decoded, objects in all)."""

Run = tuple[int, int]
"""Pages in a row: (first, how many)."""

_CHUNK = Struct(">II")
_CHUNK_PREFIX = Struct("<IIII")  # reserved, objects and lost, zeros, lost
_MOST_PAGES, _MOST_PATCHES = (1 << 14) - 1, (1 << 10) - 1
_VALUES_A_COMMIT = 1024
"""Values (4 MiB) after which the new index is committed: they are in memory until then."""
_UNKNOWN, _SOUND, _GONE = range(3)


@dataclass(slots=True)
class LostPages:
    """What is gone of one volume."""

    name: str
    runs: list[Run] = field(default_factory=list)
    """Ascending and apart."""

    @property
    def pages(self) -> int:
        """How many."""
        return sum(count for _first, count in self.runs)

    def add(self, first: int, count: int) -> None:
        """Takes pages that were not taken before."""
        if self.runs and sum(self.runs[-1]) == first:
            first, count = self.runs[-1][0], self.runs.pop()[1] + count
        self.runs.append((first, count))

    def arrange(self) -> None:
        """Puts the runs in order, those that touch joined."""
        runs, self.runs = sorted(self.runs), []
        for first, count in runs:
            self.add(first, count)


@dataclass(slots=True)
class Repair:
    """What was saved, and what was not."""

    objects: int = 0
    """Saved."""
    pages: int = 0
    """Saved: mapped, and not lost."""
    lost: list[LostPages] = field(default_factory=list)
    """What is gone, by volume."""
    lost_before: int = 0
    """Pages that an earlier repair had given up."""
    gone: list[str] = field(default_factory=list)
    """Names and whole volumes that are gone."""
    moved: list[str] = field(default_factory=list)
    """What has another name now."""
    notes: list[str] = field(default_factory=list)
    """What else was damaged."""
    is_proven: bool = True
    """Whether all of it is known to be of the last commit."""
    is_sound: bool = True
    """Whether the store was without any damage."""

    @property
    def lost_pages(self) -> int:
        """Pages that are gone now and were not before."""
        return sum(each.pages for each in self.lost)

    @property
    def has_lost(self) -> bool:
        """Whether anything is gone, or may be."""
        return bool(self.lost or self.gone) or not self.is_proven


class StoreRepair:
    """A damaged store, looked through. A context manager, for the files that it holds.

    Memory: some 30 bytes an object. Nothing else may change the store meanwhile.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        """Reads the whole store and decodes every payload. CorruptStore when nothing can be saved;
        FormatTooNew when there is anything that only a newer difffs knows."""
        self.path = path
        self.result = Repair()
        self._objects = ObjectTable()
        self._states: dict[int, bytearray] = {}
        self._lost_of: dict[int, LostPages] = {}
        with ExitStack() as cleanup:
            form = names.read_format(path)
            self._payloads = PayloadFile(path / names.PAYLOAD_FILE, read_only=True)
            cleanup.callback(self._payloads.close)
            self._index = self._salvaged(form)
            cleanup.callback(self._index.close)
            self._whole = self._index.is_whole
            self.result.is_proven = self._index.is_proven and not self._may_be_former()
            self._settings = self._read_settings()
            self._read_headers()
            self._names = self._read_names()
            self._volume_names = self._names.volume_names()
            self._count_pages()
            self._decode_all(progress)
            self._drop_unreferenced()
            self._cleanup = cleanup.pop_all()

    def __enter__(self) -> "StoreRepair":
        return self

    def __exit__(self, *_error: object) -> None:
        self._cleanup.close()

    # -- reading ---------------------------------------------------------------------------------

    def _salvaged(self, form: names.StoreFormat) -> Salvage | FormerSalvage:
        index: Salvage | FormerSalvage
        if form.version == names.FORMAT_VERSION:
            index = Salvage(self.path / names.INDEX_DIRECTORY, form.store_id)
            noted = noted_commit(self.path / names.DIGEST_FILE)
            if index.record is not None and noted > index.record.number:
                index.close()
                raise CorruptStore(
                    f"{self.path} holds commit {index.record.number}, but commit {noted} was made:"
                    " all of it is of an earlier time. Restore the store from a copy; or, if that"
                    f" will do, remove {self.path / names.DIGEST_FILE} and try again"
                )
        else:
            directory = self.path / names.FORMER_INDEX_DIRECTORY
            index = FormerSalvage(directory, self._payloads.file)
        self.result.notes += index.notes
        self.result.is_sound = not index.notes and not any(index.missing.values())
        return index

    def _may_be_former(self) -> bool:
        """Whether it may be the commit before the last that is read, and no one knows better."""
        if not self._index.may_be_former or self._index.record is None:
            return self._index.may_be_former
        return noted_commit(self.path / names.DIGEST_FILE) != self._index.record.number

    def _damaged(self, text: str) -> None:
        self.result.is_sound = False
        self.result.notes.append(text)

    def _read_settings(self) -> dict[str, bytes]:
        settings = {
            key.decode(errors="replace"): value for key, value in self._index.values(Kind.SETTING)
        }
        for key in self._index.missing[Kind.SETTING]:
            self._damaged(f"the setting {key.decode(errors='replace')!r} is gone")
        try:
            Recipe.from_dict(json.loads(settings["recipe"]))
        except (KeyError, ValueError, TypeError):
            self._damaged(f"the recipe is gone: new pages get {DEFAULT_RECIPE!r}")
            settings["recipe"] = json.dumps(RECIPES[DEFAULT_RECIPE].to_dict()).encode()
        settings.setdefault("created", str(time.time()).encode())
        return settings

    def _read_headers(self) -> None:
        for number in self._missing_numbers(Kind.EXTENT):
            self._damaged(f"the header of extent {number} is gone, and so are its objects")
        for key, stored in self._index.values(Kind.EXTENT):
            number = int.from_bytes(key, "big")
            try:
                parse_prefix(stored)
            except ValueError as error:
                self._damaged(f"the header of extent {number} {error}")
                continue
            codecs = set(stored[RECORD_BYTES + 4 :: RECORD_BYTES]) - {0}
            if not codecs <= {*Codec, *GroupCodec}:
                raise FormatTooNew(
                    f"{self.path}: extent {number} has what this difffs does not know;"
                    " use a newer one"
                )
            self._objects.add(number, stored)
            self._states[number] = bytearray(len(stored) // RECORD_BYTES)

    def _missing_numbers(self, kind: Kind) -> list[int]:
        return [int.from_bytes(key, "big") for key in self._index.missing[kind] if len(key) == 4]

    def _missing_chunks(self) -> Iterator[tuple[int, int]]:
        for key in self._index.missing[Kind.TABLE]:
            if len(key) == _CHUNK.size:
                yield _CHUNK.unpack(key)

    def _chunks(self) -> Iterator[tuple[int, int, "array[int]"]]:
        """(volume, chunk, ids) of the page table chunks that are there."""
        for key, stored in self._index.values(Kind.TABLE):
            if len(key) == _CHUNK.size and len(stored) == _kernels.TABLE_BYTES:
                volume, chunk = _CHUNK.unpack(key)
                yield volume, chunk, array("I", stored[_CHUNK_PREFIX.size :])

    def _read_names(self) -> RepairedNames:
        found = []
        gone = set(self._missing_numbers(Kind.INODE))
        for key, record in self._index.values(Kind.INODE):
            number = int.from_bytes(key, "big")
            try:
                inode = Inode.unpack(record)
            except CorruptStore:
                gone.add(number)
                continue
            if inode.number == number:
                found.append(inode)
            else:
                gone.add(number)
        pages: dict[int, int] = {}
        domains: dict[int, int] = {}
        for volume, chunk, ids in self._chunks():
            for identity in ids if volume not in domains else ():
                if self._objects.get(identity) is not None:
                    domains[volume] = self._objects.domain_of(identity)
                    break
            last = next((i for i in range(len(ids) - 1, -1, -1) if ids[i] != HOLE), -1)
            pages[volume] = max(pages.get(volume, 0), chunk * len(ids) + last + 1)
        known = {inode.number for inode in found}
        if not self._whole and not known and not pages:
            raise CorruptStore(
                f"{self.path}: no name and no page table can be read; nothing can be saved,"
                " restore the store from a copy"
            )
        for volume, chunk in self._missing_chunks():
            if volume not in known:
                end = (chunk + 1) * _kernels.TABLE_ENTRIES
                pages[volume] = max(pages.get(volume, 0), end)
            else:
                pages.setdefault(volume, 0)
        status = self.path.stat()
        repaired = repaired_names(
            found,
            gone,
            pages,
            domains,
            whole=self._whole,
            uid=status.st_uid,
            gid=status.st_gid,
        )
        self.result.gone += repaired.gone
        self.result.moved += repaired.moved
        told = self._index.record.counts[Kind.INODE] if self._index.record is not None else 0
        unknown = told - len(known | gone)
        if not self._whole and unknown > 0:
            self.result.gone.append(f"{unknown} files, directories or links that nothing tells of")
        if gone or repaired.gone or repaired.moved:
            self.result.is_sound = False
        return repaired

    def _end(self, volume: int) -> int:
        """The pages of a volume; 0 of one that is not kept."""
        inode = self._names.inodes.get(volume)
        if inode is None or not inode.is_volume or volume in self._names.dropped:
            return 0
        return page_count(inode.size)

    def _count_pages(self) -> None:
        absent = 0
        for volume, chunk, ids in self._chunks():
            room = self._end(volume) - chunk * len(ids)
            counts = Counter(ids[: max(0, room)])
            self.result.pages += counts.total() - counts[HOLE] - counts[LOST]
            self.result.lost_before += counts[LOST]
            for identity, times in counts.items():
                if identity in (HOLE, LOST, ZERO):
                    continue
                item = self._objects.get(identity)
                if item is None or item.is_group:
                    absent += times
                else:
                    self._objects.count(identity, times)
        self.result.objects = len(self._objects)
        if absent:
            self._damaged(f"{absent} pages are of objects that do not exist")

    # -- payloads --------------------------------------------------------------------------------

    def _decode_all(self, progress: Progress | None) -> None:
        context = _kernels.Context()
        content = self._settings.get(names.DICTIONARY)
        if content is not None:
            recipe = Recipe.from_dict(json.loads(self._settings["recipe"]))
            context.use(_kernels.Dictionary(content, recipe.compress_level))
        content = self._settings.get(names.GROUP_DICTIONARY)
        dictionary = None if content is None else _kernels.Dictionary(content, None)
        self._groups = StoredGroups(self._payloads.file, self._objects, dictionary)
        self._damaged_groups = damaged = 0
        for done, (identity, item) in enumerate(in_order_of_decoding(self._objects)):
            if progress is not None and done % 256 == 0:
                progress(done, len(self._objects))
            if self._states[identity >> 8][identity & 255] == _UNKNOWN:
                self._page(context, identity, item, 0)
            damaged += self._states[identity >> 8][identity & 255] == _GONE
        if progress is not None:
            progress(len(self._objects), len(self._objects))
        if self._damaged_groups:
            self._damaged(f"{self._damaged_groups} groups are damaged: some of their pages may be")
        if damaged:
            self._damaged(f"{damaged} payloads are damaged, or what they are patches of is")

    def _page(
        self, context: _kernels.Context, identity: int, item: StoredObject, depth: int
    ) -> bytes | None:
        """The page of an object, or None; notes which it is."""
        states = self._states[identity >> 8]
        if states[identity & 255] == _GONE:
            return None
        if item.is_group:  # as good as its members, which say so page by page
            states[identity & 255] = _SOUND
            try:
                self._groups.verify(item)
            except (OSError, ValueError):
                self._damaged_groups += 1
            return None
        page = self._decoded(context, item, depth)
        states[identity & 255] = _GONE if page is None else _SOUND
        return page

    def _decoded(self, context: _kernels.Context, item: StoredObject, depth: int) -> bytes | None:
        base = None
        if item.is_member:
            return self._member_page(item)
        if Codec(item.codec).is_patch:
            stored = self._objects.get(item.base)
            if stored is None or stored.is_group or depth >= DEPTH_LIMIT:
                return None
            base = self._page(context, item.base, stored, depth + 1)
            if base is None:
                return None
        try:
            payload = os.pread(self._payloads.file, item.length, item.position)
            page = context.decode(item.codec, payload, base)
        except (OSError, ValueError):
            return None
        is_it = len(page) == PAGE_SIZE and _kernels.digest(page) & 0xFFFFFFFF == item.digest
        return page if is_it else None

    def _member_page(self, item: StoredObject) -> bytes | None:
        group = self._objects.get(item.base)
        if group is None or self._is_gone(item.base):
            return None
        try:
            page = self._groups.page(item)
        except (OSError, ValueError):
            return None
        return page if _kernels.digest(page) & 0xFFFFFFFF == item.digest else None

    def _is_gone(self, identity: int) -> bool:
        return self._states[identity >> 8][identity & 255] == _GONE

    def _drop_unreferenced(self) -> None:
        """Counts references by patches, and lets go of what nothing needs any more, and of what
        more refer to than its record says: that is of another time."""
        for identity, item in self._objects:
            if self._is_sound(identity) and _leans_on_another(item):
                self._objects.count(item.base, 1, by_patches=True)
        waiting = [identity for identity, _item in self._objects]
        for identity in waiting:
            pages, patches = self._objects.counted(identity)
            stored = self._objects.get(identity)
            assert stored is not None
            beyond = pages > _MOST_PAGES or patches > _MOST_PATCHES
            if not self._whole:
                beyond = beyond or pages > stored.pages or patches > stored.patches
            if beyond:
                self._give_up_with_patches(identity)
        while waiting:
            identity = waiting.pop()
            pages, patches = self._objects.counted(identity)
            if not self._is_sound(identity) or pages or patches:
                continue
            self._states[identity >> 8][identity & 255] = _GONE
            self._release_base(identity, waiting)
        self._compare_counts()

    def _release_base(self, identity: int, waiting: list[int]) -> None:
        item = self._objects.get(identity)
        assert item is not None
        if _leans_on_another(item):
            self._objects.count(item.base, -1, by_patches=True)
            waiting.append(item.base)

    def _give_up_with_patches(self, identity: int) -> None:
        """An object and all that is made of it."""
        given_up, more = {identity}, True
        while more:
            more = False
            for other, item in self._objects:
                if item.base in given_up and other not in given_up and self._is_sound(other):
                    given_up.add(other)
                    more = True
        for other in given_up:
            if self._is_sound(other):
                self._states[other >> 8][other & 255] = _GONE
                self._release_base(other, [])

    def _compare_counts(self) -> None:
        wrong = 0
        for identity, item in self._objects:
            counted = self._objects.counted(identity)
            wrong += self._is_sound(identity) and counted != (item.pages, item.patches)
            wrong += not self._is_sound(identity)
        if wrong and self.result.is_sound:
            self._damaged(f"{wrong} objects are not referred to as often as they say")
        if self._index.record is not None and self.result.is_sound:
            found = _kernels.Extents(-1)
            for number in self._states:
                found.count_objects(self._objects.header(number))
            told = [total for total in self._index.record.codecs if any(total)]
            if told != [total for total in found.totals() if any(total)]:
                self._damaged("the totals of the commit record are not those of the objects")

    def _is_sound(self, identity: int) -> bool:
        return self._states[identity >> 8][identity & 255] == _SOUND

    def _is_kept(self, identity: int) -> bool:
        states = self._states.get(identity >> 8)
        slot = identity & 255
        return states is not None and 0 < slot < len(states) and states[slot] == _SOUND

    # -- writing ---------------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Makes the clean store in an empty directory; `format`, its last file, makes it a store.
        StoreFull when there is no room. To be called once."""
        store_id = os.urandom(STORE_ID_BYTES)
        index_directory = directory / names.INDEX_DIRECTORY
        try:
            index_directory.mkdir(mode=0o700)
            with ExitStack() as cleanup:
                payloads = PayloadFile(directory / names.PAYLOAD_FILE, read_only=False, create=True)
                cleanup.callback(payloads.close)
                index = Index(index_directory, store_id, read_only=False, create=True)
                cleanup.callback(index.close)
                self._fill(index, payloads, store_id)
            synchronise_directory(index_directory)
            names.write_format(directory, store_id)
            synchronise_directory(directory)
        except OSError as error:
            raise explained(error, directory, "made") from None

    def _fill(self, index: Index, payloads: PayloadFile, store_id: bytes) -> None:
        writing = _Writing(index)
        self.result.objects = self.result.pages = self.result.lost_before = 0
        for number in self._states:
            header = self._copy_extent(number, payloads)
            if header:
                writing.count(header)
                writing.changes.extents.append((number, header))
                writing.added()
        payloads.synchronise()
        for inode in self._names.inodes.values():
            if inode.number not in self._names.dropped or not inode.is_volume:
                writing.changes.inodes.append((inode.number, inode.pack()))
                writing.added()
        for volume, chunk, ids in self._all_chunks():
            stored = self._repaired_chunk(volume, chunk, ids)
            if stored is not None:
                writing.changes.tables.append((volume, chunk, memoryview(stored)))
                writing.added()
        self._settings["id"] = store_id
        kept = ("recipe", "created", "counters", names.DICTIONARY, names.GROUP_DICTIONARY, "id")
        writing.changes.settings += [
            (name, self._settings[name]) for name in kept if name in self._settings
        ]
        writing.commit()
        for lost in self.result.lost:
            lost.arrange()
        self.result.lost.sort(key=lambda each: each.name)

    def _copy_extent(self, number: int, payloads: PayloadFile) -> bytes:
        """Writes the payloads that are kept, one behind the other; the header that names them."""
        parts: list[bytes] = []
        records = bytearray(RECORD_BYTES)
        used = at = 0
        for identity, item in self._objects.of_extent(number):
            if not self._is_sound(identity):
                continue
            payload = os.pread(self._payloads.file, item.length, item.position)
            slot = identity & 255
            pages, patches = self._objects.counted(identity)
            if item.is_group:  # its payload may be damaged where no member is left
                item = replace(item, digest=_kernels.checksum(payload))
            records += bytes(RECORD_BYTES * (slot - used - 1))
            records += pack_record(item, at, pages, patches)
            parts.append(payload)
            used, at = slot, at + item.length
            self.result.objects += 1
        if not used:
            return b""
        payloads.write(number, 0, 0, b"".join(parts))
        records[: HEADER_PREFIX.size] = HEADER_PREFIX.pack(
            at, 0, self._objects.domain_of(number << 8), used, 0
        )
        return bytes(records)

    def _all_chunks(self) -> Iterator[tuple[int, int, "array[int] | None"]]:
        """All chunks of the volumes that are kept, None for those whose content is
        gone."""
        gaps = set(self._missing_chunks())
        there: dict[int, set[int]] = {}
        for volume, chunk, ids in self._chunks():
            yield volume, chunk, ids
            if not self._whole:
                there.setdefault(volume, set()).add(chunk)
        if not self._whole:  # what is not there may have been lost
            for volume in self._names.inodes:
                end = -(-self._end(volume) // _kernels.TABLE_ENTRIES)
                known = there.get(volume, set())
                gaps.update((volume, chunk) for chunk in range(end) if chunk not in known)
        for volume, chunk in sorted(gaps):
            yield volume, chunk, None

    def _repaired_chunk(self, volume: int, chunk: int, ids: "array[int] | None") -> bytes | None:
        """A chunk of the clean store; None when it would map nothing."""
        first = chunk * _kernels.TABLE_ENTRIES
        room = min(self._end(volume) - first, _kernels.TABLE_ENTRIES)
        if room <= 0:
            return None
        entries = array("I", bytes(4 * _kernels.TABLE_ENTRIES))
        given_up = list(range(room))
        if ids is None:
            entries[:room] = array("I", [LOST]) * room
        else:
            kept = {
                each: self._is_kept(each) for each in set(ids) if each not in (HOLE, LOST, ZERO)
            }
            gone = {each for each, is_kept in kept.items() if not is_kept}
            entries[:room] = ids[:room]
            given_up = [i for i in range(room) if ids[i] in gone] if gone else []
            for entry in given_up:
                entries[entry] = LOST
        self._tell_lost(volume, first, given_up)
        counts = Counter(entries)
        mapped = len(entries) - counts[HOLE] - counts[ZERO]
        self.result.pages += mapped + counts[ZERO] - counts[LOST]
        self.result.lost_before += counts[LOST] - len(given_up)
        if not mapped and not counts[ZERO]:
            return None
        return _CHUNK_PREFIX.pack(0, mapped, counts[ZERO], counts[LOST]) + entries.tobytes()

    def _tell_lost(self, volume: int, first: int, entries: list[int]) -> None:
        if not entries:
            return
        lost = self._lost_of.get(volume)
        if lost is None:
            lost = self._lost_of[volume] = LostPages(self._volume_names[volume])
            self.result.lost.append(lost)
        for entry in entries:
            lost.add(first + entry, 1)


def _leans_on_another(item: StoredObject) -> bool:
    """Whether it is a patch, or a member: its base or group counts it."""
    return item.is_member or (not item.is_group and Codec(item.codec).is_patch)


class _Writing:
    """Commits what is put in `changes` before it becomes much."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._extents = _kernels.Extents(-1)  # counts the objects
        self.changes = Changes()

    def count(self, header: bytes) -> None:
        self._extents.count_objects(header)

    def added(self) -> None:
        changes = self.changes
        if len(changes.extents) + len(changes.tables) + len(changes.inodes) >= _VALUES_A_COMMIT:
            self.commit()

    def commit(self) -> None:
        self.changes.totals = self._extents.totals()
        self._index.commit(self.changes)
        self.changes = Changes()
