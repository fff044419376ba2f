"""check(): every invariant of a store, from what is on disk, in plain Python.

It shares no bookkeeping with the code that it checks: headers are parsed here, references counted
here, and payloads decoded one by one. The invariants are numbered in docs/store-format.md.
"""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from difffs import _kernels
from difffs.codec import Codec
from difffs.dictionary import unseal_dictionary
from difffs.page import PAGE_SIZE, page_count
from difffs.store.format import DIGEST_FILE, PAYLOAD_FILE
from difffs.store.hints import Hints, stored_digests
from difffs.store.index import Index
from difffs.store.namespace import Namespace
from difffs.store.page_tables import HOLE, ZERO

Progress = Callable[[int, int], None]
"""Called with (objects done, objects in all)."""

_PREFIX = Struct("<IIBBHI")  # checksum, end, side, highest slot, reserved, extent
_RECORD = Struct("<IB3sII")  # place, kind, references, digest, checksum
_BASE_ID = Struct("<I")
_PATCHES = frozenset(codec for codec in Codec if codec.is_patch)
_DEPTH_LIMIT = 15


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: str
    """header, table, reference, base, space, payload, digest or name; the command adds image."""
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


@dataclass(slots=True)
class _Object:
    offset: int
    length: int
    codec: int
    depth: int
    pages: int
    patches: int
    digest: int
    checksum: int
    position: int
    """In the payload file."""
    base: int = 0


def check_store(
    path: Path,
    index: Index,
    hints: Hints | None,
    namespace: Namespace,
    progress: Progress | None,
    *,
    payloads: bool,
) -> list[Finding]:
    """All findings. Reads only; nothing else may change the store meanwhile."""
    return _Check(path, index, hints, namespace).run(progress, payloads=payloads)


