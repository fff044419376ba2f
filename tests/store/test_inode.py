"""What callers hand in fits into a record from the start: nothing of it fails in a commit."""

import errno
import stat
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.page import MAXIMUM_VOLUME_SIZE
from difffs.store.inode import TIME_MAXIMUM, TIME_MINIMUM, Inode, fitting_time
from difffs.store.namespace import Namespace

ANY = st.integers(-(1 << 70), 1 << 70)


def packed(namespace: Namespace) -> dict[int, Inode]:
    """What a commit would write, read again."""
    return {
        number: Inode.unpack(record)
        for number, record in namespace.take_dirty()
        if record is not None
    }


@given(ANY, ANY, ANY, ANY, ANY, ANY)
def test_whatever_is_set_can_be_packed(
    uid: int, gid: int, mode: int, accessed: int, modified: int, size: int
) -> None:
    namespace = Namespace()
    inode = namespace.create("/a")
    changes: list[Callable[[], object]] = [
        lambda: namespace.set_owner(inode, uid, gid),
        lambda: namespace.set_mode(inode, abs(mode)),
        lambda: namespace.set_times(inode, accessed, modified),
        lambda: namespace.set_size(inode, abs(size)),
        lambda: namespace.create("/b", abs(mode), uid, gid),
        lambda: namespace.mkdir("/c", abs(mode), uid, gid),
        lambda: namespace.symlink("/d", "a", uid, gid),
        lambda: namespace.create_orphan(abs(mode), uid, gid),
    ]
    for change in changes:
        try:
            change()
        except OSError as error:
            assert error.errno in (errno.EINVAL, errno.EFBIG)  # noqa: PT017
        packed(namespace)
    assert stat.S_ISREG(inode.mode)
    assert inode.size <= MAXIMUM_VOLUME_SIZE


@given(ANY)
def test_a_time_becomes_the_nearest_that_fits(time: int) -> None:
    namespace = Namespace()
    inode = namespace.create("/a")
    namespace.set_times(inode, None, time)
    (found,) = (one for one in packed(namespace).values() if one.number == inode.number)
    assert found.mtime_ns == min(max(time, TIME_MINIMUM), TIME_MAXIMUM) == fitting_time(time)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a" * 256, errno.ENAMETOOLONG),
        ("ä" * 128, errno.ENAMETOOLONG),
        ("a\0b", errno.EINVAL),
        ("\ud800", errno.EINVAL),
    ],
)
def test_names_that_no_record_holds(name: str, number: int) -> None:
    namespace = Namespace()
    namespace.create("/a")
    attempts: list[Callable[[], object]] = [
        lambda: namespace.create(f"/{name}"),
        lambda: namespace.rename("/a", f"/{name}"),
        lambda: namespace.lookup(f"/{name}"),
        lambda: namespace.unlink(f"/{name}"),
        lambda: namespace.rmdir(f"/{name}"),
        lambda: namespace.lookup(f"/{name}/b"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match=r"long|Invalid") as caught:
            attempt()
        assert caught.value.errno == number


def test_an_orphan_gets_its_name_later() -> None:
    namespace = Namespace()
    inode = namespace.create_orphan(0o600, 1, 2)
    assert [orphan.number for orphan in namespace.orphans()] == [inode.number]
    assert namespace.check() == []
    again = Namespace((n, record) for n, record in namespace.take_dirty() if record is not None)
    assert [orphan.number for orphan in again.orphans()] == [inode.number]
    assert again.check() == []
    namespace.mkdir("/d")
    namespace.create("/taken")
    with pytest.raises(FileExistsError):
        namespace.link(inode.number, "/taken")
    namespace.link(inode.number, "/d/a")
    assert namespace.lookup("/d/a") is inode
    assert namespace.orphans() == []
    assert namespace.check() == []
    with pytest.raises(PermissionError):
        namespace.link(inode.number, "/d/b")
