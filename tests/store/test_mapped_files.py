"""Files that are written through memory own their blocks: a full disk is an error, not a SIGBUS."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from difffs.errors import CorruptStore, StoreFull
from difffs.linux import mappings_of
from difffs.store import Store
from tests.integration.small_disks import NotHere
from tests.integration.small_disks import small_disk as small_file_system
from tests.pages import guest_memory
from tests.stores import OpenStore, small_disk

OPENS = """
import sys
from difffs.errors import StoreFull
from difffs.store import Store
try:
    with Store.open_or_create(sys.argv[1]) as store:
        print("opened")
except StoreFull:
    print("full")
"""


def take_every_block(folder: Path) -> None:
    """Fills the file system to the last block."""
    file = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT, 0o600)
    for size in (1 << 20, 4096):
        with contextlib.suppress(OSError):
            while True:
                os.write(file, bytes(size))
    os.close(file)
    assert os.statvfs(folder).f_bavail == 0


def opens(path: Path) -> str:
    """Whether a process of its own can open the store, or finds no room; never a signal."""
    done = subprocess.run(
        [sys.executable, "-c", OPENS, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    return done.stdout.strip()


CUT = """
import os, sys
from difffs.errors import DifffsError
from tests.pages import guest_memory
from tests.stores import OpenStore
opened = OpenStore(sys.argv[1])
os.truncate(sys.argv[2], int(sys.argv[3]))
out, volume = bytearray(4096), opened.store.namespace.lookup("/a").number
right, failed = guest_memory(1, 1200), 0
for page in range(1200):
    try:
        opened.store.read_pages(volume, page, 1, out)
        assert out == right[4096 * page : 4096 * page + 4096]
    except DifffsError:
        failed += 1
try:
    opened.write(volume, 0, guest_memory(2, 40))
    opened.close()
    print("written", failed)
except DifffsError as error:
    opened.abandon()
    print("refused", failed, error)
"""


@pytest.mark.parametrize("name", ["digests", "sketches", "index-2/data.mdb"])
def test_a_mapped_file_that_is_cut_while_it_is_open(tmp_path: Path, name: str) -> None:
    """Right or an error, and no end by SIGBUS. A hint table is made anew; with a part of its index
    gone a store commits nothing more."""
    store = tmp_path / "s"
    with OpenStore(store) as opened:
        opened.write(opened.new_volume("a", 1200), 0, guest_memory(1, 1200))
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(store), str(store / name), "4096"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done
    if name == "index-2/data.mdb":
        assert done.stdout.startswith("refused"), done
        with pytest.raises(CorruptStore):
            Store.open(store)
    else:
        assert done.stdout.startswith("written 0"), done
        with Store.open(store) as opened_again:
            assert opened_again.check() == []


@pytest.mark.integration
@pytest.mark.parametrize("name", ["digests", "index-2/data.mdb"])
def test_mappings_are_found_where_they_have_another_device(name: str) -> None:
    """On btrfs the kernel names another for a mapping than fstat for the file."""
    try:
        with small_file_system("btrfs") as disk:
            store = disk.path / "s"
            with OpenStore(store) as opened:
                opened.write(opened.new_volume("a"), 0, guest_memory(1, 300))
                file = os.open(store / name, os.O_RDONLY)
                try:
                    found = mappings_of(file)
                    assert len(found) == 1
                    assert found[0][1] >= os.fstat(file).st_size
                finally:
                    os.close(file)
    except NotHere as reason:
        pytest.skip(str(reason))


def test_a_copy_with_holes_on_a_full_disk(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    opened.write(opened.new_volume("a", 3000), 0, guest_memory(1, 3000))
    opened.engine.commit()
    opened.close()
    with small_disk(tmp_path / "disk", 32 << 20) as folder:
        copy = folder / "s"
        subprocess.run(["cp", "-a", "--sparse=always", tmp_path / "s", copy], check=True)
        take_every_block(folder)
        assert opens(copy) in ("opened", "full")
        (folder / "ballast").unlink()
        with Store.open(copy) as store:
            assert store.check() == []
            assert store.page_counts()["total"] == 3000


def test_a_new_store_without_a_free_block(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as folder:
        take_every_block(folder)
        assert opens(folder / "s") == "full"
        (folder / "ballast").unlink()
        assert opens(folder / "s") == "opened", "nothing in the way was left"


def test_holes_in_every_mapped_file_are_filled_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store.create(path).close()
    for name in ("digests", "sketches"):
        content = (path / name).read_bytes()
        with (path / name).open("wb") as file:
            file.truncate(len(content))
            file.write(content[:8])
    with Store.open(path):
        for name in ("digests", "sketches"):
            status = (path / name).stat()
            assert status.st_blocks * 512 >= status.st_size > 0, name


@pytest.mark.parametrize("name", ["digests", "sketches"])
def test_a_table_that_is_not_there_needs_room(tmp_path: Path, name: str) -> None:
    Store.create(tmp_path / "s").close()
    with small_disk(tmp_path / "disk", 1 << 20) as folder:
        shutil.copytree(tmp_path / "s" / "index-2", folder / "s" / "index-2")
        shutil.copy(tmp_path / "s" / "format", folder / "s" / "format")
        (folder / "s" / "payloads").touch()
        take_every_block(folder)
        (folder / "s" / name).unlink(missing_ok=True)
        with pytest.raises(StoreFull):
            Store.open(folder / "s").close()
