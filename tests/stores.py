"""A store with its engine in a scratch directory, for tests."""

import os
import subprocess
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pytest

from difffs.engine import Engine
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.volume import Volumes


def memory_folder() -> str | None:
    """Where a scratch directory costs no disk writes; None where there is no such place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory, gone afterwards; in memory where possible."""
    with tempfile.TemporaryDirectory(prefix="difffs-test-", dir=memory_folder()) as name:
        yield Path(name)


class OpenStore:
    """A store and its engine, opened together; abandoned when a test fails."""

    def __init__(
        self, path: Path, recipe: str | None = None, *, workers: int = 1, domains: bool = False
    ) -> None:
        """Make the store where there is none."""
        self.path = path
        self._workers = workers
        self.store = Store.open_or_create(path, recipe, domains=domains)
        self.engine = Engine(self.store, workers)

    def new_volume(self, name: str, pages: int = 0) -> int:
        """An empty volume with room for that many pages; its number. Its directory is made."""
        names = self.store.namespace
        directory = name.rpartition("/")[0]
        if directory and not names.exists(f"/{directory}"):
            names.mkdir(f"/{directory}")
        inode = names.create(f"/{name}")
        inode.size = pages * PAGE_SIZE
        return inode.number

    def write(self, volume: int, first: int, pages: bytes) -> None:
        """Consecutive whole pages."""
        count = len(pages) // PAGE_SIZE
        inode = self.store.namespace.get(volume)
        end = (first + count) * PAGE_SIZE
        self.store.namespace.set_size(inode, max(inode.size, end))
        self.engine.write(volume, range(first, first + count), pages)

    def read(self, volume: int, first: int = 0, count: int = 1) -> bytes:
        """Whole pages."""
        out = bytearray(count * PAGE_SIZE)
        self.engine.read(volume, first, count, out)
        return bytes(out)

    def remove(self, volume: int) -> None:
        """Unlink a volume and free its pages."""
        namespace = self.store.namespace
        namespace.unlink(namespace.path(volume))
        self.store.remove(volume)
        while self.store.remove_some():
            pass

    def object_of(self, volume: int, page: int = 0) -> int:
        """The id of the object that a page is."""
        ids: array[int] = self.store.lookup(volume, page, 1)
        return ids[0]

    def reopen(self, recipe: str | None = None, *, change_recipe: bool = False) -> None:
        """Close properly and open again."""
        self.close()
        self._open(recipe, change_recipe=change_recipe)

    def crash(self) -> None:
        """Forget what was not committed, and open again."""
        self.abandon()
        self._open(None, change_recipe=False)

    def _open(self, recipe: str | None, *, change_recipe: bool) -> None:
        self.store = Store.open(self.path, recipe, change_recipe=change_recipe)
        self.engine = Engine(self.store, self._workers)

    def assert_clean(self) -> None:
        """check() commits and finds nothing."""
        assert [str(finding) for finding in self.store.check()] == []

    def close(self) -> None:
        """Close properly."""
        self.engine.close()
        self.store.close()

    def abandon(self) -> None:
        """Close without a commit."""
        self.engine.close()
        self.store.abandon()

    def __enter__(self) -> "OpenStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


@contextmanager
def open_volumes(
    path: Path,
    recipe: str | None = None,
    buffer_bytes: int = 8 << 20,
    quiet_seconds: float = 0.2,
    *,
    domains: bool = False,
) -> Iterator[Volumes]:
    """Volumes over the store at path, made where there is none; closed and checked at the end."""
    with Store.open_or_create(path, recipe, domains=domains) as store, Engine(store) as engine:
        volumes = Volumes(engine, buffer_bytes, quiet_seconds)
        try:
            yield volumes
        finally:
            volumes.close()
        assert [str(finding) for finding in store.check()] == []


def new_file(volumes: Volumes, name: str = "a") -> int:
    """An empty volume; its number."""
    with volumes.lock:
        return volumes.namespace.create(f"/{name}").number


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("not root: no file system of its own can be mounted")
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "difffs-test", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
