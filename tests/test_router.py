"""The router decides on every page as the policy in plain Python does, and loses none."""

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs._kernels import BATCH_PAGES, EXTENT_SIDE_BYTES, sketch
from difffs.codec import Codec, Route
from difffs.engine import Engine
from difffs.errors import StoreFull
from difffs.recipe import RECIPES
from difffs.sketch import Sketch
from tests.pages import (
    PAGE,
    compressible_page,
    guest_pages,
    random_page,
    same_filled_page,
    similar_page,
)
from tests.router_oracle import PATCHABLE, SHAREABLE, Outcome, RouterOracle
from tests.stores import OpenStore, scratch

VARIANTS = {
    "deep": replace(RECIPES["default"], name="deep", maximum_depth=3, candidates=2),
    "any-patch": replace(RECIPES["default"], name="any-patch", patch_ratio=0, maximum_depth=2),
    "no-depth": replace(RECIPES["default"], name="no-depth", maximum_depth=0),
    "lonely": replace(RECIPES["default"], name="lonely", share=False),
    "choosy": replace(RECIPES["default"], name="choosy", minimum_votes=3),
    "never-satisfied": replace(RECIPES["default"], name="never-satisfied", single_vote_run=5000),
    "any-run": replace(RECIPES["default"], name="any-run", single_vote_run=0),
    **{
        name: replace(RECIPES["default"], name=name, patch_codec=codec)
        for codec in Codec
        if codec.is_patch and all(codec is not each.patch_codec for each in RECIPES.values())
        for name in [f"patch-by-{codec.name}"]
    },
}
"""Settings that no recipe has (yet)."""

ALL = [*RECIPES, *VARIANTS]


@pytest.fixture(autouse=True, scope="module")
def _variants() -> Iterator[None]:
    RECIPES.update(VARIANTS)
    yield
    for name in VARIANTS:
        del RECIPES[name]


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


class Comparison:
    """A store and the oracle, fed with the same batches."""

    def __init__(self, path: Path, recipe: str) -> None:
        self.opened = OpenStore(path / "store", recipe)
        self.volume = self.opened.new_volume("guest", 1 << 20)
        self.oracle = RouterOracle(RECIPES[recipe], self.opened.store.sketches.slots)
        self.outcomes: list[Outcome] = []

    def write(self, pages: list[bytes], numbers: list[int]) -> "array[int]":
        """Routes one batch in both and compares page by page; the pages' object ids."""
        engine, oracle = self.opened.engine, self.oracle
        expected = oracle.route(pages)
        ids = engine.route(b"".join(pages))
        for index, outcome in enumerate(expected):
            route, codec, depth, length = engine._batch.outcome(index)
            where = f"page {index} of {len(pages)}: {outcome}"
            assert Route(route) == outcome.route, where
            if outcome.is_new:
                assert (codec, depth, length) == (outcome.codec, outcome.depth, outcome.length), (
                    where
                )
            elif outcome.same_as:
                assert ids[index] == outcome.same_as, where
            elif outcome.twin is not None:
                assert ids[index] == ids[outcome.twin], where
        bases = [
            ids[outcome.local_base] if outcome.local_base is not None else outcome.base
            for outcome in expected
            if outcome.route is Route.PATCH
        ]
        assert list(engine._batch.bases()) == bases
        engine.adopt(ids, [(self.volume, array("Q", numbers), ids)])
        self.opened.store.settle()
        oracle.sketch_table_grew(self.opened.store.sketches.slots)
        oracle.adopt(list(ids), numbers)
        self.outcomes += expected
        if self.opened.store.dictionary is not None:
            oracle.use(self.opened.store.dictionary)
        return ids

    def finish(self) -> None:
        """All pages read back, the sums agree, and check() finds nothing."""
        store, oracle = self.opened.store, self.oracle
        last = max(oracle.volume)
        out = self.opened.read(self.volume, 0, last + 1)
        for number in range(last + 1):
            assert out[number * PAGE : (number + 1) * PAGE] == oracle.page(number), number
        assert store.occupancy().payload == oracle.payload_bytes()
        assert store.object_count() == len(oracle.objects)
        self.opened.assert_clean()
        self.opened.close()

    @property
    def routes(self) -> Counter[Route]:
        return Counter(outcome.route for outcome in self.outcomes)


