"""Upgrading a store of version 1: all or nothing, and the same contents."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difffs._kernels import EXTENT_SIDE_BYTES
from difffs.errors import CorruptStore, StoreBusy
from difffs.store import Store, upgrade
from difffs.store import format as names
from difffs.store.format import FORMAT_VERSION, read_format
from difffs.store.lock import StoreLock
from difffs.store.upgrade import Upgrade, upgrade_store
from tests.pages import guest_memory
from tests.store.former_store import CONTENTS, expected_volumes, unpack, volumes_of
from tests.stores import OpenStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def test_everything_is_there_afterwards(folder: Path) -> None:
    payloads = (folder / "payloads").read_bytes()
    told: list[tuple[int, int]] = []
    done = upgrade_store(folder, lambda done, total: told.append((done, total)))
    assert done == Upgrade(1, CONTENTS["objects"])
    assert told[-1] == (len(told), len(told))
    assert (folder / "payloads").read_bytes() == payloads
    assert not (folder / "index").exists()
    assert read_format(folder).version == FORMAT_VERSION
    for read_only in (True, False):
        with Store.open(folder, read_only=read_only) as store:
            assert [str(finding) for finding in store.check()] == []
            assert volumes_of(store) == expected_volumes()
            assert store.page_counts() == CONTENTS["pages"]
            assert store.object_count() == CONTENTS["objects"]


def test_it_is_used_like_any_other(folder: Path) -> None:
    upgrade_store(folder)
    with OpenStore(folder) as opened:
        many = opened.store.namespace.lookup("/guests/old/many.mem").number
        image = guest_memory(3, 300)
        opened.write(opened.new_volume("new.mem"), 0, opened.read(many, 0, 600) + image)
        new = opened.store.namespace.lookup("/new.mem").number
        opened.remove(many)
        opened.store.commit()
        assert opened.read(new, 600, 300) == image
        opened.assert_clean()
        opened.reopen()
        assert opened.read(new, 600, 300) == image
        opened.assert_clean()


def test_what_is_of_today_stays_as_it_is(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "s") as opened:
        opened.write(opened.new_volume("a"), 0, guest_memory(1, 50))
    before = (tmp_path / "s" / "index-2" / "data.mdb").read_bytes()
    assert upgrade_store(tmp_path / "s") == Upgrade(FORMAT_VERSION, 0)
    assert (tmp_path / "s" / "index-2" / "data.mdb").read_bytes() == before


def test_a_store_in_use_stays_as_it_is(folder: Path) -> None:
    lock = StoreLock(folder, shared=False)
    with pytest.raises(StoreBusy):
        upgrade_store(folder)
    lock.release()
    assert read_format(folder).version == 1


@pytest.mark.parametrize("at", [2 * EXTENT_SIDE_BYTES + EXTENT_SIDE_BYTES, 4 * EXTENT_SIDE_BYTES])
def test_a_damaged_store_stays_as_it_is(folder: Path, at: int) -> None:
    with (folder / "payloads").open("r+b") as file:
        os.pwrite(file.fileno(), b"\xa5", at + 20)
    with pytest.raises(CorruptStore, match="stays as it was"):
        upgrade_store(folder)
    assert read_format(folder).version == 1
    assert not (folder / "index-2").exists()


STEPS = ["Index", "PayloadFile", "synchronise_directory", "rmtree", "names.write_format"]
CRASHED, DONE = 7, 0


def end_at(step: str, number: int, *, after: bool) -> None:
    """From here on, the process ends at this call of a step, before or after it."""
    place, _, name = step.rpartition(".")
    owner = names if place else upgrade
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def ending(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            os._exit(CRASHED)
        result = original(*arguments, **named)
        if calls == number:
            os._exit(CRASHED)
        return result

    setattr(owner, name, ending)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_one_version(folder: Path, step: str, after: bool) -> None:
    """Every call of it in turn, each upgrade going on from what the one before has left."""
    number, ended = 0, CRASHED
    while ended == CRASHED:
        number += 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                end_at(step, number, after=after)
                upgrade_store(folder)
                code = DONE
            finally:
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with Store.open(folder, read_only=True) as store:
            assert volumes_of(store) == expected_volumes()
    assert ended == DONE
    assert number > 1, "the step never came"
    with Store.open(folder) as store:
        assert [str(finding) for finding in store.check()] == []
        assert volumes_of(store) == expected_volumes()
    assert not (folder / "index").exists()
