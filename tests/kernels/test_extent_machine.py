"""Extents under all that a store does to them, against a model in plain Python.

The model also plays the crash: whatever happened since the last commit, the headers that it wrote
must still find every payload.
"""

import os
from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from difffs._kernels import (
    BATCH_PAGES,
    EXTENT_SIDE_BYTES,
    Batch,
    Context,
    DigestTable,
    Extents,
    SketchTable,
    Staged,
    header_summary,
)
from difffs.codec import Codec, GroupCodec
from difffs.recipe import RECIPES
from tests.kernels import kernel_oracle as oracle
from tests.kernels.extent_model import SLOTS, Header, Record, unpacked
from tests.pages import PAGE, compressible_page, guest_pages, random_page, similar_page

NEW, APPEND, REWRITE = 0, 1, 2

CONTEXT = Context()


ROOMY = 16
"""Free slots that make an extent worth a turn of packing."""

DOMAINS = (0, 7, 1 << 31)


def has_many_dead(headers: Iterable[Header], share: int) -> bool:
    """From plain sums, whether dead payloads are more than that share of the live ones."""
    # what holds nothing goes with the next commit
    holding = [header for header in headers if header.records]
    live = sum(header.live_bytes for header in holding)
    return (sum(header.end for header in holding) - live) * 256 > live * share


def dead_ones(headers: dict[int, Header], flipped: set[int]) -> set[int]:
    """The extents that can be rewritten."""
    return {
        number
        for number, header in headers.items()
        if header.records and header.end > header.live_bytes and number not in flipped
    }


def chosen(headers: dict[int, Header], flipped: set[int], share: int) -> tuple[int, set[int]]:
    """What Extents.choose must tell of these of a domain: the kind, and possible extents."""
    roomy = {
        number: header
        for number, header in headers.items()
        if header.records and SLOTS - len(header.records) >= ROOMY
    }
    rewritable = dead_ones(roomy, flipped)
    if rewritable and has_many_dead(headers.values(), share):
        return REWRITE, rewritable
    appendable = {
        number for number, header in roomy.items() if header.end <= EXTENT_SIDE_BYTES - 16 * PAGE
    }
    return (APPEND, appendable) if appendable else (NEW, {0})


