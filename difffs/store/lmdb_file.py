"""LMDB's file read without LMDB: every page is bounded and must be the one that was asked for.

LMDB trusts its file. A damaged page can hide all that comes behind it, or end the process; here it
costs only what is below it. Layout: `struct MDB_page`, `MDB_node`, `MDB_db` and `MDB_meta` of LMDB
0.9 on 64 bits, pages of 4,096 bytes.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from difffs.errors import CorruptStore
from difffs.store.failures import explained

PAGE_BYTES = 4096

_PAGE = Struct("<QHHHH")  # number, padding, kind, end of the node offsets, begin of the nodes
_OVERFLOW = Struct("<QHHI")  # number, padding, kind, pages
_BRANCH, _LEAF, _OVERFLOWS, _META = 1, 2, 4, 8
_NODE = Struct("<HHHH")  # data length or child (low, high), kind or child's highest, key length
_BIG, _DATABASE = 1, 2
_TREE = Struct("<4xHH4QQ")  # kind, depth, branches, leaves, overflows, entries, root
_TREE_BYTES = 48
_TREES_AT = 40
_LAST = Struct("<QQ")  # last page, transaction
_LAST_AT = _TREES_AT + 2 * _TREE_BYTES
_MAGIC = Struct("<II")
_META_MAGIC = (0xBEEFC0DE, 1)
_NO_PAGE = (1 << 64) - 1
_DEEPEST = 32

Tree = tuple[int, int]
"""(depth, root page)."""


class _DamagedPage(Exception):
    """A page that is not what it should be."""


class LmdbFile:
    """The trees of the last transaction of a `data.mdb`. O(pages of keys) to read, with memory for
    a page of each level."""

    def __init__(self, path: Path) -> None:
        """CorruptStore when the file is missing, is none of LMDB's, or has been cut so short that
        no transaction is left; MediumFailed when reading fails."""
        self.path = path
        self.damaged: list[str] = []
        """What could not be read, of each damaged page."""
        self.may_be_former = False
        """Whether a meta page is damaged: it may have been the last transaction's."""
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise CorruptStore(
                f"{path} is missing: nothing can be saved; restore the store from a copy"
            ) from None
        except OSError as error:
            raise explained(error, path, "opened") from None
        try:
            self._pages = os.fstat(self._file).st_size // PAGE_BYTES
            main = self._last_transaction()
            self._trees = dict(self._databases(main))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _last_transaction(self) -> Tree:
        """The main tree of the newer of the two meta pages. One that is damaged may have been that:
        the other's pages may have been used again since."""
        found: list[tuple[int, int, Tree]] = []
        for number in (0, 1):
            try:
                page = self._read(number, 1)
                if (
                    _PAGE.unpack_from(page)[2] != _META
                    or _MAGIC.unpack_from(page, 16) != _META_MAGIC
                ):
                    raise _DamagedPage(f"page {number} is no meta page")
            except _DamagedPage as error:
                self.damaged.append(str(error))
                self.may_be_former = True
                continue
            last, transaction = _LAST.unpack_from(page, _LAST_AT)
            found.append((transaction, last, _tree(page, _TREES_AT + _TREE_BYTES)))
        if not found:
            raise CorruptStore(
                f"{self.path} is no LMDB index, or its beginning is gone: nothing can be saved;"
                " restore the store from a copy"
            )
        _transaction, last, main = max(found)
        if last >= self._pages:
            self.damaged.append(f"the file has {self._pages} pages of {last + 1}: it has been cut")
        return main

    def _databases(self, main: Tree) -> Iterator[tuple[bytes, Tree]]:
        for key, value in self._nodes(main, _DATABASE):
            if len(value) == _TREE_BYTES:
                yield key, _tree(value, 0)

    def entries(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of a named database that can be read, in the order of their pages.

        What a damaged page hides is left out, and told in `damaged`.
        """
        tree = self._trees.get(name)
        if tree is None:
            self.damaged.append(f"there is no database {name.decode()!r}")
            return
        yield from self._nodes(tree, 0)

    def _read(self, number: int, pages: int) -> bytes:
        """Whole pages, the first of which says that it is this one."""
        if not 0 < pages <= self._pages or not 0 <= number <= self._pages - pages:
            raise _DamagedPage(f"page {number} is not in the file")
        try:
            data = os.pread(self._file, pages * PAGE_BYTES, number * PAGE_BYTES)
        except OSError as error:
            raise _DamagedPage(f"page {number} cannot be read ({error.strerror})") from None
        if len(data) < pages * PAGE_BYTES:
            raise _DamagedPage(f"page {number} is not in the file")
        if int.from_bytes(data[:8], "little") != number:
            raise _DamagedPage(f"page {number} says that it is another")
        return data

    def _nodes(self, tree: Tree, kind: int) -> Iterator[tuple[bytes, bytes]]:
        """The leaf nodes of a tree whose kind, but for _BIG, is `kind`."""
        depth, root = tree
        if root == _NO_PAGE:
            return
        if not 0 < depth <= _DEEPEST:
            self.damaged.append(f"a tree of depth {depth}")
            return
        # Each page once: one that is named twice could lead round and round.
        seen: set[int] = set()
        waiting = [(root, depth)]
        while waiting:
            number, level = waiting.pop()
            try:
                if number in seen:
                    raise _DamagedPage(f"page {number} is in the tree twice")
                seen.add(number)
                page = self._read(number, 1)
                offsets = _node_offsets(page, _LEAF if level == 1 else _BRANCH)
            except _DamagedPage as error:
                self.damaged.append(str(error))
                continue
            if level > 1:
                children = [_child(page, at) for at in offsets]
                waiting.extend((child, level - 1) for child in reversed(children))
                continue
            for at in offsets:
                try:
                    found = self._node(page, at, kind)
                except _DamagedPage as error:
                    self.damaged.append(str(error))
                    continue
                if found is not None:
                    yield found

    def _node(self, page: bytes, at: int, wanted: int) -> tuple[bytes, bytes] | None:
        low, high, kind, key_length = _NODE.unpack_from(page, at)
        length = low | high << 16
        data = at + _NODE.size + key_length
        stored = 8 if kind & _BIG else length
        if data + stored > PAGE_BYTES:
            raise _DamagedPage(f"a node of page {int.from_bytes(page[:8], 'little')} has no room")
        if kind & ~_BIG != wanted:
            return None
        key = page[at + _NODE.size : data]
        if not kind & _BIG:
            return key, page[data : data + length]
        return key, self._overflow(int.from_bytes(page[data : data + 8], "little"), length)

    def _overflow(self, number: int, length: int) -> bytes:
        pages = -(-(_PAGE.size + length) // PAGE_BYTES)
        data = self._read(number, pages)
        _number, _padding, kind, told = _OVERFLOW.unpack_from(data)
        if kind != _OVERFLOWS or told != pages:
            raise _DamagedPage(f"page {number} holds no value of {length} bytes")
        return data[_PAGE.size : _PAGE.size + length]


def _tree(data: bytes, at: int) -> Tree:
    _kind, depth, _branches, _leaves, _overflows, _entries, root = _TREE.unpack_from(data, at)
    return depth, root


def _node_offsets(page: bytes, wanted: int) -> list[int]:
    """Where a page's nodes begin, all of them with a head inside of the page."""
    number, _padding, kind, lower, upper = _PAGE.unpack_from(page)
    if kind != wanted or not _PAGE.size <= lower <= upper <= PAGE_BYTES or lower % 2:
        raise _DamagedPage(f"page {number} is none of keys")
    offsets = memoryview(page)[_PAGE.size : lower].cast("H").tolist()
    if any(not upper <= at <= PAGE_BYTES - _NODE.size for at in offsets):
        raise _DamagedPage(f"a node of page {number} lies outside of it")
    return offsets


def _child(page: bytes, at: int) -> int:
    low, high, highest, _key_length = _NODE.unpack_from(page, at)
    return int(low | high << 16 | highest << 32)
