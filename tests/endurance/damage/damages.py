"""Kinds of damage to a store's files, each of a random source alone: it can be repeated."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.endurance.damage.aged_store import AgedStore

BLOCK = 4096
_WEIGHTS = {
    "index-2/data.mdb": 50,
    "payloads": 30,
    "digests": 8,
    "sketches": 5,
    "format": 4,
    "lock": 3,
}

Change = Callable[["_Damage", Path], str]


def damage(random: Random, folder: Path, aged: AgedStore) -> str:
    """Damages the files in one to three ways; tells how, in a line.

    The index does not go back in time as a whole along with `digests`, which tells of its last
    commit: that is a whole store of an earlier time, as a copy that somebody has put back.
    """
    how = _Damage(random, folder, aged)
    return "; ".join(how.once() for _ in range(random.choice((1, 1, 1, 1, 2, 3))))


class _Damage:
    def __init__(self, random: Random, folder: Path, aged: AgedStore) -> None:
        self._random = random
        self._folder = folder
        self._aged = aged
        self._index_went_back = self._digests_changed = False

    def once(self) -> str:
        names = list(_WEIGHTS)
        name = self._random.choices(names, [_WEIGHTS[each] for each in names])[0]
        change = self._random.choices(list(_CHANGES), list(_CHANGES.values()))[0]
        path = self._folder / name
        if not path.exists():
            return f"{name}: is missing already"
        if name == "index-2/data.mdb" and change is _Damage._earlier_file:
            if self._digests_changed:
                change = _Damage._flip_bits
            self._index_went_back = True
        if name == "digests":
            if self._index_went_back:
                return "digests: left alone"
            self._digests_changed = True
        return f"{name}: {change(self, path)}"

    def _blocks(self, path: Path) -> int:
        """A block of the file that is no hole, if possible."""
        size = path.stat().st_size
        if not size:
            return 0
        with path.open("rb") as file:
            try:
                start = os.lseek(file.fileno(), self._random.randrange(size), os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            except OSError:
                start, end = 0, size
        return self._random.randrange(start, max(end, start + 1)) // BLOCK

    def _read(self, path: Path, block: int, count: int = 1) -> bytes:
        with path.open("rb") as file:
            return os.pread(file.fileno(), count * BLOCK, block * BLOCK)

    def _write(self, path: Path, block: int, data: bytes) -> None:
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), data, block * BLOCK)

    def _flip_bits(self, path: Path) -> str:
        told = []
        block = self._blocks(path)
        data = bytearray(self._read(path, block))
        for _ in range(self._random.choice((1, 1, 2, 8)) if data else 0):
            at, bit = self._random.randrange(len(data)), self._random.randrange(8)
            if self._random.random() < 0.3:
                at = self._random.randrange(min(len(data), 64))  # heads of pages and files
            data[at] ^= 1 << bit
            told.append(f"{block * BLOCK + at}.{bit}")
        self._write(path, block, bytes(data))
        return f"bits {' '.join(told)} flipped"

    def _zero(self, path: Path) -> str:
        block, count = self._blocks(path), self._random.choice((1, 1, 4))
        size = len(self._read(path, block, count))
        self._write(path, block, bytes(size))
        return f"{count} blocks from {block} zeroed"

    def _noise(self, path: Path) -> str:
        block = self._blocks(path)
        self._write(path, block, self._random.randbytes(len(self._read(path, block))))
        return f"block {block} became noise"

    def _other_file(self) -> Path:
        names = [
            each for each in ("index-2/data.mdb", "payloads") if (self._folder / each).exists()
        ]
        return self._folder / self._random.choice(names or ["format"])

    def _exchange(self, path: Path) -> str:
        other = path if self._random.random() < 0.8 else self._other_file()
        if not other.exists():
            other = path
        one, two = self._blocks(path), self._blocks(other)
        mine, its = self._read(path, one), self._read(other, two)
        self._write(path, one, its)
        self._write(other, two, mine)
        return f"block {one} and block {two} of {other.name} exchanged"

    def _repeat(self, path: Path) -> str:
        one, two = self._blocks(path), self._blocks(path)
        self._write(path, two, self._read(path, one))
        return f"block {one} repeated at {two}"

    def _earlier(self, path: Path) -> tuple[int, bytes]:
        age = self._random.randrange(len(self._aged.before))
        return age, self._aged.before[age][str(path.relative_to(self._folder))]

    def _stale(self, path: Path) -> str:
        """Blocks as they were, a few in a row or here and there."""
        age, data = self._earlier(path)
        count = self._random.choice((1, 1, 1, 2, 8))
        in_a_row = self._random.random() < 0.5
        block = self._blocks(path)
        for more in range(count):
            at = block + more if in_a_row else self._blocks(path)
            self._write(path, at, data[at * BLOCK : (at + 1) * BLOCK])
        return f"{count} blocks from {block} ({in_a_row}) as after {age}"

    def _earlier_file(self, path: Path) -> str:
        age, data = self._earlier(path)
        path.write_bytes(data)
        return f"as after {age}"

    def _cut(self, path: Path) -> str:
        size = self._random.randrange(path.stat().st_size + 1)
        if self._random.random() < 0.5:
            size = size // BLOCK * BLOCK
        os.truncate(path, size)
        return f"cut to {size}"

    def _append(self, path: Path) -> str:
        size = self._random.choice((1, 64, BLOCK, 3 * BLOCK + 5))
        with path.open("ab") as file:
            file.write(self._random.randbytes(size) if self._random.random() < 0.5 else bytes(size))
        return f"{size} bytes appended"

    def _remove(self, path: Path) -> str:
        path.unlink()
        return "removed"


_CHANGES: dict[Change, int] = {
    _Damage._flip_bits: 25,
    _Damage._zero: 12,
    _Damage._noise: 6,
    _Damage._exchange: 12,
    _Damage._repeat: 8,
    _Damage._stale: 20,
    _Damage._earlier_file: 6,
    _Damage._cut: 6,
    _Damage._append: 2,
    _Damage._remove: 3,
}
