"""A damaged store, opened and read: everything is right or an error, and check() finds why."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from difffs.errors import DifffsError
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store.repairing import repair_store
from tests.endurance.damage.aged_store import AgedStore
from tests.pages import guest_memory
from tests.stores import OpenStore

Contents = dict[str, bytes]


class Wrong(Exception):
    """Something was read that is not what was last written."""


def judge(folder: Path, aged: AgedStore, random: Random) -> str:
    """What came of it: `right`, `found`, or `unread` where the store cannot be opened. Wrong, or
    any error that is none of difffs's own, is a failure."""
    contents = aged.contents
    outcome = _judge_reading(folder, contents)
    turn = random.random()
    if turn < 0.25:
        _judge_repair(folder, contents, aged.pasts)
    elif turn < 0.5:
        _judge_writing(folder, contents, random)
    return outcome


def _judge_reading(folder: Path, contents: Contents) -> str:
    try:
        with Store.open(folder, read_only=True) as store:
            errors = list(_errors(store, contents))
            found = store.check()
            kinds = {each.kind for each in found}
            if errors and not kinds - {"digest"}:
                raise Wrong(f"check() finds nothing, and yet: {errors[0]}")
            return "found" if found else "right"
    except DifffsError:
        return "unread"


def _errors(store: Store, contents: Contents, other: Contents | None = None) -> Iterator[str]:
    """What cannot be read; Wrong when something reads as what it never was. `other`: what it may
    be as well."""
    namespace = store.namespace
    found = {namespace.path(each.number): each for each in namespace if each.is_volume}
    for path in found.keys() - contents.keys():
        if not path.startswith(("(lost", "(deleted", "/lost+found/")):
            raise Wrong(f"{path} is there, which is no name")
    for path, expected in contents.items():
        inode = found.get(path)
        if inode is None:
            yield f"{path} is gone"
            continue
        if inode.size != len(expected):
            raise Wrong(f"{path} has {inode.size} bytes, not {len(expected)}")
        right = [expected] if other is None else [expected, other[path]]
        yield from _errors_of(store, inode.number, path, right)


def _errors_of(store: Store, volume: int, path: str, right: list[bytes]) -> Iterator[str]:
    pages = len(right[0]) // PAGE_SIZE
    try:  # as export does
        at = 0
        while (first := store.next_data(volume, at, pages)) is not None:
            _require_zeros(path, right, at, first)
            at = store.next_hole(volume, first, pages)
        _require_zeros(path, right, at, pages)
    except DifffsError as error:
        yield f"{path}: {error}"
    yield from _read(store, volume, path, right, 0, pages)


def _require_zeros(path: str, right: list[bytes], first: int, end: int) -> None:
    for page in range(first, end):
        if all(any(_page(each, page)) for each in right):
            raise Wrong(f"page {page} of {path} is a hole")


def _page(content: bytes | bytearray, page: int) -> bytes:
    return bytes(content[page * PAGE_SIZE : (page + 1) * PAGE_SIZE])


def _read(
    store: Store, volume: int, path: str, right: list[bytes], first: int, count: int
) -> Iterator[str]:
    out = bytearray(count * PAGE_SIZE)
    try:
        store.read_pages(volume, first, count, out)
    except DifffsError as error:
        if count == 1:
            yield f"page {first} of {path}: {error}"
            return
        half = count // 2
        yield from _read(store, volume, path, right, first, half)
        yield from _read(store, volume, path, right, first + half, count - half)
        return
    for page in range(count):
        if all(_page(out, page) != _page(each, first + page) for each in right):
            raise Wrong(f"page {first + page} of {path} is another")


def _judge_repair(folder: Path, contents: Contents, pasts: list[Contents]) -> None:
    """What is saved is right; all else is named, and an error. Only where the repair says that it
    is not proven, something may be of an earlier time."""
    try:
        done = repair_store(folder, folder.with_name("repaired"))
    except DifffsError:
        return
    with Store.open(done.store, read_only=True) as store:
        kinds = {each.kind for each in store.check()}
        if kinds - {"lost"}:
            raise Wrong(f"a repaired store with findings: {kinds}")
        for inode in store.namespace:
            path = store.namespace.path(inode.number)
            if not inode.is_volume or path not in contents:
                continue
            lost = next((each for each in done.repair.lost if each.name == path), None)
            runs = lost.runs if lost else []
            named = {page for first, count in runs for page in range(first, first + count)}
            pages = len(contents[path]) // PAGE_SIZE
            if inode.size != len(contents[path]):
                raise Wrong(f"{path} has {inode.size} bytes once repaired")
            right = [contents[path]]
            if not done.repair.is_proven:
                right += [past[path] for past in pasts if path in past]
            errors = list(_read(store, inode.number, path, right, 0, pages))
            if len(errors) != len(named):
                raise Wrong(f"{path}: {len(errors)} errors, {len(named)} pages named as lost")
        saved = {store.namespace.path(each.number) for each in store.namespace}
        if contents.keys() - saved and not (done.repair.has_lost or done.repair.moved):
            raise Wrong(f"{contents.keys() - saved} gone, and not named")


def _judge_writing(folder: Path, contents: Contents, random: Random) -> None:
    """Opened for writing, and written: what is read afterwards is what was there or is new."""
    new = dict(contents)
    try:
        opened = OpenStore(folder)
    except DifffsError:
        return
    try:
        for path in contents:
            if not opened.store.namespace.exists(path):
                continue
            pages = random.randrange(1, 30)
            first = random.randrange(len(contents[path]) // PAGE_SIZE - pages)
            data = guest_memory(random.randrange(20), pages)
            volume = opened.store.namespace.lookup(path).number
            whole = bytearray(new[path])
            whole[first * PAGE_SIZE : (first + pages) * PAGE_SIZE] = data
            new[path] = bytes(whole)
            opened.write(volume, first, data)
            if random.random() < 0.5:
                opened.store.commit()
        opened.close()
    except DifffsError:
        opened.abandon()
        last = contents
    else:
        last = new
    try:
        with Store.open(folder, read_only=True) as store:
            for _error in _errors(store, new, None if last is new else contents):
                pass
    except DifffsError:
        pass