class _Check:
    def __init__(self, path: Path, index: Index, hints: Hints | None, namespace: Namespace) -> None:
        self._path = path
        self._index = index
        self._hints = hints
        self._namespace = namespace
        self._objects: dict[int, _Object] = {}
        self._findings: list[Finding] = []

    def _find(self, kind: str, where: str, text: str) -> None:
        self._findings.append(Finding(kind, where, text))

    def run(self, progress: Progress | None, *, payloads: bool) -> list[Finding]:
        for text in self._namespace.check():
            self._find("name", "names", text)
        for number, stored in self._index.headers():
            self._read_header(number, bytes(stored))
        by_pages = self._count_page_references()
        with (self._path / PAYLOAD_FILE).open("rb") as file:
            by_patches = self._count_patch_references(file.fileno())
            self._compare_references(by_pages, by_patches)
            self._check_depths()
            if payloads:
                self._decode_all(file.fileno(), progress)
        self._check_digests()
        return self._findings

    def _read_header(self, number: int, stored: bytes) -> None:
        where = f"extent {number}"
        if len(stored) < 16 or len(stored) % 16 or len(stored) > _kernels.HEADER_BYTES:
            self._find("header", where, f"has {len(stored)} bytes")
            return
        checksum, end, side, used, _reserved, named = _PREFIX.unpack_from(stored)
        if _kernels.checksum(stored[4:]) != checksum:
            self._find("header", where, "its checksum is wrong")
            return
        if named != number or used * 16 + 16 != len(stored) or side > 1:
            self._find("header", where, "does not belong to this extent")
            return
        spans = []
        for slot in range(1, used + 1):
            item = self._read_record(stored, number, side, slot)
            if item is not None:
                self._objects[number << 8 | slot] = item
                spans.append((item.offset, item.offset + item.length, slot))
        self._check_spans(where, spans, end)

    def _read_record(self, stored: bytes, number: int, side: int, slot: int) -> _Object | None:
        place, kind, references, digest, checksum = _RECORD.unpack_from(stored, 16 * slot)
        if kind == 0:
            if any(stored[16 * slot : 16 * slot + 16]):
                self._find("header", f"extent {number} slot {slot}", "a free slot is not empty")
            return None
        both = int.from_bytes(references, "little")
        offset = place & 0xFFFFF
        return _Object(
            offset=offset,
            length=(place >> 20) + 1,
            codec=kind & 15,
            depth=kind >> 4,
            pages=both & 0x3FFF,
            patches=both >> 14,
            digest=digest,
            checksum=checksum,
            position=(2 * number + side) * _kernels.EXTENT_SIDE_BYTES + offset,
        )

    def _check_spans(self, where: str, spans: list[tuple[int, int, int]], end: int) -> None:
        """Payloads lie apart from each other, within the extent's end."""
        behind = 0
        for start, stop, slot in sorted(spans):
            if start < behind:
                self._find("space", f"{where} slot {slot}", "overlaps the payload before it")
            behind = max(behind, stop)
        if behind > end or end > _kernels.EXTENT_SIDE_BYTES:
            self._find("space", where, f"payloads reach byte {behind}, the extent ends at {end}")

    def _count_page_references(self) -> "Counter[int]":
        counts: Counter[int] = Counter()
        for volume, chunk, stored in self._index.tables():
            where = f"page table of volume {volume}, chunk {chunk}"
            try:
                objects, zeros = _kernels.table_counts(stored)
            except ValueError as error:
                self._find("table", where, str(error))
                continue
            ids = array("I", bytes(stored)[16:])
            seen = Counter(ids)
            if (objects, zeros) != (len(ids) - seen[HOLE] - seen[ZERO], seen[ZERO]):
                self._find("table", where, "its counts are wrong")
            del seen[HOLE], seen[ZERO]
            counts.update(seen)
            self._check_owner(volume, chunk, ids, where)
        return counts

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

    def _patches(self) -> Iterator[tuple[int, _Object]]:
        for number, item in self._objects.items():
            if item.codec in _PATCHES:
                yield number, item

    def _count_patch_references(self, file: int) -> "Counter[int]":
        counts: Counter[int] = Counter()
        for number, item in self._patches():
            head = os.pread(file, 4, item.position)
            if len(head) < 4 or item.length <= 4:
                self._find("payload", _name(number), "a patch without a base")
                continue
            item.base = _BASE_ID.unpack(head)[0]
            counts[item.base] += 1
            if item.base not in self._objects:
                self._find("base", _name(number), f"its base {_name(item.base)} does not exist")
        return counts

    def _compare_references(self, by_pages: "Counter[int]", by_patches: "Counter[int]") -> None:
        for number in sorted(by_pages.keys() - self._objects.keys()):
            self._find("reference", _name(number), "pages refer to it, but it does not exist")
        for number, item in self._objects.items():
            if item.pages != by_pages[number]:
                self._find(
                    "reference",
                    _name(number),
                    f"counts {item.pages} pages, {by_pages[number]} refer to it",
                )
            if item.patches != by_patches[number]:
                self._find(
                    "reference",
                    _name(number),
                    f"counts {item.patches} patches, {by_patches[number]} refer to it",
                )
            if not item.pages and not item.patches:
                self._find("reference", _name(number), "nothing refers to it, yet it is kept")

    def _check_depths(self) -> None:
        for number, item in self._patches():
            base = self._objects.get(item.base)
            if base is not None and item.depth != base.depth + 1:
                self._find("base", _name(number), "its depth is not its base's plus one")
            if item.depth > _DEPTH_LIMIT:
                self._find("base", _name(number), f"its chain has {item.depth} patches")
        for number, item in self._objects.items():
            if item.depth and item.codec not in _PATCHES:
                self._find("base", _name(number), "no patch, yet it has a depth")

    def _decode_all(self, file: int, progress: Progress | None) -> None:
        context = _kernels.Context()
        dictionary = self._index.setting("dictionary")
        if dictionary is not None:
            try:
                context.use(_kernels.Dictionary(unseal_dictionary(dictionary)))
            except ValueError as error:
                self._find("payload", "dictionary", str(error))
        for done, (number, item) in enumerate(self._objects.items()):
            if progress is not None and done % 256 == 0:
                progress(done, len(self._objects))
            page = self._decode(file, context, number, item, 0)
            if page is not None and _kernels.digest(page) & 0xFFFFFFFF != item.digest:
                self._find("digest", _name(number), "its page has another digest")
        if progress is not None:
            progress(len(self._objects), len(self._objects))

    def _decode(
        self, file: int, context: _kernels.Context, number: int, item: _Object, depth: int
    ) -> bytes | None:
        payload = os.pread(file, item.length, item.position)
        if len(payload) < item.length:
            self._find("payload", _name(number), "the payload file ends before it")
            return None
        if _kernels.checksum(payload) != item.checksum:
            self._find("payload", _name(number), "its checksum is wrong")
            return None
        base = None
        if item.codec in _PATCHES:
            base_item = self._objects.get(item.base)
            if base_item is None or depth > _DEPTH_LIMIT:
                return None  # reported with the references
            base = self._decode(file, context, item.base, base_item, depth + 1)
            if base is None:
                self._find("payload", _name(number), f"its base {_name(item.base)} is damaged")
                return None
            payload = payload[4:]
        try:
            page = context.decode(item.codec, payload, base)
        except ValueError as error:
            self._find("payload", _name(number), str(error))
            return None
        assert len(page) == PAGE_SIZE
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
            if item is None:
                self._find("digest", _name(number), "the digest table names it, it does not exist")
            elif (item.digest ^ digest) >> unknown_bits:
                self._find("digest", _name(number), "the digest table has another digest")
        if len(pairs) != used:
            self._find("digest", "digest table", f"counts {used} entries, has {len(pairs)}")


def _name(number: int) -> str:
    return f"object {number & 255} of extent {number >> 8}"
