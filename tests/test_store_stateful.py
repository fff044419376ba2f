"""A dictionary of pages as the model of a store: any sequence of changes, closings and crashes."""

import tempfile
from contextlib import nullcontext
from pathlib import Path
from random import Random
from shutil import rmtree

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from difffs.recipe import RECIPES
from difffs.refine.refiner import Refiner
from difffs.refine.tiers import COLD, REST, Tier
from difffs.store.domains import domain_statistics
from tests.pages import compressible_page, guest_pages, same_filled_page, similar_page
from tests.stores import OpenStore, memory_folder

PAGE = 4096
PAGES = 3000
"""Of a volume: three page table chunks."""

Model = dict[int, dict[int, bytes]]

_places = st.one_of(st.integers(0, 40), st.integers(1000, 1040), st.integers(0, PAGES - 50))


class StoreMachine(RuleBasedStateMachine):
    """Store and engine against {volume: {page number: bytes}}; holes are zeros."""

    volumes: Bundle[str] = Bundle("volumes")

    @initialize(
        recipe=st.sampled_from(sorted(RECIPES)),
        seed=st.integers(0, 1 << 20),
        domains=st.booleans(),
    )
    def make(self, recipe: str, seed: int, domains: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="difffs-model-", dir=memory_folder()))
        self.random = Random(seed)
        self.opened = OpenStore(self.folder / "s", recipe, domains=domains)
        self.names = 0
        self.model: dict[str, dict[int, bytes]] = {}
        self.committed: dict[str, dict[int, bytes]] = {}
        self.recent = [compressible_page(self.random)]

    def number(self, name: str) -> int:
        return self.opened.store.namespace.lookup(f"/{name}").number

    @rule(target=volumes, directory=st.sampled_from(["", "a/", "b/", "c/"]))
    def new_volume(self, directory: str) -> str:
        name = f"{directory}v{self.names}"
        self.names += 1
        self.opened.new_volume(name, PAGES)
        self.model[name] = {}
        return name

    def pages(self, kind: str, count: int) -> list[bytes]:
        if kind == "guest":
            return guest_pages(self.random, count)
        if kind == "again":
            return [self.random.choice(self.recent) for _ in range(count)]
        if kind == "similar":
            return [
                similar_page(self.random.choice(self.recent), self.random) for _ in range(count)
            ]
        if kind == "same":
            return [same_filled_page(self.random)] * count
        return [bytes(PAGE)] * count

    @rule(
        name=volumes,
        first=_places,
        count=st.integers(1, 40),
        kind=st.sampled_from(["guest", "again", "similar", "same", "zero"]),
    )
    def write(self, name: str, first: int, count: int, kind: str) -> None:
        if name not in self.model:
            return
        pages = self.pages(kind, count)
        self.opened.write(self.number(name), first, b"".join(pages))
        self.model[name].update(zip(range(first, first + count), pages, strict=True))
        self.recent = (self.recent + pages)[-60:]

    @rule(name=volumes, first=_places, count=st.integers(1, 1500), zero=st.booleans())
    def fill(self, name: str, first: int, count: int, zero: bool) -> None:
        if name not in self.model:
            return
        count = min(count, PAGES - first)
        self.opened.store.fill(self.number(name), first, count, 255 if zero else 0)
        for page in range(first, first + count):
            self.model[name].pop(page, None)

    @rule(name=consumes(volumes))
    def remove(self, name: str) -> None:
        if name in self.model:
            self.opened.remove(self.number(name))
            del self.model[name]

    @rule(tier=st.sampled_from([COLD, REST]), seconds=st.none() | st.just(0.05))
    def refine(self, tier: Tier, seconds: float | None) -> None:
        """A pass commits now and then, and in the end."""
        Refiner(self.opened.store, tier).run(seconds)
        self.committed = {name: dict(pages) for name, pages in self.model.items()}

    @rule()
    def commit(self) -> None:
        self.opened.store.commit()
        self.committed = {name: dict(pages) for name, pages in self.model.items()}

    @rule(recipe=st.none() | st.sampled_from(sorted(RECIPES)))
    def reopen(self, recipe: str | None) -> None:
        self.opened.reopen(recipe, change_recipe=recipe is not None)
        self.committed = {name: dict(pages) for name, pages in self.model.items()}

    @rule()
    def crash(self) -> None:
        self.opened.crash()
        self.model = {name: dict(pages) for name, pages in self.committed.items()}
        names = self.opened.store.namespace
        assert {names.path(inode.number)[1:] for inode in names.volumes()} == set(self.model)

    @rule()
    def check(self) -> None:
        store = self.opened.store
        assert [str(finding) for finding in store.check()] == []
        if store.has_domains:  # nothing waits to be released
            told = domain_statistics(store, store.occupancy())
            assert sum(each["pages"] for each in told) == store.page_counts()["total"]
            assert sum(each["objects"] for each in told) == store.object_count()
        self.committed = {name: dict(pages) for name, pages in self.model.items()}

    @rule(name=volumes, first=_places, count=st.integers(1, 60))
    def read(self, name: str, first: int, count: int) -> None:
        if name not in self.model:
            return
        found = self.opened.read(self.number(name), first, count)
        for index in range(count):
            expected = self.model[name].get(first + index, bytes(PAGE))
            equal = found[index * PAGE : (index + 1) * PAGE] == expected
            assert equal, f"page {first + index} of {name}"

    @invariant()
    def counts_add_up(self) -> None:
        if hasattr(self, "opened"):
            counts = self.opened.store.page_counts()
            assert counts["total"] == sum(counts.values()) - counts["total"]
            assert min(counts.values()) >= 0

    @rule(name=volumes, directory=st.sampled_from(["", "a/", "b/", "c/"]))
    def rename_elsewhere(self, name: str, directory: str) -> None:
        """To another domain is refused; where there are none, and within one, it goes there and
        back."""
        names = self.opened.store.namespace
        if name not in self.model or not names.exists(f"/{directory}"):
            return
        target = f"/{directory}renamed"
        goes = not self.opened.store.has_domains or name.rpartition("/")[0] == directory[:-1]
        with nullcontext() if goes else pytest.raises(OSError, match="cross-device"):
            names.rename(f"/{name}", target)
            names.rename(target, f"/{name}")

    @invariant()
    def objects_are_of_the_domain_of_their_pages(self) -> None:
        if not hasattr(self, "opened"):
            return
        store = self.opened.store
        for name in self.model:
            number = self.number(name)
            ids = store.lookup(number, 0, 41)
            found = {store.extents.domain_of(identity >> 8) for identity in ids if identity > 255}
            assert found <= {store.domain_of(number)}

    def teardown(self) -> None:
        if not hasattr(self, "opened"):
            return
        try:
            for name in self.model:
                self.read(name, 0, PAGES)
            self.check()
            self.opened.store.close()
        finally:
            self.opened.abandon()
            rmtree(self.folder, ignore_errors=True)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
