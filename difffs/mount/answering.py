"""Threads that answer the kernel's requests for the bytes of files (docs/concurrency.md).

As many as there are processors read requests and answer those for whole pages of open volumes
without Python (native/answering.c, ADR 16). What else they meet:

* a read that is not so simple they answer themselves, by way of the operations;
* a write that is not, or finds no room, goes to a thread for its file handle, which may wait;
* fsync goes to a thread of its own: one flush, of the files that they are for, answers all that
  have come by then;
* everything else goes to the thread that runs libfuse's loop.

So a read waits for nobody's write, fsync or name.
"""

import contextlib
import fcntl
import os
import queue
import struct
import threading
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from difffs._kernels import VolumePages
from difffs.mount import _answering

_WRITE_OUT = struct.Struct("<II")  # struct fuse_write_out

_IDLE_SECONDS = 1.0
"""How long a thread for writes of a handle waits for the next."""


class Write(NamedTuple):
    """A write that takes the long way."""

    request: _answering.Request
    handle: int
    offset: int
    data: bytes


class Sync(NamedTuple):
    """An fsync, of a file or (handle 0) of a directory."""

    request: _answering.Request
    handle: int


class Operations(Protocol):
    """What the threads ask where they cannot answer by themselves."""

    def read(self, path: str | None, out: memoryview, offset: int, fh: int) -> int:
        """Fill ``out`` from ``offset`` on; return how many bytes of it count."""

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        """Write ``data`` at ``offset``; return its length."""

    def synchronise(self, handles: Collection[int]) -> None:
        """Return when all names are committed, and what was written before to the files behind
        these handles; where one is 0, to all files."""


class _Writes:
    """Threads that may wait for room: one for each handle that has such writes, so that who fills
    the buffer holds up nobody else. Each ends when nothing has come for a while."""

    def __init__(self, write: Callable[[Write], None]) -> None:
        """Have them written by ``write``."""
        self._write = write
        self._lock = threading.Condition()
        self._queues: dict[int, queue.SimpleQueue[Write | None]] = {}

    def add(self, write: Write) -> None:
        """Have it written, after those of its handle that came before."""
        with self._lock:
            waiting = self._queues.get(write.handle)
            if waiting is not None:
                waiting.put(write)
                return
            waiting = self._queues[write.handle] = queue.SimpleQueue()
            waiting.put(write)
        threading.Thread(
            target=self._run, args=(write.handle, waiting), name="difffs-write", daemon=True
        ).start()

    def _run(self, handle: int, waiting: "queue.SimpleQueue[Write | None]") -> None:
        while True:
            write = None
            with contextlib.suppress(queue.Empty):
                write = waiting.get(timeout=_IDLE_SECONDS)
            if write is not None:
                self._write(write)
                continue
            with self._lock:
                if waiting.empty():
                    del self._queues[handle]
                    self._lock.notify_all()
                    return

    def close(self) -> None:
        """Return when all threads have ended."""
        with self._lock:
            for waiting in self._queues.values():
                waiting.put(None)
            self._lock.wait_for(lambda: not self._queues)


class Answering:
    """The threads of one mount."""

    def __init__(
        self,
        operations: Operations,
        failure: Callable[[str, BaseException], int],
        pages: VolumePages,
        file: int,
    ) -> None:
        """Answer on ``file``, the kernel's, from now on. ``failure`` turns an error of an operation
        into an error number."""
        self._operations = operations
        self._failure = failure
        self._file = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
        self._writes = _Writes(self._write)
        self._syncs: queue.SimpleQueue[Sync | None] = queue.SimpleQueue()
        count = max(2, os.cpu_count() or 2)
        answerers = [_answering.Answerer(self._file, pages.data_path, pages) for _ in range(count)]
        self._answerers = [
            threading.Thread(target=self._answer, args=(each,), name=f"difffs-answer_{i}")
            for i, each in enumerate(answerers)
        ]
        self._syncer = threading.Thread(target=self._sync, name="difffs-sync")
        for thread in (*self._answerers, self._syncer):
            thread.daemon = True
            thread.start()

    def close(self) -> None:
        """Return when all threads have ended; the mount must be gone."""
        for thread in self._answerers:
            thread.join()
        self._writes.close()
        self._syncs.put(None)
        self._syncer.join()
        os.close(self._file)

    def _answer(self, answerer: _answering.Answerer) -> None:
        while kind := answerer.next():
            if kind == _answering.READ:
                self._read(answerer)
            elif kind == _answering.WRITE:
                handle, offset, _ = answerer.place
                self._writes.add(Write(answerer.request(), handle, offset, answerer.data()))
            else:
                self._syncs.put(Sync(answerer.request(), answerer.place[0]))

    def _read(self, answerer: _answering.Answerer) -> None:
        request, out = answerer.request(), answerer.out()
        handle, offset, _ = answerer.place
        try:
            count = self._operations.read(None, out, offset, handle)
        except BaseException as error:
            request.reply(self._failure("read", error))
        else:
            request.reply(0, out[:count])

    def _write(self, write: Write) -> None:
        try:
            written = self._operations.write(None, write.data, write.offset, write.handle)
        except BaseException as error:
            write.request.reply(self._failure("write", error))
        else:
            write.request.reply(0, _WRITE_OUT.pack(written, 0))

    def _sync(self) -> None:
        ended = False
        while not ended:
            waiting = [self._syncs.get()]
            while not self._syncs.empty():
                waiting.append(self._syncs.get())
            ended = None in waiting
            self._sync_for([sync for sync in waiting if sync is not None])

    def _sync_for(self, waiting: list[Sync]) -> None:
        if not waiting:
            return
        error = 0
        try:
            self._operations.synchronise({sync.handle for sync in waiting})
        except BaseException as failure:
            error = self._failure("fsync", failure)
        for sync in waiting:
            sync.request.reply(error)
