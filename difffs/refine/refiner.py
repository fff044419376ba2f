"""One pass of refining: objects are read, those that are alike are encoded together, and where that
takes less room than they take now, they become members of a group.

Reading and encoding needs no lock and may be done by several threads. Only what changes the store
runs on the routing thread, for moments: a group is adopted as a whole or not at all. A pass may
end at any point, by a crash too; what it has done counts, and the next one goes on from there.
"""

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from threading import Event

from difffs._kernels import Context, Dictionary, Group, GroupEncoder, train_dictionary
from difffs.codec import GROUP_CODECS, Codec, GroupCodec
from difffs.errors import StoreFull
from difffs.page import PAGE_SIZE
from difffs.refine._likeness import Likeness
from difffs.refine.tiers import TIERS, UNDER_WAY, Tier
from difffs.refine.window import Window, windows
from difffs.store import Store

DICTIONARY_BYTES = 110 << 10
"""Of the dictionary of groups."""

_SAMPLES = 4096
"""Pages (16 MiB) that it is trained from, at most; a quarter of them is the least."""

_WORTH = 0.97
"""A group is taken when it needs less than that part of what its objects take now."""

_MEMBERS_A_COMMIT = 8192
"""New members after which what they were before is given back."""

_GONE_SHARE = 16
"""In 256ths of all members: with more of them gone, groups that lack many are packed anew. With the
dead payloads that are kept (store.IDLE_DEAD_SHARE), this stays below the promised 10 %."""

Job = Callable[[], object]
OnRoutingThread = Callable[[Job], object]
"""Returns what the job does."""


