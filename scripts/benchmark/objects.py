"""A store's payloads taken out of it, to see what the codecs alone cost."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from difffs import _kernels
from difffs.codec import ROUTE_OF_CODEC, Codec
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store.format import PAYLOAD_FILE
from difffs.store.object_table import ObjectTable, StoredObject
from difffs.store.page_tables import HOLE, ZERO

_Job = tuple[int, bytes, "tuple[int, bytes] | None"]
"""(codec, payload, the same of the base)."""


class Payloads:
    """The objects of an open, committed store."""

    def __init__(self, store: Store) -> None:
        self._objects = ObjectTable()
        for number, stored in store._index.headers():
            self._objects.add(number, stored)
        self._path = store.path / PAYLOAD_FILE
        self._context = _kernels.Context()
        dictionary = getattr(store, "dictionary", None)
        if dictionary is not None:
            self._context.use(dictionary)

    def routes(self, ids: Sequence[int]) -> list[str]:
        """Return the route that each object has taken, "zero" included."""
        return [
            "zero"
            if i in (HOLE, ZERO)
            else ROUTE_OF_CODEC[Codec(self._object(i).codec)].name.lower()
            for i in ids
        ]

    def decode_times(self, ids: Sequence[int], passes: int = 3) -> list[float]:
        """Return nanoseconds that decoding each object takes, its base included.

        The payloads lie in memory, and nothing else is done: no lookup, no checksum. The time of a
        call from Python that decodes nothing (a raw page) is taken off. Of several passes over
        all objects in the given order, the quickest as a whole counts.
        """
        file = os.open(self._path, os.O_RDONLY)
        try:
            jobs = [None if i in (HOLE, ZERO) else self._job(file, i) for i in ids]
        finally:
            os.close(file)
        overhead = self._overhead()
        best: list[float] = []
        for _ in range(passes):
            spent = [0.0 if job is None else self._time(job) - overhead for job in jobs]
            if not best or sum(spent) < sum(best):
                best = spent
        return [max(0.0, nanoseconds) for nanoseconds in best]

    def _object(self, number: int) -> StoredObject:
        item = self._objects.get(number)
        if item is None:
            raise KeyError(number)
        return item

    def _job(self, file: int, number: int) -> _Job:
        item = self._object(number)
        payload = os.pread(file, item.length, item.position)
        if not Codec(item.codec).is_patch:
            return item.codec, payload, None
        base = self._object(item.base)
        stored_base = os.pread(file, base.length, base.position)
        return item.codec, payload, (base.codec, stored_base)

    def _time(self, job: _Job) -> float:
        codec, payload, of_base = job
        decode = self._context.decode
        began = time.perf_counter_ns()
        base = None if of_base is None else decode(of_base[0], of_base[1])
        decode(codec, payload, base)
        return time.perf_counter_ns() - began

    def _overhead(self) -> float:
        raw: _Job = (Codec.RAW, bytes(PAGE_SIZE), None)
        spent = sorted(self._time(raw) for _ in range(2001))
        return spent[len(spent) // 2]
