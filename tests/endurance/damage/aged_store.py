"""A small store with a past: its files as they were after each of several closings."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from difffs.page import PAGE_SIZE
from tests.pages import compressible_page, guest_memory, same_filled_page, similar_page
from tests.stores import OpenStore

AGES = 5
FILES = ("format", "payloads", "index-2/data.mdb", "digests", "sketches", "lock")
_PAGES = 320
"""Of each volume."""


@dataclass(slots=True)
class AgedStore:
    """The files by name, now and before, and what the store holds."""

    now: dict[str, bytes] = field(default_factory=dict)
    before: list[dict[str, bytes]] = field(default_factory=list)
    """Oldest first."""
    contents: dict[str, bytes] = field(default_factory=dict)
    """By path of each volume."""
    pasts: list[dict[str, bytes]] = field(default_factory=list)
    """The contents of earlier times."""

    def put(self, folder: Path) -> None:
        """Makes the store in a folder; its payload file has holes where it had them."""
        (folder / "index-2").mkdir(parents=True)
        for name, data in self.now.items():
            write_sparse(folder / name, data)


def write_sparse(path: Path, data: bytes) -> None:
    """A file with these bytes, and holes for its blocks of zeros."""
    zeros = bytes(PAGE_SIZE)
    with path.open("wb") as file:
        for at in range(0, len(data), PAGE_SIZE):
            block = data[at : at + PAGE_SIZE]
            if block != zeros[: len(block)]:
                os.pwrite(file.fileno(), block, at)
        file.truncate(len(data))


def make(folder: Path, seed: int) -> AgedStore:
    """Writes, overwrites, punches, renames and removes, and closes the store after each step."""
    random, aged = Random(seed), AgedStore()
    for age in range(AGES):
        with OpenStore(folder) as opened:
            _step(opened, aged.contents, age, random)
        files = {name: (folder / name).read_bytes() for name in FILES}
        aged.before.append(files)
        aged.pasts.append(dict(aged.contents))
    aged.now = aged.before.pop()
    return aged


def _step(opened: OpenStore, contents: dict[str, bytes], age: int, random: Random) -> None:
    namespace = opened.store.namespace
    if age == 0:
        namespace.mkdir("/guests")
    for path in ("/guests/a.mem", f"/b{age}.mem"):
        if not namespace.exists(path):
            contents[path] = bytes(_PAGES * PAGE_SIZE)
            opened.new_volume(path[1:], _PAGES)
        for _ in range(3):
            _write(opened, contents, path, random)
    if age > 1:
        gone = "/b0.mem" if age == 2 else f"/guests/old{age - 1}.mem"
        opened.remove(namespace.lookup(gone).number)
        del contents[gone]
        namespace.rename(f"/b{age - 1}.mem", f"/guests/old{age}.mem")
        contents[f"/guests/old{age}.mem"] = contents.pop(f"/b{age - 1}.mem")


def _write(opened: OpenStore, contents: dict[str, bytes], path: str, random: Random) -> None:
    pages = random.randrange(1, 60)
    first = random.randrange(_PAGES - pages)
    kind = random.randrange(4)
    if kind == 0:
        data = b"".join(same_filled_page(random) for _ in range(pages))
    elif kind == 1:
        base = compressible_page(random)
        data = b"".join(similar_page(base, random, 2) for _ in range(pages))
    else:
        data = guest_memory(random.randrange(8), pages)
    volume = opened.store.namespace.lookup(path).number
    opened.write(volume, first, data)
    whole = bytearray(contents[path])
    whole[first * PAGE_SIZE : (first + pages) * PAGE_SIZE] = data
    hole = random.randrange(_PAGES - 9)
    opened.store.fill(volume, hole, 9, 0)
    whole[hole * PAGE_SIZE : (hole + 9) * PAGE_SIZE] = bytes(9 * PAGE_SIZE)
    contents[path] = bytes(whole)