def batches(seed: int, count: int, pages: int) -> Iterator[tuple[list[bytes], list[int]]]:
    """Batches with pages alike within and across them; page numbers overlap: overwrites."""
    random = Random(seed)
    memory = guest_pages(random, count * pages)
    for _ in range(count):
        chosen = [random.choice(memory) for _ in range(pages // 4)]
        chosen += [similar_page(random.choice(memory), random, 8) for _ in range(pages // 4)]
        chosen += guest_pages(random, pages - len(chosen))
        random.shuffle(chosen)
        yield chosen, sorted(random.sample(range(2 * pages), pages))


@pytest.mark.parametrize("recipe", ALL)
def test_every_page_takes_the_route_that_the_policy_says(folder: Path, recipe: str) -> None:
    compared = Comparison(folder, recipe)
    for pages, numbers in batches(len(recipe), 6, 200):
        compared.write(pages, numbers)
    chosen = RECIPES[recipe]
    expected = {Route.ZERO, Route.SAME, Route.RAW}
    if chosen.share:
        expected.add(Route.IDENTICAL)
    if chosen.patch_codec is not Codec.NONE and chosen.maximum_depth:
        expected.add(Route.PATCH)
    if chosen.compress_codec is not Codec.NONE:
        expected.add(Route.COMPRESS)
    assert set(compared.routes) == expected
    depths = {outcome.depth for outcome in compared.outcomes}
    assert max(depths) == (chosen.maximum_depth if Route.PATCH in expected else 0)
    compared.finish()


@settings(max_examples=25, deadline=None)
@example(recipe="default", steps=[(431824, 3)])  # patched with the page right before
@given(
    recipe=st.sampled_from(["default", "deep", "difference-engine", "lonely"]),
    steps=st.lists(st.tuples(st.integers(0, 2**32), st.integers(1, 24)), min_size=1, max_size=6),
)
def test_any_small_batches(recipe: str, steps: list[tuple[int, int]]) -> None:
    with scratch() as path:
        compared = Comparison(path, recipe)
        for seed, count in steps:
            random = Random(seed)
            # Few families, so that everything is alike and written over and over.
            pages = [
                similar_page(compressible_page(Random(random.randrange(3))), random, words)
                for words in random.choices([0, 1, 5, 30, 200], k=count)
            ]
            compared.write(pages, sorted(random.sample(range(30), count)))
        compared.finish()


@pytest.mark.parametrize("recipe", ["default", "difference-engine", "compress-only", "bwt-mtf"])
def test_a_full_batch_and_a_single_page(folder: Path, recipe: str) -> None:
    compared = Comparison(folder, recipe)
    pages = guest_pages(Random(6), BATCH_PAGES)
    compared.write(pages, list(range(BATCH_PAGES)))
    compared.write([similar_page(pages[-1], Random(1), 3)], [BATCH_PAGES])
    compared.write([pages[0]], [0])
    compared.finish()


def test_a_page_with_too_many_copies_is_stored_again(folder: Path) -> None:
    """Its counter has 14 bits. 17 such copies once were more than a digest table could hold."""
    compared = Comparison(folder, "identical-only")
    page = random_page(Random(1))
    batches_each = -(-SHAREABLE // BATCH_PAGES)
    objects: set[int] = set()
    for batch in range(2 * batches_each + 1):
        first = batch * BATCH_PAGES
        objects.update(
            compared.write([page] * BATCH_PAGES, list(range(first, first + BATCH_PAGES)))
        )
    assert len(objects) == 3
    compared.finish()


@pytest.mark.parametrize("recipe", ["default", "patch-only"])
def test_a_base_with_too_many_patches_is_left_alone(folder: Path, recipe: str) -> None:
    """Its counter has 10 bits."""
    compared = Comparison(folder, recipe)
    base = compressible_page(Random(1))
    random = Random(2)
    compared.write([base], [0])
    for batch in range(3):
        pages = [similar_page(base, random, 1) for _ in range(400)]
        compared.write(pages, list(range(1 + 400 * batch, 401 + 400 * batch)))
    assert compared.routes[Route.PATCH] > PATCHABLE
    assert max(stored.patches for stored in compared.oracle.objects.values()) >= PATCHABLE
    compared.finish()


def test_many_patches_within_a_batch(folder: Path) -> None:
    compared = Comparison(folder, "default")
    base, random = compressible_page(Random(1)), Random(2)
    pages = [base, *(similar_page(base, random, 1) for _ in range(BATCH_PAGES - 1))]
    compared.write(pages, list(range(BATCH_PAGES)))
    assert max(Counter(o.local_base for o in compared.outcomes).values()) <= PATCHABLE
    compared.finish()


def test_one_shared_feature_must_stand_for_a_long_run(folder: Path) -> None:
    """Pages with a phrase in common are not tried, those with more are, wherever it lies."""
    compared = Comparison(folder, "default")
    random = Random(5)
    bases = [compressible_page(random) for _ in range(60)]
    compared.write(bases, list(range(60)))
    patched = []
    for step, common in enumerate([24, 160, 1600]):
        pages = []
        for base in bases:
            start, place = (random.randrange(0, PAGE - common, 8) for _ in range(2))
            around = compressible_page(random)
            pages.append(around[:place] + base[start : start + common] + around[place + common :])
        before = compared.routes[Route.PATCH]
        compared.write(pages, list(range(60 * (step + 1), 60 * (step + 2))))
        patched.append(compared.routes[Route.PATCH] - before)
    assert patched[0] == patched[1] == 0
    assert patched[2] > 10
    compared.finish()


def test_a_second_base_is_tried_where_the_first_has_but_a_phrase(folder: Path) -> None:
    compared = Comparison(folder, "default")
    random = Random(6)
    likes = [compressible_page(random) for _ in range(80)]
    phrases = [compressible_page(random) for _ in range(80)]
    compared.write(likes, list(range(80)))
    compared.write(phrases, list(range(80, 160)))
    pages = []
    for like, phrase in zip(likes, phrases, strict=True):
        page = bytearray(like[:2048] + compressible_page(random)[2048:])
        for place in range(2048, PAGE, 128):  # phrases too short to be worth a try
            page[place : place + 96] = phrase[place : place + 96]
        pages.append(bytes(page))
    stored, phrase_first = compared.oracle.objects, []
    for index, mixture in enumerate(pages):
        votes = compared.oracle._stored_votes(sketch(Sketch.MIN_HASH, mixture))[:2]
        bases = [stored[identity].page for identity, count in votes if count == 1]
        if bases == [phrases[index], likes[index]]:
            phrase_first.append(index)
    compared.write(pages, list(range(160, 240)))
    routes = {compared.outcomes[160 + index].route for index in phrase_first}
    assert routes == {Route.PATCH}, "of the second base, which is more than a phrase like it"
    compared.finish()


def test_a_dictionary_is_trained_and_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difffs.dictionary.SAMPLES", 64)
    compared = Comparison(folder, "default")
    random = Random(5)
    for step in range(6):
        pages = [compressible_page(random) for _ in range(150)]
        pages += [similar_page(random.choice(pages), random, 5) for _ in range(50)]
        compared.write(pages, list(range(200 * step, 200 * (step + 1))))
    codecs = [outcome.codec for outcome in compared.outcomes if outcome.is_new]
    assert codecs[0] is Codec.ZSTD
    assert Codec.ZSTD_DICTIONARY in codecs
    last = codecs.index(Codec.ZSTD_DICTIONARY)
    assert Codec.ZSTD not in codecs[last:]

    dictionary = compared.opened.store.dictionary
    assert dictionary is not None
    compared.opened.reopen()  # it is kept
    assert compared.opened.store.dictionary is not None
    assert compared.opened.store.dictionary.content == dictionary.content
    page = compressible_page(random)
    compared.write([page], [5])
    assert compared.outcomes[-1].codec is Codec.ZSTD_DICTIONARY
    compared.finish()


def flip(compared: Comparison, identity: int) -> None:
    """Damages an object's payload in the file."""
    path = compared.opened.path / "payloads"
    stored = compared.oracle.objects[identity]
    position = 2 * (identity >> 8) * EXTENT_SIDE_BYTES
    with path.open("r+b") as file:
        image = os.pread(file.fileno(), EXTENT_SIDE_BYTES, position)
        at = image.index(stored.page[1000:1100])
        os.pwrite(file.fileno(), bytes([image[at] ^ 1]), position + at)


def test_a_damaged_page_is_neither_shared_nor_a_base(folder: Path) -> None:
    compared = Comparison(folder, "patch-only")
    page = random_page(Random(1))
    (damaged,) = compared.write([page], [0])
    flip(compared, damaged)
    del compared.oracle.objects[damaged]  # as good as gone
    similar = similar_page(page, Random(2), 3)
    again = random_page(Random(3))
    expected = compared.oracle.route([page, similar, again])
    engine = compared.opened.engine
    ids = engine.route(page + similar + again)
    assert damaged not in ids
    assert damaged not in engine._batch.bases()
    assert [Route(engine._batch.outcome(i)[0]) for i in range(3)] == [o.route for o in expected]
    assert expected[0].route is Route.RAW
    compared.opened.abandon()


# ------------------------------------------------------------------------------------ two workers


@pytest.mark.parametrize("recipe", ALL)
def test_two_workers_lose_nothing(folder: Path, recipe: str) -> None:
    """Only patches within a batch depend on how it is cut; what is alike to the byte does not."""
    alone = OpenStore(folder / "alone", recipe)
    shared = OpenStore(folder / "shared", recipe, workers=2)
    memory: list[bytes] = []
    for pages, _numbers in batches(3, 2, BATCH_PAGES):
        memory += pages
    for opened in (alone, shared):
        volume = opened.new_volume("guest")
        opened.write(volume, 0, b"".join(memory))
        assert opened.read(volume, 0, len(memory)) == b"".join(memory)
    counts, wanted = shared.store.page_counts(), alone.store.page_counts()
    for route in ("total", "zero", "same", "identical"):
        assert counts[route] == wanted[route]
    if RECIPES[recipe].patch_codec is Codec.NONE:
        assert counts == wanted
        assert shared.store.occupancy().payload == alone.store.occupancy().payload
    else:
        assert abs(counts["patch"] - wanted["patch"]) <= wanted["total"] // 10
    for opened in (alone, shared):
        opened.assert_clean()
        opened.close()


def test_an_error_leaves_no_batch_half_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker classifies the next batch already when packing fails; later writes are whole."""
    opened = OpenStore(folder / "store", "default", workers=2)
    volume = opened.new_volume("guest")
    lost, kept = (
        b"".join(page for pages, _numbers in batches(seed, 4, BATCH_PAGES) for page in pages)
        for seed in (5, 6)
    )
    with monkeypatch.context() as full:

        def pack(_batch: object) -> None:
            raise StoreFull("no space left")

        full.setattr(opened.store, "pack", pack)
        with pytest.raises(StoreFull):
            opened.write(volume, 0, lost)
    opened.write(volume, 0, kept)
    assert opened.read(volume, 0, len(kept) // PAGE) == kept
    opened.assert_clean()
    opened.close()


def test_two_workers_agree_on_what_cannot_be_patched(folder: Path) -> None:
    opened = OpenStore(folder / "store", "default", workers=2)
    random = Random(8)
    pages = [compressible_page(random) for _ in range(100)]
    pages += [random_page(random) for _ in range(50)]
    pages += [same_filled_page(random) for _ in range(20)]
    pages += pages[:60] + [bytes(PAGE)] * 30
    volume = opened.new_volume("guest")
    opened.write(volume, 0, b"".join(pages))
    counts = opened.store.page_counts()
    assert counts == {
        "total": 260,
        "zero": 30,
        "same": 20,
        "identical": 60,
        "patch": 0,
        "compress": 100,
        "raw": 50,
    }
    assert opened.read(volume, 0, 260) == b"".join(pages)
    opened.assert_clean()
    opened.close()


def test_the_engine_counts_what_it_did(folder: Path) -> None:
    opened = OpenStore(folder / "store", "default")
    random = Random(8)
    pages = [compressible_page(random), random_page(random), same_filled_page(random)]
    pages += [pages[0], bytes(PAGE)]
    opened.write(opened.new_volume("guest"), 0, b"".join(pages))
    counters = opened.store.counters
    counted = {name: tuple(counters[name][:3]) for name in counters}
    compressed = opened.store.extents.totals()[Codec.ZSTD][1]
    assert counted == {
        "zero": (1, PAGE, 0),
        "same": (1, PAGE, 8),
        "identical": (1, PAGE, 0),
        "patch": (0, 0, 0),
        "compress": (1, PAGE, compressed),
        "raw": (1, PAGE, PAGE),
    }
    assert counters["compress"][3] > 0  # nanoseconds
    opened.close()


def test_pages_of_one_word_count_as_same_whatever_they_share(folder: Path) -> None:
    opened = OpenStore(folder / "store", "default")
    page = same_filled_page(Random(8))
    volume = opened.new_volume("guest")
    opened.write(volume, 0, page * 3)  # two share with the first page of their batch
    opened.write(volume, 3, page)  # and one with a stored page
    counters = opened.store.counters
    assert tuple(counters["same"][:3]) == (4, 4 * PAGE, 8)
    assert counters["identical"][0] == 0
    assert opened.store.page_counts()["same"] == 4
    assert opened.store.object_count() == 1
    opened.assert_clean()
    opened.close()


def test_page_numbers_and_pages_must_agree(folder: Path) -> None:
    with OpenStore(folder / "store") as opened, pytest.raises(ValueError, match="2 page numbers"):
        opened.engine.write(5, [1, 2], bytes(PAGE))


def test_an_engine_has_at_least_one_worker(folder: Path) -> None:
    with OpenStore(folder / "store") as opened, Engine(opened.store, 0) as engine:
        assert engine.workers == 1
