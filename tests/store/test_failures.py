"""The table of error numbers, and that stores keep to it."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from difffs._kernels import EXTENT_SIDE_BYTES
from difffs.errors import (
    CorruptStore,
    DifffsError,
    MediumFailed,
    OutOfResources,
    PayloadDamaged,
    StoreFull,
    StoreReadOnly,
    TryAgain,
)
from difffs.store import Store, payloads
from difffs.store.failures import explained
from difffs.store.index_errors import error_number
from difffs.store.index_errors import explained as index_explained
from difffs.store.payloads import PayloadFile
from tests.pages import PAGE, guest_memory
from tests.stores import OpenStore, new_file, open_volumes


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EFBIG, StoreFull),
        (errno.ENOMEM, OutOfResources),
        (errno.EMFILE, OutOfResources),
        (errno.EROFS, StoreReadOnly),
        (errno.EACCES, StoreReadOnly),
        (errno.EIO, MediumFailed),
        (errno.ENXIO, MediumFailed),
    ],
)
def test_each_number_has_its_meaning(number: int, kind: type[DifffsError]) -> None:
    error = explained(OSError(number, os.strerror(number)), Path("/s/payloads"))
    assert type(error) is kind
    assert str(error).startswith("/s/payloads") or "/s/payloads" in str(error)
    assert "\n" not in str(error)
    assert isinstance(error, TryAgain) == (kind in (StoreFull, OutOfResources))


def test_lmdb_tells_numbers_by_its_texts(tmp_path: Path) -> None:
    """py-lmdb's errors have no number, only strerror's words."""
    assert error_number(lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.EIO)}")) == errno.EIO
    assert error_number(lmdb.DiskError("x")) == errno.ENOSPC
    kinds = {
        lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.EIO)}"): MediumFailed,
        lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.EFBIG)}"): StoreFull,
        lmdb.MapFullError("mdb_put: MDB_MAP_FULL"): StoreFull,
        lmdb.CorruptedError("mdb_get: MDB_CORRUPTED"): CorruptStore,
        lmdb.PanicError("mdb_txn_begin: MDB_PANIC"): MediumFailed,
    }
    for error, kind in kinds.items():
        assert type(index_explained(error, tmp_path)) is kind


def test_lmdbs_own_words_for_a_limit(tmp_path: Path) -> None:
    """The texts that error_number() knows are the real ones."""
    script = (
        "import lmdb, resource, sys\n"
        "from difffs.store.index_errors import error_number\n"
        "environment = lmdb.open(sys.argv[1], map_size=1 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "transaction = environment.begin(write=True)\n"
        "for i in range(100): transaction.put(b'%d' % i, b'x' * 3000)\n"
        "try: transaction.commit()\n"
        "except lmdb.Error as error: print(error_number(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == errno.EFBIG


def refuse(number: int) -> Callable[..., None]:
    """A system call that fails."""

    def call(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.expected_log("could not be given back")
def test_what_cannot_be_discarded_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy-on-write file system may lack the room to punch a hole: the commit has succeeded."""
    opened = OpenStore(tmp_path / "s", "identical-only")
    store = opened.store
    volume = opened.new_volume("a", 600)
    opened.write(volume, 0, guest_memory(1, 600))
    opened.engine.commit()
    full = store.occupancy().slack + store.occupancy().payload
    with monkeypatch.context() as patch:
        patch.setattr(payloads, "punch_hole", refuse(errno.ENOSPC))
        opened.remove(volume)
        opened.engine.commit()
        opened.engine.commit()
        assert store.occupancy().payload == 0
        assert store.occupancy().slack >= full - PAGE
    other = opened.new_volume("b", 300)
    opened.write(other, 0, guest_memory(2, 300))
    opened.engine.commit()
    assert opened.read(other, 0, 300) == guest_memory(2, 300)
    assert store.occupancy().slack < full // 4
    assert [str(finding) for finding in store.check()] == []
    opened.close()