class ExtentsMachine(RuleBasedStateMachine):
    """Packs, refers, releases, rewrites, commits, crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.file = os.memfd_create("payloads")
        self.index: dict[int, bytes] = {}  # what the last commit wrote
        self.committed_pages: dict[int, bytes] = {}
        self.batch = Batch(RECIPES["default"])
        self.staged = Staged()
        self.sketches = SketchTable(bytearray(4 * 1024))
        self._open()

    def _open(self) -> None:
        self.extents = Extents(self.file)
        self.headers = {number: unpacked(number, stored) for number, stored in self.index.items()}
        self.pages = dict(self.committed_pages)
        self.flipped: set[int] = set()
        self.digests = DigestTable(bytearray(4 << 12))
        for number, stored in self.index.items():
            self.extents.account(number, header_summary(stored))
            self.extents.count_objects(stored)
            assert self.digests.insert_header(number, stored)

    def teardown(self) -> None:
        os.close(self.file)

    # -- helpers of the rules

    def _load(self, *ids: int) -> None:
        for number in {identity >> 8 for identity in ids}:
            if not self.extents.is_loaded(number):
                self.extents.load(number, self.index[number])

    def _load_all(self) -> None:
        self._load(*(number << 8 for number in self.headers))

    def _stage_rewrite(self, number: int) -> None:
        side, end, _live, _slots = self.extents.summary(number)
        old = os.pread(self.file, end, (2 * number + side) * EXTENT_SIDE_BYTES)
        self.staged.rewrite(self.extents, number, old)

    def _install(self) -> None:
        staged = self.staged
        at = (2 * staged.number + staged.side) * EXTENT_SIDE_BYTES + staged.position
        os.pwrite(self.file, staged.bytes(), at)
        staged.install(self.extents)

    def _rewritten(self, number: int) -> None:
        header = self.headers[number]
        header.generation += 1
        header.end = 0
        header.used = max(header.records, default=0)
        for slot in sorted(header.records):
            header.records[slot].offset = header.end
            header.end += header.records[slot].length
        self.flipped.add(number)

    def _gone(self, identity: int) -> None:
        del self.headers[identity >> 8].records[identity & 255]
        del self.pages[identity]

    # -- rules

    @rule(
        seed=st.integers(0, 2**32),
        count=st.integers(1, 8),
        kind=st.sampled_from(["random", "guest", "alike"]),
        where=st.integers(0, 2),
        refer=st.booleans(),
        domain=st.sampled_from(DOMAINS),
    )
    def pack(self, seed: int, count: int, kind: str, where: int, refer: bool, domain: int) -> None:
        """New pages; then each gets a reference, or all are discarded."""
        random = Random(seed)
        if kind == "random":
            pages = [random_page(random) for _ in range(count)]
        elif kind == "guest":
            pages = guest_pages(random, count)
        else:
            first = compressible_page(Random(seed % 3))
            pages = [similar_page(first, random, 5) for _ in range(count)]
        batch = self.batch
        batch.begin(b"".join(pages), domain)
        batch.classify(0, batch.count)
        proposed = batch.propose(self.digests, self.sketches)
        while missing := self.extents.missing(proposed):
            self._load(*(number << 8 for number in missing))
        batch.route(self.extents, CONTEXT, 0, batch.count)
        begin = batch.next_object(0)
        while begin < batch.count:
            number = self._stage(where, domain)
            end = batch.pack(begin, self.staged)
            self._install()
            batch.added(self.extents, begin, end)
            self._take_over(number)
            begin = batch.next_object(end)
        ids, bases, new = batch.ids(), batch.bases(), set(batch.new_ids(batch.count))
        for identity in (*ids, *bases):
            assert identity == 255 or self.headers[identity >> 8].domain == domain
        for identity, page in zip(ids, pages, strict=True):
            if identity in new:
                self.pages[identity] = page
        if refer:
            self._load(*(identity for identity in ids if identity > 255), *bases)
            self.extents.reference(ids, False)
            self.extents.reference(bases, True)
            for identity in ids:
                if identity > 255:
                    self.headers[identity >> 8].records[identity & 255].pages += 1
            for identity in bases:
                self.headers[identity >> 8].records[identity & 255].patches += 1
            _bases, fits = batch.publish(self.digests, self.sketches)
            assert fits
        else:
            self.extents.discard(array("I", new))
            for identity in new:
                self._gone(identity)
        batch.finish()

    def _stage(self, where: int, domain: int) -> int:
        """A new extent, the fullest one that has room, or one rewritten; its number."""
        known = [
            number
            for number, header in self.headers.items()
            if header.domain == domain
            and header.end < EXTENT_SIDE_BYTES // 2
            and len(header.records) < SLOTS // 2
        ]
        unflipped = [number for number in known if number not in self.flipped]
        if where == REWRITE and unflipped:
            self._load(unflipped[0] << 8)
            self._stage_rewrite(unflipped[0])
            self._rewritten(unflipped[0])
            return unflipped[0]
        if where != NEW and known:
            self._load(known[0] << 8)
            self.staged.append(self.extents, known[0])
            assert self.staged.position == self.headers[known[0]].end
            return known[0]
        number = self.extents.unused()
        assert number not in self.headers
        self.staged.new(number, domain)
        self.headers[number] = Header(number, domain=domain)
        return number

    def _take_over(self, number: int) -> None:
        """The records that packing has added, once they make sense."""
        known = self.headers[number]
        # The staged header is dirty now, so a commit tells it; a failed one changes nothing.
        stored = dict(self.extents.begin_commit())[number]
        self.extents.end_commit(False)
        assert stored is not None
        header = unpacked(number, stored)
        assert (header.generation, header.domain) == (known.generation, known.domain)
        for slot, record in known.records.items():
            assert header.records[slot] == record
        added = {slot: header.records[slot] for slot in header.records.keys() - known.records}
        assert header.end == known.end + sum(record.length for record in added.values())
        spans = sorted((record.offset, record.length) for record in added.values())
        assert all(offset >= known.end for offset, _length in spans)
        assert all(a + length <= b for (a, length), (b, _) in pairwise(spans))
        assert all(record.pages == record.patches == 0 for record in added.values())
        self.headers[number] = header

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), count=st.integers(1, 3))
    def refer(self, data: st.DataObject, count: int) -> None:
        identity = data.draw(st.sampled_from(sorted(self.pages)))
        self._load(identity)
        self.extents.reference(array("I", [identity] * count), False)
        self.headers[identity >> 8].records[identity & 255].pages += count

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), every=st.booleans())
    def release(self, data: st.DataObject, every: bool) -> None:
        """One reference by a page, or all; bases are released in turn."""
        identity = data.draw(st.sampled_from(sorted(self.pages)))
        pages = self.headers[identity >> 8].records[identity & 255].pages
        ids = [identity] * (pages if every else min(pages, 1))
        by_patch = False
        while ids:
            self._load(*ids)
            expected = []
            for each in ids:
                record = self.headers[each >> 8].records[each & 255]
                if by_patch:
                    record.patches -= 1
                else:
                    record.pages -= 1
                if not record.pages and not record.patches:
                    if record.base:
                        expected.append(record.base)
                    self._gone(each)
            ids = list(self.extents.release(array("I", ids), by_patch, self.digests))
            assert ids == expected
            by_patch = True

    @precondition(lambda self: self.headers.keys() - self.flipped)
    @rule(data=st.data())
    def rewrite(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.headers.keys() - self.flipped)))
        self._load(number << 8)
        self._stage_rewrite(number)
        self._rewritten(number)
        assert self.staged.written == self.headers[number].end
        self._install()

    @rule(succeeds=st.booleans(), changes_meanwhile=st.booleans(), data=st.data())
    def commit(self, succeeds: bool, changes_meanwhile: bool, data: st.DataObject) -> None:
        """Writes what changed; perhaps something changes again while it is under way."""
        written = self.extents.begin_commit()
        for number, stored in written:
            header = self.headers[number]
            assert stored == (header.pack() if header.records else None)
        committed = dict(self.pages)
        meanwhile = None
        if self.pages and changes_meanwhile:
            meanwhile = data.draw(st.sampled_from(sorted(self.pages)))
            self._load(meanwhile)
            self.extents.reference(array("I", [meanwhile]), False)
            self.headers[meanwhile >> 8].records[meanwhile & 255].pages += 1
        freed = self.extents.end_commit(succeeds)
        if not succeeds:
            assert freed == []
            return
        for number, stored in written:
            if stored is None:
                self.index.pop(number, None)
            else:
                self.index[number] = stored
        self.committed_pages = committed
        settled = self.flipped if meanwhile is None else self.flipped - {meanwhile >> 8}
        assert {number for number, _side in freed} == settled
        for number, side in freed:
            assert side == self.headers[number].side ^ 1
            zeros = bytes(EXTENT_SIDE_BYTES)
            os.pwrite(self.file, zeros, (2 * number + side) * EXTENT_SIDE_BYTES)
        self.flipped -= settled
        for number, stored in written:
            if stored is None:
                self.extents.drop(number)
                del self.headers[number]

    @rule()
    def crash(self) -> None:
        self._open()
        self._load_all()
        self._read(self.committed_pages)

    @rule(limit=st.integers(0, 3))
    def trim(self, limit: int) -> None:
        self.extents.trim(limit)
        assert self.extents.loaded <= max(limit, self.extents.dirty_count())

    @rule()
    def read(self) -> None:
        ids = array("I", self.pages)
        while missing := self.extents.missing(ids):
            self._load(*(number << 8 for number in missing))
        self._read(self.pages)

    def _read(self, pages: dict[int, bytes]) -> None:
        out = bytearray(PAGE * len(pages))
        assert self.extents.read(array("I", pages), out, CONTEXT) is None
        assert bytes(out) == b"".join(pages.values())

    @rule(share=st.sampled_from([0, 8, 16, 200]), domain=st.sampled_from(DOMAINS))
    def choose(self, share: int, domain: int) -> None:
        kind, number = self.extents.choose(share, domain)
        of_domain = {n: header for n, header in self.headers.items() if header.domain == domain}
        expected, possible = chosen(of_domain, self.flipped, share)
        assert kind == expected
        assert number in possible

    @rule(share=st.sampled_from([0, 8, 16, 200]))
    def deadest(self, share: int) -> None:
        rewritable = dead_ones(self.headers, self.flipped)
        number = self.extents.deadest(share)
        if rewritable and has_many_dead(self.headers.values(), share):
            assert number in rewritable
        else:
            assert number == 0
        emptied = [header.end for header in self.headers.values() if not header.records]
        assert self.extents.emptied_bytes() == sum(emptied)

    # -- invariants

    @invariant()
    def summaries_agree(self) -> None:
        for number, header in self.headers.items():
            assert self.extents.in_use(number)
            assert self.extents.summary(number) == header.summary
            assert self.extents.domain_of(number) == header.domain

    @invariant()
    def domains_agree(self) -> None:
        for domain in (*DOMAINS, 8):
            headers = [header for header in self.headers.values() if header.domain == domain]
            live = sum(header.live_bytes for header in headers)
            assert self.extents.domain_totals(domain)[:4] == (
                len(headers),
                sum(len(header.records) for header in headers),
                live,
                sum(header.end for header in headers) - live,
            )

    @invariant()
    def totals_agree(self) -> None:
        objects: Counter[int] = Counter()
        sizes: Counter[int] = Counter()
        references: Counter[int] = Counter()
        pageless: Counter[int] = Counter()
        for header in self.headers.values():
            for record in header.records.values():
                objects[record.codec] += 1
                sizes[record.codec] += record.length
                references[record.codec] += record.pages
                pageless[record.codec] += record.pages == 0
        assert self.extents.totals() == [
            (objects[codec], sizes[codec], references[codec], pageless[codec])
            for codec in range(max(GroupCodec) + 1)
        ]
        assert self.extents.live_bytes() == sizes.total()

    @invariant()
    def digests_name_only_what_is_there(self) -> None:
        unknown = 32 - self.digests.known_bits
        for digest, identity in self.digests.pairs():
            whole = oracle.digest(self.pages[identity]) & 0xFFFFFFFF
            whole ^= oracle.domain_mask(self.headers[identity >> 8].domain)
            assert whole >> unknown << unknown == digest


ExtentsMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestExtents = ExtentsMachine.TestCase


def routed(pages: list[bytes], recipe: str = "identical-only") -> Batch:
    batch = Batch(RECIPES[recipe])
    batch.begin(b"".join(pages))
    batch.classify(0, batch.count)
    batch.propose(DigestTable(bytearray(4096)), SketchTable(bytearray(4096)))
    batch.route(Extents(-1), CONTEXT, 0, batch.count)
    return batch


def test_packing_stops_at_the_last_slot() -> None:
    batch = routed([i.to_bytes(8, "big") * 512 for i in range(1, 301)])
    staged = Staged()
    staged.new(1)
    assert batch.pack(0, staged) == SLOTS
    assert staged.written == 8 * SLOTS
    staged.new(2)
    assert batch.pack(SLOTS, staged) == 300
    assert list(batch.ids()) == [
        *range(0x101, 0x101 + SLOTS),
        *range(0x201, 0x201 + 300 - SLOTS),
    ]


def test_packing_stops_at_the_end_of_the_side() -> None:
    """254 raw pages do not fill a side, so something must lie there before."""
    file = os.memfd_create("payloads")
    try:
        extents, staged = Extents(file), Staged()
        header = Header(1, end=EXTENT_SIDE_BYTES - 2 * PAGE - 1)
        extents.load(1, header.pack())
        staged.append(extents, 1)
        batch = routed([random_page(Random(i)) for i in range(3)])
        assert batch.pack(0, staged) == 2
        assert (staged.position, staged.written) == (header.end, 2 * PAGE)
    finally:
        os.close(file)


def test_a_rewrite_needs_the_whole_side() -> None:
    extents, staged = Extents(-1), Staged()
    extents.load(1, Header(1, end=100).pack())
    staged.rewrite(extents, 1, bytes(100))
    with pytest.raises(ValueError, match="ends at byte 99"):
        staged.rewrite(extents, 1, bytes(99))


def test_staging_needs_the_header() -> None:
    extents, staged = Extents(-1), Staged()
    header = Header(2, end=PAGE, used=1, records={1: Record(0, PAGE, Codec.RAW)})
    extents.account(2, header.pack_summary())
    for number in (0, 1, 2, 3, 2**32 - 1):
        with pytest.raises(ValueError, match="not in memory"):
            staged.append(extents, number)
        with pytest.raises(ValueError, match="not in memory"):
            staged.rewrite(extents, number, bytes(PAGE))


def test_a_batch_tells_its_sums_only_when_routed() -> None:
    batch = Batch(RECIPES["default"])
    batch.begin(random_page(Random(1)))
    batch.classify(0, 1)
    with pytest.raises(ValueError, match="routed"):
        batch.totals()


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE + 1, PAGE * (BATCH_PAGES + 1)])
def test_a_batch_is_whole_pages(size: int) -> None:
    with pytest.raises(ValueError, match="whole pages"):
        Batch(RECIPES["default"]).begin(bytes(size))


def test_slices_of_a_batch_lie_within() -> None:
    batch = routed([random_page(Random(1))])
    for start, end in ((0, 2), (1, 0), (2, 2)):
        with pytest.raises(IndexError):
            batch.classify(start, end)
        with pytest.raises(IndexError):
            batch.route(Extents(-1), CONTEXT, start, end)
    with pytest.raises(IndexError):
        batch.outcome(1)
    with pytest.raises(IndexError):
        batch.new_ids(2)
    with pytest.raises(IndexError):
        batch.added(Extents(-1), 0, 2)
    batch.finish()
    assert batch.count == 0
    assert list(batch.ids()) == []
