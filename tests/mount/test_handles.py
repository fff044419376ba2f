"""Open files, counted by inode."""

import sys

import pytest

from difffs.mount.handles import Handles
from difffs.store.namespace import Namespace


def test_an_inode_is_open_until_its_last_handle_goes() -> None:
    names, handles = Namespace(), Handles()
    one, two = names.create("/a"), names.create("/b")
    reader, writer = handles.add(one), handles.add(one, writer=77)
    other = handles.add(two, writer=78)
    assert (handles.number(reader), handles.number(writer)) == (one.number, one.number)
    assert handles.number(other) == two.number
    assert handles.number(99) is handles.number(None) is None
    assert list(handles.writers(one.number)) == [77]
    assert handles.remove(writer) is None
    assert list(handles.writers(one.number)) == []
    assert handles.is_open(one.number)
    assert handles.remove(reader) == one.number
    assert not handles.is_open(one.number)
    assert handles.remove(reader) is None, "a second time"
    assert handles.is_open(two.number)


def test_growth_is_counted_while_somebody_writes() -> None:
    names, handles = Namespace(), Handles()
    inode = names.create("/a")
    writer, reader = handles.add(inode, writer=7), handles.add(inode)
    sizes = (0, 5, 5, 9, 9)
    found = [handles.count_growth(inode.number, size) for size in sizes]
    assert found == [0, 1, None, 2, None]
    handles.remove(writer)
    handles.add(inode, writer=7)
    assert handles.count_growth(inode.number, 9) == 0, "from the beginning"
    handles.remove(reader)
    assert handles.count_growth(inode.number, 10) == 1


def test_directories_have_handles_too() -> None:
    names, handles = Namespace(), Handles()
    handle = handles.add(names.mkdir("/d"))
    assert handles.number(handle) == names.lookup("/d").number


def test_hidden_files_are_found_by_either_name() -> None:
    names, handles = Namespace(), Handles()
    one, two = names.create_orphan(), names.create_orphan()
    handles.hide("/.fuse_hidden1", one)
    handles.hide("/.fuse_hidden2", two)
    assert handles.hidden("/.fuse_hidden1") == one.number
    assert handles.hidden("/a") is None
    assert handles.reveal(one.number)
    assert not handles.reveal(one.number)
    assert handles.hidden("/.fuse_hidden1") is None
    assert handles.close() == [two.number]
    assert handles.hidden("/.fuse_hidden2") is None


@pytest.mark.parametrize("count", [2000])
def test_closing_looks_at_one_inode_only(count: int) -> None:
    """By counting: what is done for one close must not grow with what else is open."""
    names, handles = Namespace(), Handles()
    inodes = [names.create(f"/f{i}") for i in range(count)]
    numbers = [handles.add(inode, writer=1) for inode in inodes]
    for inode in inodes:
        handles.hide(f"/.fuse_hidden{inode.number:016x}", inode)
    steps = 0

    def count_steps(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count_steps)
    for number in numbers:
        closed = handles.remove(number)
        assert closed is not None
        handles.reveal(closed)
    sys.setprofile(None)
    assert steps < 20 * count