@pytest.mark.expected_log("could not be given back")
def test_what_was_never_discarded_is_swept_up_at_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = OpenStore(tmp_path / "s", "identical-only")
    volume = opened.new_volume("a", 600)
    opened.write(volume, 0, guest_memory(1, 600))
    opened.engine.commit()
    with monkeypatch.context() as patch:
        patch.setattr(payloads, "punch_hole", refuse(errno.ENOSPC))
        opened.remove(volume)
        opened.close()
    with Store.open(tmp_path / "s") as store:
        assert store.occupancy().slack < 64 << 10
        assert store.check() == []


@pytest.mark.expected_log("writing has stopped|the routing thread ends")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_fdatasync_is_never_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Its second answer would be believed: the kernel has marked the pages clean."""
    before, after = guest_memory(1, 300), guest_memory(2, 300)

    def write_and_fail() -> None:
        with open_volumes(tmp_path / "s") as volumes:
            inode = new_file(volumes)
            volumes.write(inode, 0, before)
            volumes.flush()
            volumes.write(inode, 0, after)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", refuse(number))
                with pytest.raises(MediumFailed):
                    volumes.flush()
            with pytest.raises(MediumFailed):  # though fdatasync would succeed now
                volumes.flush()
            with pytest.raises(MediumFailed):
                volumes.write(inode, 0, after)

    with pytest.raises(MediumFailed):  # of the end
        write_and_fail()
    with Store.open(tmp_path / "s") as store:
        assert store.check() == []
        out = bytearray(len(before))
        store.read_pages(store.namespace.lookup("/a").number, 0, 300, out)
        assert out == before


def test_a_file_systems_longest_file_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("a", 100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse(errno.EFBIG))
        with pytest.raises(StoreFull, match="File too large"):
            opened.write(volume, 0, guest_memory(1, 100))
    opened.write(volume, 0, guest_memory(1, 100))
    assert opened.read(volume, 0, 100) == guest_memory(1, 100)
    opened.close()


def run_limited(path: Path, *limits: str) -> subprocess.CompletedProcess[str]:
    """`difffs stats` with limits of the shell."""
    command = f"{'; '.join(limits)}; exec {sys.executable} -m difffs stats {path}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


def test_a_good_store_is_not_called_damaged_for_want_of_something(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    opened.write(opened.new_volume("a", 100), 0, guest_memory(1, 100))
    opened.engine.commit()
    opened.close()
    assert run_limited(tmp_path / "s", "ulimit -v 3000000").returncode == 0
    # Python itself has started; each of these runs out of descriptors somewhere else.
    script = (
        "import resource, sys\n"
        "from difffs.errors import OutOfResources\n"
        "from difffs.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "try: Store.open(sys.argv[1], read_only=sys.argv[3] == 'ro').abandon()\n"
        "except OutOfResources as error: print(error)\n"
        "else: print('opened')\n"
    )
    for mode in ("ro", "rw"):
        said = set()
        for descriptors in range(3, 14):
            command = [sys.executable, "-c", script, str(tmp_path / "s"), str(descriptors), mode]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said.add("opened" if done.stdout == "opened\n" else done.stdout.split(";")[-1])
        assert said == {"opened", " raise the limit of open files (ulimit -n)\n"}


def test_address_space_is_asked_for_as_far_as_there_is_any(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    opened.write(opened.new_volume("a", 100), 0, guest_memory(1, 100))
    opened.engine.commit()
    opened.close()
    script = (
        "import resource, sys\n"
        "from difffs.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "with Store.open(sys.argv[1]) as store: print(store.check())\n"
    )

    def opened_for_writing(limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "s"), str(limit)],
            capture_output=True,
            text=True,
            check=False,
        )

    assert opened_for_writing(3 << 30).stdout == "[]\n"
    assert "OutOfResources" in opened_for_writing(280 << 20).stderr


def test_a_damaged_index_page_is_one_line(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    opened.write(opened.new_volume("a", 3000), 0, guest_memory(1, 3000))
    opened.engine.commit()
    opened.close()
    path = tmp_path / "s" / "index-2" / "data.mdb"
    original = path.read_bytes()
    damaged = 0
    for page in range(2, len(original) // PAGE):
        flags = int.from_bytes(original[page * PAGE + 10 : page * PAGE + 12], "little")
        if flags != 2:  # the leaf of a table: LMDB itself notices when it is of no known kind
            continue
        content = bytearray(original)
        content[page * PAGE + 10 : page * PAGE + 12] = b"\x40\x00"
        path.write_bytes(content)
        done = run_limited(tmp_path / "s", ":")
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 6:
            damaged += 1
            assert done.stderr.count("\n") == 1
            assert "data.mdb" in done.stderr or "index" in done.stderr
    assert damaged


def test_a_payload_file_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "payloads"
    PayloadFile(path, read_only=False, create=True).close()
    monkeypatch.setattr(os, "open", refuse(errno.EMFILE))
    with pytest.raises(OutOfResources, match="ulimit -n"):
        PayloadFile(path, read_only=True)


def test_a_payload_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an extent is rewritten, which is not a read that somebody waits for."""
    file = PayloadFile(tmp_path / "payloads", read_only=False, create=True)
    file.write(1, 0, 0, b"x" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse(errno.EIO))
        with pytest.raises(PayloadDamaged, match="extent 1 cannot be read"):
            file.read(1, 0, 100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse(errno.ENOMEM))
        with pytest.raises(OutOfResources):
            file.read(1, 0, 100)
    assert file.read(1, 0, 100) == b"x" * 100
    file.close()


