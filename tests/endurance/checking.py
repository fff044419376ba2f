"""Looking at a store that nobody has open, in a process of its own, whose death by a signal is a
finding."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difffs.errors import DifffsError
from difffs.page import PAGE_SIZE, page_count
from difffs.store import Store
from difffs.store import format as names


class Died(Exception):
    """The process that looked did not live to tell."""


def in_child(look: Callable[[], Any]) -> Any:
    """What a function returns (as JSON can tell it), called in a fork of this process, which must
    have no other threads that matter. AssertionError of it comes along."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.close(reader)
            signal.alarm(120)
            try:
                answer = {"found": look()}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            with os.fdopen(writer, "wb") as out:
                out.write(json.dumps(answer).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        data = answers.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0 or not data:
        raise Died(f"looking at the store ended with {code}")
    answer = json.loads(data)
    if "error" in answer:
        raise Died(f"looking at the store failed: {answer['error']}")
    return answer["found"]


def is_there(store: Path) -> bool:
    """Whether there is a store: its making may have been cut off."""
    return names.is_store(store)


def findings(store: Path, *, read_only: bool = True) -> list[str]:
    """What `check` finds, or why the store cannot be opened; nothing where there is none yet."""
    if not is_there(store):
        return []

    def look() -> list[str]:
        try:
            with Store.open(store, read_only=read_only) as opened:
                return [f"check: {finding}" for finding in opened.check()]
        except DifffsError as error:
            return [f"opening: {type(error).__name__}: {error}"]

    try:
        found: list[str] = in_child(look)
    except Died as error:
        return [f"check: {error}"]
    return found


def stored_files(store: Store) -> dict[str, bytes]:
    """All files of an open store, with their contents."""
    found = {}
    for inode in store.namespace.volumes():
        count = page_count(inode.size)
        out = bytearray(count * PAGE_SIZE)
        store.read_pages(inode.number, 0, count, out)
        name = store.namespace.path(inode.number).lstrip("/")
        found[name] = bytes(out[: inode.size])
    return found
