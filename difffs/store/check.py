"""check(): every invariant of a store, from what is on disk, in plain Python.

It shares no bookkeeping with the code that it checks: headers are parsed here, references counted
here, and payloads decoded one by one. The invariants are numbered in docs/store-format.md.
"""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from difffs import _kernels
from difffs.codec import Codec, GroupCodec
from difffs.page import PAGE_SIZE, page_count
from difffs.store.bindings import Kind
from difffs.store.format import DIGEST_FILE, PAYLOAD_FILE
from difffs.store.hints import Hints, stored_digests
from difffs.store.index import Index
from difffs.store.namespace import Namespace
from difffs.store.object_table import (
    DEPTH_LIMIT,
    RECORD_BYTES,
    ObjectTable,
    StoredObject,
    parse_prefix,
)
from difffs.store.page_tables import HOLE, LOST, ZERO
from difffs.store.stored_groups import StoredGroups, in_order_of_decoding, members_by_group

Progress = Callable[[int, int], None]
"""Called with (objects done, objects in all)."""

_PATCHES = frozenset(codec for codec in Codec if codec.is_patch)
_KNOWN = (frozenset(Codec) | frozenset(GroupCodec)) - {Codec.NONE}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: str
    """commit, header, table, reference, base, group, domain, space, payload, digest, lost, setting
    or name; the command adds image."""
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


def check_store(
    path: Path,
    index: Index,
    hints: Hints | None,
    namespace: Namespace,
    dictionary: _kernels.Dictionary | None,
    group_dictionary: _kernels.Dictionary | None,
    progress: Progress | None,
    *,
    payloads: bool,
) -> list[Finding]:
    """All findings. Reads only; nothing else may change the store meanwhile."""
    check = _Check(path, index, hints, namespace, dictionary, group_dictionary)
    return check.run(progress, payloads=payloads)