def _unreadable(extent: int) -> Callable[[int, int, int], bytes]:
    """os.pread on a medium that has lost an extent."""
    read = os.pread

    def pread(file: int, length: int, at: int) -> bytes:
        if at // (2 * EXTENT_SIDE_BYTES) == extent:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file, length, at)

    return pread


@pytest.mark.expected_log("extent 1 cannot be read .* left as it is")
@pytest.mark.parametrize("packing", [False, True])
def test_an_extent_that_cannot_be_read_is_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    packing: bool,
) -> None:
    """By reclaiming, and by packing new payloads; writing goes on, and other extents are rewritten
    as they would be."""
    pages = {number: guest_memory(number, 1) for number in range(2000)}
    with OpenStore(tmp_path / "s", "identical-only") as opened:
        volume = opened.new_volume("a", 2000)
        opened.write(volume, 0, b"".join(pages.values()))
        opened.engine.commit()
        ids = opened.store.lookup(volume, 0, 2000)
        monkeypatch.setattr(os, "pread", _unreadable(1))
        kept = [page for page in pages if page % 4 and page % 250]
        for page in pages.keys() - set(kept):
            opened.store.make_hole(volume, page, page + 1)
        if packing:
            opened.store.settle()
            more = guest_memory(5, 60)
            opened.write(opened.new_volume("b", 60), 0, more)
        for _ in range(3):
            opened.engine.commit()
        now = opened.store.lookup(volume, 0, 2000)
        assert any(now[page] >> 8 == 1 for page in kept)
        told = [each for each in caplog.records if "left as it is" in each.getMessage()]
        assert len(told) == 1
        occupancy = opened.store.occupancy()
        in_lost_one = sum(i >> 8 == 1 for i in ids) * PAGE
        assert occupancy.slack < in_lost_one + occupancy.payload // 10
        for page in kept:
            assert opened.read(volume, page) == pages[page]
        assert not opened.store.reclaimable
        found = opened.store.check()  # and tells of each that it cannot read
        assert {each.kind for each in found} == {"payload"}
        assert len(found) == len({i for i in now if i >> 8 == 1})
        monkeypatch.undo()
    with OpenStore(tmp_path / "s") as opened:  # what could not be read may be a cable
        for page in kept:
            assert opened.read(volume, page) == pages[page]
        opened.engine.commit()
        assert opened.store.occupancy().slack < opened.store.occupancy().payload // 10
        opened.assert_clean()


@pytest.mark.expected_log("writing has stopped")
def test_what_stops_writing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def write_and_fail() -> None:
        with open_volumes(tmp_path / "s") as volumes:
            volumes.write(new_file(volumes), 0, guest_memory(1, 20))
            monkeypatch.setattr(os, "fdatasync", refuse(errno.EIO))
            volumes.flush()

    with pytest.raises(MediumFailed):
        write_and_fail()
    told = [record for record in caplog.records if record.name.startswith("difffs")]
    assert len(told) == 1
    assert told[0].exc_info is None
    assert str(tmp_path / "s" / "payloads") in told[0].getMessage()
