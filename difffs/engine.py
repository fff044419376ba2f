"""The router: batches of pages go through zero/same -> identical -> patch -> compress -> raw."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType

from difffs._kernels import BATCH_PAGES, Batch, Context, Dictionary
from difffs.codec import Codec, Route
from difffs.dictionary import DictionaryTrainer
from difffs.errors import DifffsError, TryAgain
from difffs.page import PAGE_SIZE
from difffs.store import Store

Target = tuple[int, "array[int]", "array[int]"]
"""(volume, ascending page numbers as 'Q', their object ids as 'I')."""

COMMIT_EVERY = 1024
"""Changed index pages (4 MiB) at which a long run of writes commits in between. LMDB writes changed
pages elsewhere: the index carries up to twice as many free ones."""

_SMALLEST_SLICE = 64
"""Pages below which a second worker costs more than it saves."""


class Engine:
    """Routes pages into a store and reads them back.

    write, route, adopt and commit belong to one thread at a time, the routing thread; read may be
    called from any.
    """

    def __init__(self, store: Store, workers: int = 1) -> None:
        """`workers` threads share the native work of each batch, this one included."""
        self.store = store
        self.workers = max(1, workers)
        self._batch = Batch(store.recipe)
        # With several workers: the batch that one of them classifies while this thread packs.
        self._next = Batch(store.recipe) if workers > 1 else self._batch
        self._classified: Future[None] | None = None
        self._contexts = [Context() for _ in range(self.workers)]
        self._pool = ThreadPoolExecutor(self.workers - 1, "difffs-route") if workers > 1 else None
        self._trainer: DictionaryTrainer | None = None
        recipe = store.recipe
        if recipe.compress_codec is Codec.ZSTD and recipe.dictionary_bytes:
            if store.dictionary is not None:
                self._use(store.dictionary)
            elif not store.read_only:
                self._trainer = DictionaryTrainer(recipe.dictionary_bytes, recipe.compress_level)

    def _use(self, dictionary: Dictionary) -> None:
        for context in self._contexts:
            context.use(dictionary)
        self._batch.use_dictionary()
        self._next.use_dictionary()

    def _learn(self, pages: memoryview) -> None:
        assert self._trainer is not None
        self._trainer.add(pages, self._batch.compressed_pages())
        if self._trainer.ready:
            content = self._trainer.train()
            self._trainer = None
            if content is not None:
                self._use(self.store.set_dictionary(content))

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _slices(self, count: int) -> int:
        return min(self.workers, max(1, count // _SMALLEST_SLICE))

    def _in_slices(self, work: Callable[[Context, int, int], None], bounds: list[int]) -> None:
        pending = []
        if self._pool is not None:
            for i in range(1, len(bounds) - 1):
                pending.append(self._pool.submit(work, self._contexts[i], bounds[i], bounds[i + 1]))
        work(self._contexts[0], bounds[0], bounds[1])
        for future in pending:
            future.result()

    def _classify_ahead(self, pages: memoryview, domain: int) -> None:
        """Lets a worker classify the next batch while this one is packed and adopted."""
        assert self._pool is not None
        self._next.begin(pages, domain)
        self._classified = self._pool.submit(self._next.classify, 0, self._next.count)

    def _take_classified(self) -> None:
        assert self._classified is not None
        classified, self._classified = self._classified, None
        classified.result()
        self._batch, self._next = self._next, self._batch

    def _forget_classified(self) -> None:
        if self._classified is not None:
            wait([self._classified])
            self._classified = None
            self._next.finish()

    def route(
        self,
        pages: memoryview | bytearray | bytes,
        following: memoryview | None = None,
        domain: int = 0,
    ) -> "array[int]":
        """Routes up to BATCH_PAGES pages, all of one domain, and stores their payloads. Returns
        their object ids.

        The objects have no references until adopt() is called, which must come next. `following`
        are the pages of the next call, of the same domain: with several workers, work on them
        begins meanwhile.
        """
        if self._classified is not None:
            self._take_classified()
            batch = self._batch
            if not batch.holds(pages) or batch.domain != domain:
                raise RuntimeError("other pages are routed than were announced")
        else:
            batch = self._batch
            batch.begin(pages, domain)
            slices = self._slices(batch.count)
            self._in_slices(
                lambda _context, start, end: batch.classify(start, end),
                [batch.count * i // slices for i in range(slices + 1)],
            )
        store = self.store
        store.prepare(batch.propose(store.digests, store.sketches))
        extents = store.extents
        self._in_slices(
            lambda context, start, end: batch.route(extents, context, start, end),
            batch.slices(self._slices(batch.count)),
        )
        if following is not None and self._pool is not None and self._trainer is None:
            self._classify_ahead(following, domain)
        store.pack(batch)
        ids = batch.ids()
        if self._trainer is not None and domain == 0:
            self._learn(memoryview(pages))
        return ids

    def patches(self) -> list[tuple[int, int]]:
        """(page of the batch, id of its base) for each new patch; between route() and adopt()."""
        batch = self._batch
        patched = [i for i in range(batch.count) if batch.outcome(i)[0] == Route.PATCH]
        return list(zip(patched, batch.bases(), strict=True))

    def adopt(self, ids: "array[int]", targets: Iterable[Target]) -> None:
        """Maps routed pages into volumes."""
        self.store.adopt(self._batch, ids, targets)
        self._finish()

    def adopt_buffered(self, ids: "array[int]", keys: "array[int]", slots: "array[int]") -> None:
        """Maps routed pages that came from the write buffer; see Store.adopt_buffered()."""
        self.store.adopt_buffered(self._batch, ids, keys, slots)
        self._finish()

    def _finish(self) -> None:
        for route, (pages, out, spent) in zip(Route, self._batch.totals(), strict=True):
            counter = self.store.counters[route.name.lower()]
            counter[0] += pages
            counter[1] += pages * PAGE_SIZE
            counter[2] += out
            counter[3] += spent
        self._batch.finish()

    def write(
        self,
        volume: int,
        page_numbers: Iterable[int],
        pages: memoryview | bytearray | bytes,
    ) -> None:
        """Stores whole pages of one volume; page numbers ascend.

        Durable with the next commit(); a long run commits by itself now and then.
        """
        numbers = array("Q", page_numbers)
        domain = self.store.domain_of(volume)
        view = memoryview(pages)
        if len(numbers) * PAGE_SIZE != len(view):
            raise ValueError(f"{len(numbers)} page numbers for {len(view)} bytes")
        try:
            for start in range(0, len(numbers), BATCH_PAGES):
                end = min(start + BATCH_PAGES, len(numbers))
                stop = min(end + BATCH_PAGES, len(numbers))
                following = view[end * PAGE_SIZE : stop * PAGE_SIZE] if end < stop else None
                with self._whole_or_stopped():
                    ids = self.route(view[start * PAGE_SIZE : end * PAGE_SIZE], following, domain)
                    self.adopt(ids, [(volume, numbers[start:end], ids)])
        finally:
            self._forget_classified()  # of a run that an error has cut short
        self.store.settle()
        if self.store.uncommitted > COMMIT_EVERY:
            self.store.commit()

    @contextmanager
    def _whole_or_stopped(self) -> Iterator[None]:
        """A batch that ends in its middle, as by a signal, is never committed: nothing more is.

        What can be tried again has been noticed before anything was changed.
        """
        try:
            yield
        except TryAgain:
            raise
        except BaseException as error:
            self.store.stop(
                error
                if isinstance(error, DifffsError)
                else DifffsError(f"{self.store.path}: writing was cut off; the last commit stands")
            )
            raise

    def read(self, volume: int, first_page: int, count: int, out: memoryview | bytearray) -> None:
        """Fills out with pages [first_page, first_page + count)."""
        self.store.read_pages(volume, first_page, count, out)

    def commit(self) -> None:
        """Makes everything written so far durable."""
        self.store.commit()


__all__ = ["BATCH_PAGES", "Engine", "Target"]