class _Check:
    def __init__(
        self,
        path: Path,
        index: Index,
        hints: Hints | None,
        namespace: Namespace,
        dictionary: _kernels.Dictionary | None,
        group_dictionary: _kernels.Dictionary | None,
    ) -> None:
        self._path = path
        self._index = index
        self._hints = hints
        self._namespace = namespace
        self._dictionary = dictionary
        self._group_dictionary = group_dictionary
        self._objects = ObjectTable()
        self._summary_domains = dict(index.extent_domains())
        self._findings: list[Finding] = []

    def _find(self, kind: str, where: str, text: str) -> None:
        self._findings.append(Finding(kind, where, text))

    def run(self, progress: Progress | None, *, payloads: bool) -> list[Finding]:
        for text in self._namespace.check():
            self._find("name", "names", text)
        if self._index.damage:
            self._find("commit", "index", self._index.damage)
        for kind in (Kind.INODE, Kind.SETTING):
            for key, value, right in self._index.entries(kind):
                self._check_binding(kind, key, value, right=right)
        self._read_headers()
        self._count_page_references()
        self._count_patch_references()
        self._compare_references()
        if payloads:
            with (self._path / PAYLOAD_FILE).open("rb") as file:
                self._decode_all(file.fileno(), progress)
        self._check_digests()
        return self._findings

    def _check_binding(self, kind: Kind, key: bytes, value: bytes | None, *, right: bool) -> bool:
        """Whether the value is the one that was committed."""
        where, finding = _place(kind, key), _FINDINGS[kind]
        if value is None:
            self._find(finding, where, "is missing")
        elif not right:
            self._find(finding, where, "is not the one that was committed")
        elif len(key) != _KEY_BYTES.get(kind, len(key)):
            self._find(finding, where, "is of no such thing")
        else:
            return True
        return False

    def _read_headers(self) -> None:
        totals: dict[int, list[int]] = {}
        for key, stored, right in self._index.entries(Kind.EXTENT):
            if self._check_binding(Kind.EXTENT, key, stored, right=right) and stored is not None:
                self._read_header(int.from_bytes(key, "big"), stored)
        for _identity, item in self._objects:
            of_codec = totals.setdefault(item.codec, [0, 0, 0, 0])
            counts = (1, item.length, item.pages, int(not item.pages))
            if item.is_group:
                counts = (1, item.length, item.patches, item.members_made - item.patches)
            for at, more in enumerate(counts):
                of_codec[at] += more
        told = {
            codec: list(total)
            for codec, total in enumerate(self._index.commit_record.codecs)
            if any(total)
        }
        if told != totals and not self._findings:
            self._find("commit", "index", "its totals are not those of the objects")

    def _read_header(self, number: int, stored: bytes) -> None:
        where = f"extent {number}"
        try:
            prefix = parse_prefix(stored)
        except ValueError as error:
            self._find("header", where, str(error))
            return
        told = self._summary_domains.get(number, prefix.domain)
        if told != prefix.domain:
            self._find("domain", where, f"is of domain {prefix.domain}, its summary says {told}")
        if prefix.domain and not self._namespace.has_domains:
            self._find("domain", where, f"is of domain {prefix.domain}, but the store has none")
        self._objects.add(number, stored)
        for slot in range(1, prefix.used + 1):
            record = stored[RECORD_BYTES * slot : RECORD_BYTES * (slot + 1)]
            if not record[4] and any(record):
                self._find("header", f"{where} slot {slot}", "a free slot is not empty")
        spans = []
        for identity, item in self._objects.of_extent(number):
            if item.codec not in _KNOWN:
                text = f"has codec {item.codec}, which this version cannot read"
                self._find("header", _name(identity), text)
                continue
            if item.base and item.codec not in _PATCHES and not item.is_member:
                self._find("base", _name(identity), "no patch, yet it has a base")
            if item.codec in _OF_DOMAIN_0 and prefix.domain:
                self._find("domain", _name(identity), "needs the dictionary of domain 0")
            if item.is_member:
                continue
            spans.append((item.offset, item.offset + item.length, identity & 255))
        self._check_spans(where, spans, prefix.end)

    def _check_spans(self, where: str, spans: list[tuple[int, int, int]], end: int) -> None:
        """Payloads lie apart from each other, within the extent's end."""
        behind = 0
        for start, stop, slot in sorted(spans):
            if start < behind:
                self._find("space", f"{where} slot {slot}", "overlaps the payload before it")
            behind = max(behind, stop)
        if behind > end or end > _kernels.EXTENT_SIDE_BYTES:
            self._find("space", where, f"payloads reach byte {behind}, the extent ends at {end}")

    def _count_page_references(self) -> None:
        missing: set[int] = set()
        for key, stored, right in self._index.entries(Kind.TABLE):
            where = _place(Kind.TABLE, key)
            if not self._check_binding(Kind.TABLE, key, stored, right=right) or stored is None:
                continue
            volume, chunk = _CHUNK.unpack(key)
            try:
                counts = _kernels.table_counts(stored)
            except ValueError as error:
                self._find("table", where, str(error))
                continue
            ids = array("I", stored[16:])
            seen = Counter(ids)
            mapped = len(ids) - seen[HOLE] - seen[ZERO]
            if counts != (mapped, seen[ZERO], seen[LOST]):
                self._find("table", where, "its counts are wrong")
            if seen[LOST]:
                self._report_lost(volume, chunk, ids)
            del seen[HOLE], seen[ZERO], seen[LOST]
            for identity, times in seen.items():
                item = self._objects.get(identity)
                if item is None or item.is_group:
                    missing.add(identity)
                else:
                    self._objects.count(identity, times)
            self._check_domains(volume, seen, where)
            self._check_owner(volume, chunk, ids, where)
        for identity in sorted(missing):
            self._find("reference", _name(identity), "pages refer to it, but it does not exist")

    def _check_domains(self, volume: int, identities: Iterable[int], where: str) -> None:
        """A volume refers to objects of its own domain only."""
        try:
            domain = self._namespace.domain_of(volume)
        except OSError:
            return  # _check_owner() tells
        for identity in identities:
            if self._objects.get(identity) is None:
                continue
            other = self._objects.domain_of(identity)
            if other != domain:
                text = f"is of domain {domain}, and refers to {_name(identity)} of domain {other}"
                self._find("domain", where, text)

    def _report_lost(self, volume: int, chunk: int, ids: "array[int]") -> None:
        try:
            name = f"volume {self._namespace.path(volume)}"
        except (KeyError, OSError):
            name = f"volume number {volume}"
        for entry, identity in enumerate(ids):
            if identity == LOST:
                page = chunk * _kernels.TABLE_ENTRIES + entry
                self._find("lost", f"page {page} of {name}", "its content was given up")

    def _check_owner(self, volume: int, chunk: int, ids: "array[int]", where: str) -> None:
        try:
            owner = self._namespace.get(volume)
        except (KeyError, OSError):
            owner = None
        if owner is None or not owner.is_volume:
            self._find("table", where, "belongs to no volume")
            return
        last = max(i for i, value in enumerate(ids) if value != HOLE) if any(ids) else -1
        if chunk * _kernels.TABLE_ENTRIES + last >= page_count(owner.size):
            self._find("table", where, "maps pages behind the volume's end")

    def _patches(self) -> Iterator[tuple[int, StoredObject]]:
        for identity, item in self._objects:
            if item.codec in _PATCHES:
                yield identity, item

    def _count_members(self) -> None:
        """Each member is another page of a group of its domain."""
        of_group, pages = 0, set[int]()
        for identity in members_by_group(self._objects):
            item = self._objects.get(identity)
            assert item is not None
            if item.base != of_group:
                of_group, pages = item.base, set()
            if item.group_page in pages:
                text = f"another member is page {item.group_page} of {_name(item.base)}, too"
                self._find("group", _name(identity), text)
            pages.add(item.group_page)
            group = self._objects.get(item.base)
            if group is None or not group.is_group:
                self._find("group", _name(identity), f"its group {_name(item.base)} does not exist")
                continue
            self._objects.count(item.base, 1, by_patches=True)
            if item.group_page >= group.members_made:
                text = f"is page {item.group_page} of a group of {group.members_made}"
                self._find("group", _name(identity), text)
            if self._objects.domain_of(item.base) != self._objects.domain_of(identity):
                text = f"its group {_name(item.base)} is of another domain"
                self._find("domain", _name(identity), text)

    def _count_patch_references(self) -> None:
        self._count_members()
        for identity, item in self._patches():
            base = self._objects.get(item.base)
            if base is None or base.is_group:
                self._find("base", _name(identity), f"its base {_name(item.base)} does not exist")
                continue
            self._objects.count(item.base, 1, by_patches=True)
            if self._objects.domain_of(item.base) != self._objects.domain_of(identity):
                domain, other = map(self._objects.domain_of, (identity, item.base))
                text = f"is of domain {domain}, its base {_name(item.base)} of domain {other}"
                self._find("domain", _name(identity), text)
            if self._depth(item) > DEPTH_LIMIT:
                self._find(
                    "base", _name(identity), f"its chain has more than {DEPTH_LIMIT} patches"
                )

    def _depth(self, item: StoredObject) -> int:
        """Patches down to the last base; those of an endless chain are a few too many."""
        depth = 0
        while item.codec in _PATCHES and depth <= DEPTH_LIMIT:
            depth += 1
            base = self._objects.get(item.base)
            if base is None:
                break
            item = base
        return depth

    def _compare_references(self) -> None:
        for identity, item in self._objects:
            by_pages, by_patches = self._objects.counted(identity)
            if item.is_group:
                self._check_group(identity, item, by_patches)
                continue
            if item.pages != by_pages:
                text = f"counts {item.pages} pages, {by_pages} refer to it"
                self._find("reference", _name(identity), text)
            if item.patches != by_patches:
                text = f"counts {item.patches} patches, {by_patches} refer to it"
                self._find("reference", _name(identity), text)
            if not item.pages and not item.patches:
                self._find("reference", _name(identity), "nothing refers to it, yet it is kept")

    def _check_group(self, identity: int, item: StoredObject, members: int) -> None:
        if item.members_made > _kernels.GROUP_PAGES or not item.members_made:
            self._find("group", _name(identity), f"has {item.members_made} pages")
        if item.patches != members:
            text = f"counts {item.patches} members, {members} are there"
            self._find("group", _name(identity), text)

    def _decode_all(self, file: int, progress: Progress | None) -> None:
        context = _kernels.Context()
        if self._dictionary is not None:
            context.use(self._dictionary)
        self._groups = StoredGroups(file, self._objects, self._group_dictionary)
        for done, (identity, item) in enumerate(in_order_of_decoding(self._objects)):
            if progress is not None and done % 256 == 0:
                progress(done, len(self._objects))
            self._decode(file, context, identity, item, 0)
        if progress is not None:
            progress(len(self._objects), len(self._objects))

    def _decode(
        self, file: int, context: _kernels.Context, identity: int, item: StoredObject, depth: int
    ) -> bytes | None:
        """The page, or None; what is wrong with it is reported at depth 0 only: with a base, when
        it is that object's turn."""
        try:
            return self._page(file, context, item, depth)
        except ValueError as error:
            if depth == 0:
                self._find("payload", _name(identity), str(error))
            return None

    def _page(
        self, file: int, context: _kernels.Context, item: StoredObject, depth: int
    ) -> bytes | None:
        """The page; ValueError tells what is wrong, None is for what was reported before."""
        if item.codec not in _KNOWN:
            return None
        if item.is_group:
            self._groups.verify(item)
            return None
        if item.is_member:
            page = self._groups.page(item)
            if _kernels.digest(page) & 0xFFFFFFFF != item.digest:
                raise ValueError("it decodes to another page")
            return page
        base = None
        if item.codec in _PATCHES:
            base_item = self._objects.get(item.base)
            if base_item is None or depth > DEPTH_LIMIT:
                return None
            base = self._decode(file, context, item.base, base_item, depth + 1)
            if base is None:
                raise ValueError(f"its base {_name(item.base)} is damaged")
        try:
            payload = os.pread(file, item.length, item.position)
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        if len(payload) < item.length:
            raise ValueError("the payload file ends before it")
        page = context.decode(item.codec, payload, base)
        assert len(page) == PAGE_SIZE
        if _kernels.digest(page) & 0xFFFFFFFF != item.digest:
            raise ValueError("it decodes to another page")
        return page

    def _check_digests(self) -> None:
        """The digest table has every object's digest, and nothing under a wrong one."""
        if self._hints is not None:
            table, used = self._hints.digests, self._hints.digests.used
        else:
            stored = stored_digests(self._path / DIGEST_FILE)
            if stored is None:
                return
            table, used = stored
        pairs = table.pairs()
        unknown_bits = 32 - table.known_bits
        for digest, number in pairs:
            item = self._objects.get(number)
            if item is None or item.is_group:
                self._find("digest", _name(number), "the digest table names it, it does not exist")
            elif (self._digest_key(number, item) ^ digest) >> unknown_bits:
                self._find("digest", _name(number), "the digest table has another digest")
        if len(pairs) != used:
            self._find("digest", "digest table", f"counts {used} entries, has {len(pairs)}")

    def _digest_key(self, identity: int, item: StoredObject) -> int:
        """What the digest table knows an object by."""
        mask = self._objects.domain_of(identity)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mask = (mask ^ mask >> shift) * factor & 0xFFFFFFFF
        return item.digest ^ mask ^ mask >> 16


_OF_DOMAIN_0 = (Codec.ZSTD_DICTIONARY, GroupCodec.ZSTD_DICTIONARY)
_CHUNK = Struct(">II")
_KEY_BYTES = {Kind.EXTENT: 4, Kind.INODE: 4, Kind.TABLE: _CHUNK.size}
_FINDINGS = {
    Kind.EXTENT: "header",
    Kind.INODE: "name",
    Kind.SETTING: "setting",
    Kind.TABLE: "table",
}


def _place(kind: Kind, key: bytes) -> str:
    if kind is Kind.SETTING:
        return f"setting {key.decode(errors='replace')!r}"
    if len(key) != _KEY_BYTES[kind]:
        return f"key {key.hex()} of a {_FINDINGS[kind]}"
    if kind is Kind.TABLE:
        volume, chunk = _CHUNK.unpack(key)
        return f"page table of volume {volume}, chunk {chunk}"
    return f"{'extent' if kind is Kind.EXTENT else 'inode'} {int.from_bytes(key, 'big')}"


def _name(number: int) -> str:
    return f"object {number & 255} of extent {number >> 8}"
