"""What becomes of each page of a batch, decided again in plain Python.

The policy is written as it would be explained; the page kernels and codecs are the native ones
(tests/kernels compares those with oracles of their own).
"""

from dataclasses import dataclass, replace

from difffs._kernels import (
    BATCH_PAGES,
    Context,
    Dictionary,
    SketchTable,
    common_run,
    digest,
    same_word,
    sketch,
)
from difffs.codec import Codec, Route
from difffs.recipe import Recipe
from difffs.sketch import Sketch
from tests.pages import PAGE

ZERO = 255
REFERENCE = 4
"""What a patch is taken to cost beside its payload."""

COMPRESSED_LIMIT = PAGE - 64
"""A page that compresses to more is kept raw."""

SHAREABLE = 16383 - 2 * BATCH_PAGES
"""An object with that many pages is shared no more: its counter has 14 bits."""

PATCHABLE = 1023 - BATCH_PAGES
"""A base with that many patches gets no more: its counter has 10 bits."""

LOCAL_PLACES = 4096
"""Places in which a batch remembers the newest page with a feature."""


@dataclass
class Outcome:
    """What became of a page."""

    route: Route
    codec: Codec = Codec.NONE
    depth: int = 0
    length: int = 0
    """Of the payload."""
    twin: int | None = None
    """The earlier page of the batch with the same bytes."""
    same_as: int = 0
    """The stored object with the same bytes."""
    base: int = 0
    """The stored object that a patch refers to."""
    local_base: int | None = None
    """The earlier page of the batch that a patch refers to."""

    @property
    def is_new(self) -> bool:
        return self.route is not Route.ZERO and self.twin is None and not self.same_as


@dataclass
class Stored:
    """An object of the store."""

    page: bytes
    outcome: Outcome
    length: int
    base: int
    pages: int = 0
    patches: int = 0


@dataclass
class Patch:
    """A patch that may be taken."""

    length: int
    depth: int
    base_length: int
    base: int = 0
    local_base: int | None = None


@dataclass
class Candidate:
    """A base to try."""

    page: bytes
    patch: Patch
    """What is known of the patch before it is made."""


