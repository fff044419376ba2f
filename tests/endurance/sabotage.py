"""Faults in the product, put in on purpose: what a suite is worth shows in finding them."""

import os
from contextlib import suppress
from typing import Any

from difffs.errors import DifffsError
from difffs.store import Store
from difffs.store.index import Index
from difffs.store.payloads import PayloadFile


def commits_are_forgotten() -> None:
    """Commits succeed and change nothing in the index, from the third on."""
    ends = Index.end_commit
    made = 0

    def forget(self: Index, transaction: Any) -> None:
        nonlocal made
        made += 1
        if made < 3:
            ends(self, transaction)
        else:
            transaction.abort()

    Index.end_commit = forget  # type: ignore[method-assign]


def sides_are_punched_before_the_commit() -> None:
    """Old sides of rewritten extents go when the payloads have been synchronised."""
    synchronise = PayloadFile.synchronise
    old: set[tuple[int, int]] = set()
    write = PayloadFile.write

    def note(self: PayloadFile, extent: int, side: int, position: int, data: Any) -> None:
        if position == 0:
            old.add((extent, 1 - side))
        write(self, extent, side, position, data)

    def punch(self: PayloadFile) -> None:
        synchronise(self)
        for extent, side in old:
            self.discard(extent, side)
        old.clear()

    PayloadFile.write = note  # type: ignore[method-assign]
    PayloadFile.synchronise = punch  # type: ignore[method-assign]


def _do_nothing(_file: PayloadFile) -> None:
    pass


def payloads_follow_the_index() -> None:
    """The index is committed first, and the payloads are synchronised then."""
    commit = Store._commit

    def late(self: Store, rewrites: int) -> None:
        synchronise = PayloadFile.synchronise
        PayloadFile.synchronise = _do_nothing  # type: ignore[assignment,method-assign]
        try:
            commit(self, rewrites)
        finally:
            PayloadFile.synchronise = synchronise  # type: ignore[method-assign]
        self._payloads.synchronise()

    Store._commit = late  # type: ignore[method-assign]


def failed_writing_is_forgotten() -> None:
    """Errors of writing payloads count as success."""
    write = PayloadFile.write

    def believe(self: PayloadFile, extent: int, side: int, position: int, data: Any) -> None:
        with suppress(DifffsError):
            write(self, extent, side, position, data)

    PayloadFile.write = believe  # type: ignore[method-assign]


def failed_synchronising_is_asked_again() -> None:
    """And its second answer is believed."""
    fdatasync = os.fdatasync

    def ask_again(descriptor: int) -> None:
        try:
            fdatasync(descriptor)
        except OSError:
            fdatasync(descriptor)

    os.fdatasync = ask_again  # type: ignore[assignment]


_ALL = (
    commits_are_forgotten,
    sides_are_punched_before_the_commit,
    payloads_follow_the_index,
    failed_writing_is_forgotten,
    failed_synchronising_is_asked_again,
)


def apply(name: str) -> None:
    """Breaks this process."""
    {each.__name__: each for each in _ALL}[name]()