@dataclass(slots=True)
class Progress:
    """What a pass has done, for whoever looks at it from another thread."""

    tier: str
    pages: int = 0
    """Objects that have had their turn, in this pass."""
    pages_to_go: int = 0
    members: int = 0
    """Of these, objects that became members of a group."""
    groups: int = 0
    bytes_before: int = 0
    """What these took before."""
    bytes_after: int = 0
    unreadable: int = 0
    """Objects that are damaged, and stay as they are."""
    finished: bool = False
    """Whether everything has had its turn."""
    error: str = ""
    """Why it has ended early, if not by a request."""

    def to_dict(self) -> dict[str, object]:
        """As in `refine --json`, and in the statistics of a mount."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Worker:
    """What one thread needs to make groups."""

    context: Context
    encoder: GroupEncoder
    group: Group = field(default_factory=Group)


def _here(job: Job) -> object:
    return job()


class Refiner:
    """Refines a store to a tier."""

    def __init__(
        self,
        store: Store,
        tier: Tier,
        *,
        workers: int = 1,
        on_routing_thread: OnRoutingThread = _here,
        commit: Callable[[], None] | None = None,
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_routing_thread` runs what changes the store, `commit` too, and returns when it has;
        without it, run() is called on that thread. `give_way` is called between groups, and may
        wait.
        """
        self.store = store
        self.tier = tier
        self.progress = Progress(tier.name)
        self._workers = max(1, workers)
        self._on_routing_thread = on_routing_thread
        self._commit_store = commit or store.commit
        self._give_way = give_way
        self._stop = Event()
        self._dictionary: Dictionary | None = None
        """That of groups, for encoding."""
        self._since_commit = 0

    def stop(self) -> None:
        """Ends the pass soon. From any thread."""
        self._stop.set()

    def run(self, seconds: float | None = None) -> Progress:
        """The pass; ends after so many seconds at the latest, or when stop() is called. StoreFull
        when there is no room for a group, even after what is dead has been given back."""
        deadline = None if seconds is None else time.monotonic() + seconds
        self.progress.pages_to_go = self._expected()
        for window in windows(self.store, self.tier, sparse=self._has_many_gone()):
            self._refine(window, deadline)
            if self._is_over(deadline):
                break
        else:
            self.progress.finished = True
            self.progress.pages_to_go = 0
        self._finish()
        return self.progress

    def _is_over(self, deadline: float | None) -> bool:
        return self._stop.is_set() or (deadline is not None and time.monotonic() > deadline)

    def _expected(self) -> int:
        """Objects that may have their turn, at most."""
        with self.store.lock:
            totals = self.store.extents.totals()
        expected = sum(
            objects - bare
            for codec, (objects, _bytes, _references, bare) in enumerate(totals)
            if codec not in GROUP_CODECS and codec not in (Codec.SAME, GroupCodec.MEMBER)
        )
        lower = (tier for tier in TIERS.values() if tier.number < self.tier.number)
        return expected + sum(totals[codec][2] for tier in lower for codec in tier.codecs)

    def _has_many_gone(self) -> bool:
        counts = self.store.group_counts.values()
        members = sum(alive for _groups, _bytes, alive, _gone in counts)
        gone = sum(gone for _groups, _bytes, _alive, gone in counts)
        return gone * 256 > (members + gone) * _GONE_SHARE

    # -- a window --------------------------------------------------------------------------------

    def _refine(self, window: Window, deadline: float | None) -> None:
        self._on_routing_thread(lambda: self.store.note_refined(window.extents, UNDER_WAY))
        likeness = self._look_at(window, deadline)
        if likeness is not None:
            whole = True
            with ThreadPoolExecutor(self._workers, "difffs-refine") as pool:
                workers = [self._worker(window.domain) for _ in range(self._workers)]
                for group in self._encoded(pool, workers, self._groups_of(window, likeness)):
                    self._take(group)
                    self._give_way()
                    if self._is_over(deadline):
                        whole = False
                        break
            if whole:
                self._on_routing_thread(
                    lambda: self.store.note_refined(
                        window.extents, self.tier.number, only=UNDER_WAY
                    )
                )

    def _look_at(self, window: Window, deadline: float | None) -> Likeness | None:
        """The features of a window's pages; trains the dictionary of groups if there is none yet.
        None when time is over."""
        likeness = Likeness(len(window.ids))
        context = self._context()
        group = Group()
        samples = bytearray()
        wants_samples = (
            self.tier.codec is GroupCodec.ZSTD
            and window.domain == 0
            and self.store.group_dictionary is None
            and len(window.ids) >= _SAMPLES
            and not self.store.is_scarce
        )
        every = max(1, len(window.ids) // _SAMPLES)
        known = array("I")
        for start in range(0, len(window.ids), 64):
            self._gather(group, context, window.ids[start : start + 64])
            self.progress.unreadable += group.unreadable
            content = group.content()
            likeness.add(content)
            if wants_samples:
                for at in range(-len(known) % every, len(group), every):
                    samples += content[at * PAGE_SIZE : (at + 1) * PAGE_SIZE]
            known.extend(group.ids())  # those that are gone meanwhile have no features
            self._give_way()
            if self._is_over(deadline):
                return None
        self.progress.pages += len(window.ids) - len(known)
        window.ids = known
        if len(samples) >= _SAMPLES // 4 * PAGE_SIZE:
            trained = train_dictionary(samples, DICTIONARY_BYTES, self.tier.level)
            if trained is not None:
                self._on_routing_thread(lambda: self.store.set_group_dictionary(trained))
        return likeness

    def _groups_of(self, window: Window, likeness: Likeness) -> "Iterator[array[int]]":
        """The ids of each group to be tried."""
        tier = self.tier
        for group in likeness.groups(tier.pages, tier.budget, region=tier.region):
            yield array("I", [window.ids[i] for i in group])

    def _context(self) -> Context:
        context = Context()
        if self.store.dictionary is not None:
            context.use(self.store.dictionary)
        if self.store.group_dictionary is not None:
            context.use_for_groups(self.store.group_dictionary)
        return context

    def _worker(self, domain: int) -> _Worker:
        codec, dictionary = self.tier.codec, None
        if codec is GroupCodec.ZSTD and domain == 0 and self.store.group_dictionary is not None:
            codec = GroupCodec.ZSTD_DICTIONARY
            if self._dictionary is None:
                self._dictionary = Dictionary(self.store.group_dictionary.content, self.tier.level)
            dictionary = self._dictionary
        return _Worker(self._context(), GroupEncoder(codec, self.tier.level, dictionary))

    # -- a group ---------------------------------------------------------------------------------

    def _gather(self, group: Group, context: Context, ids: "array[int]") -> None:
        """Reads objects. Their headers may be dropped again before they are read: then once
        more."""
        while missing := group.gather(self.store.extents, context, ids):
            with self.store.lock:
                self.store.load_headers([missing])

    def _encoded(
        self, pool: ThreadPoolExecutor, workers: list[_Worker], groups: "Iterable[array[int]]"
    ) -> Iterator[Group]:
        """Groups, encoded by as many threads as there are workers, in order. Each is good until the
        next is asked for."""
        pending: deque[Future[Group]] = deque()
        for ids, worker in zip(groups, cycle(workers), strict=False):
            if len(pending) == len(workers):  # the worker's own is the first of them
                yield pending.popleft().result()
            pending.append(pool.submit(self._make, worker, ids))
        while pending:
            yield pending.popleft().result()

    def _make(self, worker: _Worker, ids: "array[int]") -> Group:
        self._gather(worker.group, worker.context, ids)
        worker.group.encode(worker.encoder)
        return worker.group

    def _take(self, group: Group) -> None:
        """Stores a group if it is worth it."""
        progress = self.progress
        progress.pages += len(group)
        progress.pages_to_go = max(0, progress.pages_to_go - len(group))
        progress.unreadable += group.unreadable
        if len(group) < 2 or not group.length or group.length > group.present * _WORTH:
            return
        self._on_routing_thread(lambda: self._adopt(group))

    def _adopt(self, group: Group) -> None:
        if not self.store.takes_groups:
            self.store.make_room_for_groups()
        try:
            members = self.store.adopt_group(group)
        except StoreFull:
            self.store.make_room_for_groups(full=True)
            members = self.store.adopt_group(group)
        if members:
            self.progress.groups += 1
            self.progress.members += members
            self.progress.bytes_before += round(group.present)
            self.progress.bytes_after += group.length
        self._since_commit += members
        if self._since_commit >= _MEMBERS_A_COMMIT or self.store.holds_superseded:
            self._commit_or_make_room()

    def _commit(self) -> None:
        self._since_commit = 0
        self._commit_store()

    def _commit_or_make_room(self) -> None:
        try:
            self._commit()
        except StoreFull:
            self.store.make_room_for_groups(full=True)

    def _finish(self) -> None:
        """Gives back what is dead by now, to the last half per cent; to the last byte when most of
        the store was packed anew, since then there is little else to rewrite."""
        dead_share = 0 if 2 * self.progress.members > self.store.object_count() else 1

        def reclaim() -> int:
            try:
                rewritten = self.store.reclaim(dead_share=dead_share)
                self._commit()
            except StoreFull:
                self.store.make_room()
                return 0
            return rewritten

        self._on_routing_thread(self._commit_or_make_room)
        while not self._stop.is_set() and self._on_routing_thread(reclaim):
            pass  # who is to end leaves that to later commits