class RouterOracle:
    """Holds what a store of the recipe holds, and decides as its router must."""

    def __init__(self, recipe: Recipe, sketch_slots: int) -> None:
        self.recipe = recipe
        self.objects: dict[int, Stored] = {}
        self.newest: dict[int, int] = {}
        """The newest object of each (32-bit) digest."""
        self.sketches = SketchTable(bytearray(4 * sketch_slots))
        self.volume: dict[int, int] = {}
        """Page number to object id."""
        self._compress_codec = recipe.compress_codec
        self._context = Context()

    def use(self, dictionary: Dictionary) -> None:
        """Compresses with the store's dictionary from here on."""
        self._context.use(dictionary)
        self._compress_codec = Codec.ZSTD_DICTIONARY

    # -- deciding

    def route(self, pages: list[bytes]) -> list[Outcome]:
        """Decides on a batch; nothing is remembered until adopt()."""
        self._pages = pages
        self._outcomes: list[Outcome] = []
        self._local: dict[int, int] = {}
        self._local_features: dict[int, tuple[int, ...]] = {}
        self._local_patches = [0] * len(pages)
        first: dict[bytes, int] = {}
        for index, page in enumerate(pages):
            if self.recipe.share and any(page) and first.setdefault(page, index) != index:
                self._outcomes.append(Outcome(self._shared_route(page), twin=first[page]))
            else:
                self._outcomes.append(self._decide(index, page))
        return self._outcomes

    def _decide(self, index: int, page: bytes) -> Outcome:
        word = same_word(page)
        if word == bytes(8):
            return Outcome(Route.ZERO)
        if (identical := self._identical(page)) is not None:
            return Outcome(self._shared_route(page), same_as=identical)
        if word is not None:
            return Outcome(Route.SAME, Codec.SAME, 0, 8)
        features: tuple[int, ...] = ()
        if self.recipe.patch_codec is not Codec.NONE:
            features = sketch(self.recipe.sketch, page)
        outcome = self._unique(index, page, features)
        if features and outcome.depth < self.recipe.maximum_depth:  # it may become a base
            self._local_features[index] = features
            for feature in features:
                self._local[feature % LOCAL_PLACES] = index
        if outcome.local_base is not None:
            self._local_patches[outcome.local_base] += 1
        return outcome

    @staticmethod
    def _shared_route(page: bytes) -> Route:
        """That a page is filled with one word is found out before what it shares."""
        return Route.IDENTICAL if same_word(page) is None else Route.SAME

    def _identical(self, page: bytes) -> int | None:
        if not self.recipe.share:
            return None
        identity = self.newest.get(digest(page) & 0xFFFFFFFF, 0)
        stored = self.objects.get(identity)
        if stored is None or stored.page != page or stored.pages >= SHAREABLE:
            return None
        return identity

    def _unique(self, index: int, page: bytes, features: tuple[int, ...]) -> Outcome:
        patch = self._best_patch(index, page, features)
        if patch is not None and self._is_surely_small(patch):
            return self._patched(patch)
        compressed = None
        if self._compress_codec is not Codec.NONE:
            compressed = self._context.encode(
                self._compress_codec, page, None, self.recipe.compress_level, COMPRESSED_LIMIT
            )
        size = PAGE if compressed is None else len(compressed)
        if patch is not None and (patch.length + REFERENCE) * 256 < size * self.recipe.patch_ratio:
            return self._patched(patch)
        if compressed is not None:
            return Outcome(Route.COMPRESS, self._compress_codec, 0, size)
        return Outcome(Route.RAW, Codec.RAW, 0, PAGE)

    def _is_surely_small(self, patch: Patch) -> bool:
        """Whether it is taken without a look at what the page compresses to."""
        if self.recipe.patch_ratio == 0:
            return True
        return (patch.length + REFERENCE) * 256 < patch.base_length * self.recipe.patch_sure_ratio

    def _patched(self, patch: Patch) -> Outcome:
        return Outcome(
            Route.PATCH,
            self.recipe.patch_codec,
            patch.depth,
            patch.length,
            base=patch.base,
            local_base=patch.local_base,
        )

    def _best_patch(self, index: int, page: bytes, features: tuple[int, ...]) -> Patch | None:
        """The smallest patch against as many bases as the recipe tries."""
        stored = self._stored_votes(features)[:2]
        local, local_votes = self._local_candidate(features)
        local_first = local_votes > (stored[0][1] if stored else 0)
        candidates: list[Candidate] = []
        if local is not None and local_first:
            candidates.append(local)
        for identity, votes in stored:
            candidate = self._stored_candidate(identity)
            if (
                len(candidates) < self.recipe.candidates
                and candidate is not None
                and self._is_worth_a_try(votes, page, candidate.page)
            ):
                candidates.append(candidate)
        if local is not None and not local_first and len(candidates) < self.recipe.candidates:
            candidates.append(local)
        best: Patch | None = None
        for candidate in candidates:
            limit = self.recipe.patch_limit - 1 if best is None else best.length - 1
            # zstd finds a little else when the base lies right in front of the page, as the page
            # before does in a batch; any other is in a buffer of its own.
            both = memoryview(candidate.page + page)
            adjacent = candidate.patch.local_base == index - 1
            payload = self._context.encode(
                self.recipe.patch_codec,
                both[PAGE:] if adjacent else page,
                both[:PAGE] if adjacent else bytes(bytearray(candidate.page)),
                self.recipe.patch_level,
                min(limit, PAGE - REFERENCE),
            )
            if payload is not None:
                best = replace(candidate.patch, length=len(payload))
        return best

    def _is_worth_a_try(self, votes: int, page: bytes, base: bytes) -> bool:
        if votes < self.recipe.minimum_votes:
            return False
        if votes > 1 or self.recipe.sketch is not Sketch.MIN_HASH:
            return True
        return common_run(page, base) >= self.recipe.single_vote_run

    def _stored_votes(self, features: tuple[int, ...]) -> list[tuple[int, int]]:
        """(object, features that lead to it), most first; equals in order of the features."""
        votes: dict[int, int] = {}
        for feature in features:
            identity = self.sketches.find(feature)
            if identity:
                votes[identity] = votes.get(identity, 0) + 1
        return sorted(votes.items(), key=lambda vote: -vote[1])

    def _stored_candidate(self, identity: int) -> Candidate | None:
        stored = self.objects.get(identity)
        if (
            stored is None
            or stored.outcome.codec is Codec.SAME
            or stored.outcome.depth >= self.recipe.maximum_depth
            or stored.patches >= PATCHABLE
        ):
            return None
        patch = Patch(0, stored.outcome.depth + 1, stored.length, base=identity)
        return Candidate(stored.page, patch)

    def _local_candidate(self, features: tuple[int, ...]) -> tuple[Candidate | None, int]:
        """The page of the batch with most of the features, at least two; and how many."""
        best, most = 0, 0
        for feature in features:
            which = self._local.get(feature % LOCAL_PLACES)
            if which is None:
                continue
            votes = sum(each in self._local_features[which] for each in features)
            if votes > most:
                best, most = which, votes
        if most < 2 or self._local_patches[best] >= PATCHABLE:
            return None, 0
        base = self._outcomes[best]
        patch = Patch(0, base.depth + 1, base.length, local_base=best)
        return Candidate(self._pages[best], patch), most

    # -- remembering

    def adopt(self, ids: list[int], numbers: list[int]) -> None:
        """Remembers the batch decided on last, under the ids that the store gave."""
        for index, (identity, outcome) in enumerate(zip(ids, self._outcomes, strict=True)):
            if not outcome.is_new:
                continue
            assert identity not in self.objects
            base = outcome.base
            if outcome.local_base is not None:
                base = ids[outcome.local_base]
            page = self._pages[index]
            self.objects[identity] = Stored(page, outcome, outcome.length, base)
            self.newest[digest(page) & 0xFFFFFFFF] = identity
            for feature in self._local_features.get(index, ()):
                self.sketches.put(feature, identity)
        for identity in ids:
            if identity != ZERO:
                self.objects[identity].pages += 1
        for identity, outcome in zip(ids, self._outcomes, strict=True):
            if outcome.route is Route.PATCH:
                self.objects[self.objects[identity].base].patches += 1
        for number, identity in zip(numbers, ids, strict=True):
            former = self.volume.get(number, ZERO)
            self.volume[number] = identity
            if former != ZERO:
                self._released(former, by_patch=False)

    def _released(self, identity: int, *, by_patch: bool) -> None:
        stored = self.objects[identity]
        if by_patch:
            stored.patches -= 1
        else:
            stored.pages -= 1
        if stored.pages == stored.patches == 0:
            del self.objects[identity]
            key = digest(stored.page) & 0xFFFFFFFF
            if self.newest.get(key) == identity:
                del self.newest[key]
            if stored.base:
                self._released(stored.base, by_patch=True)

    def sketch_table_grew(self, slots: int) -> None:
        """Follows the store's table, which grows as it fills."""
        while self.sketches.slots < slots:
            self.sketches = self.sketches.grow_into(bytearray(4 * self.sketches.next_slots))

    def page(self, number: int) -> bytes:
        identity = self.volume.get(number, ZERO)
        return bytes(PAGE) if identity == ZERO else self.objects[identity].page

    def payload_bytes(self) -> int:
        return sum(stored.length for stored in self.objects.values())
