"""Requests and answers as bytes, with a socket in place of the kernel: who answers what, and the
times that are taken."""

import ctypes
import errno
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from difffs._kernels import Extents, TableChunks, VolumePages
from difffs.mount import _answering
from difffs.mount.request_times import FAILURES, KINDS, request_statistics

GETATTR, SETATTR, READ, WRITE, FSYNC, FORGET, FSYNCDIR = 3, 4, 15, 16, 20, 2, 30
PAGE = 4096
HEADER = struct.Struct("<IIQQIIII")
READ_IN = struct.Struct("<QQIIQII")
BOUNDS = _answering.time_bounds()


class Session:
    """The kernel's side of two answering threads' work: one reads requests, and answers by the long
    way what nobody has open; what is not about bytes goes on to where libfuse reads."""

    def __init__(self) -> None:
        self.kernel, self.daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pages = VolumePages(TableChunks(), Extents(-1), bytearray(PAGE * 64))
        self.answerer = _answering.Answerer(self.daemon.fileno(), self.pages.data_path, self.pages)

    def close(self) -> None:
        self.kernel.close()
        self.daemon.close()

    def receive(self, sent: bytes) -> _answering.Request:
        self.kernel.send(sent)
        assert self.answerer.next() in (_answering.READ, _answering.WRITE, _answering.SYNC)
        return self.answerer.request()

    def answer(self, request: _answering.Request, error: int = 0) -> None:
        request.reply(error)
        assert self.kernel.recv(100) == struct.pack("<IiQ", 16, -error, request.unique)


class Lane:
    """Where libfuse reads what is left, and how it answers."""

    class Vector(ctypes.Structure):
        """``struct iovec``."""

        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    function = ctypes.CFUNCTYPE(
        ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
    )

    def __init__(self, session: Session) -> None:
        self._send, self._receive = map(self.function, _answering.addresses())
        self._session = session

    def receive(self, sent: bytes) -> None:
        session = self._session
        session.kernel.send(sent)
        session.kernel.send(request(FSYNC, 1000))  # what the answerer comes back with
        assert session.answerer.next() == _answering.SYNC
        buffer = ctypes.create_string_buffer(1 << 16)
        assert self._receive(-1, ctypes.addressof(buffer), len(buffer), None) == len(sent)
        assert buffer.raw[: len(sent)] == sent

    def answer(self, unique: int, error: int = 0) -> bytes:
        reply = struct.pack("<IiQ", 16, -error, unique)
        vector = self.Vector(ctypes.cast(ctypes.c_char_p(reply), ctypes.c_void_p), len(reply))
        sent = self._send(self._session.daemon.fileno(), ctypes.addressof(vector), 1, None)
        assert sent == len(reply)
        return self._session.kernel.recv(1000)


def request(opcode: int, unique: int, size: int | None = None) -> bytes:
    body = b"" if size is None else READ_IN.pack(1, 0, size, 0, 0, 0, 0)
    body += bytes(size or 0) if opcode == WRITE else b""
    return HEADER.pack(HEADER.size + len(body), opcode, unique, 1, 0, 0, 0, 0) + body


@pytest.fixture
def session() -> Iterator[Session]:
    one = Session()
    yield one
    one.close()


@pytest.fixture
def lane(session: Session) -> Lane:
    return Lane(session)


class Change:
    """What is counted from when it is made."""

    def __init__(self) -> None:
        self.before = self._now()

    @staticmethod
    def _now() -> dict[str, Any]:
        counts, nanoseconds, failures = _answering.totals()
        return {
            "counts": dict(zip(KINDS, counts, strict=True)),
            "nanoseconds": dict(zip(KINDS, nanoseconds, strict=True)),
            "failures": dict(zip(FAILURES, failures, strict=True)),
        }

    def counts(self) -> dict[str, list[int]]:
        """Of the kinds of requests that there were."""
        now = self._now()["counts"]
        changed = {
            kind: [b - a for a, b in zip(self.before["counts"][kind], now[kind], strict=True)]
            for kind in KINDS
        }
        return {kind: counts for kind, counts in changed.items() if any(counts)}

    def requests(self) -> dict[str, int]:
        return {kind: sum(counts) for kind, counts in self.counts().items()}

    def nanoseconds(self, kind: str) -> int:
        return int(self._now()["nanoseconds"][kind] - self.before["nanoseconds"][kind])

    def failures(self) -> dict[str, int]:
        now = self._now()["failures"]
        return {name: now[name] - self.before["failures"][name] for name in FAILURES}


def test_the_bounds() -> None:
    assert (BOUNDS[0], BOUNDS[-1]) == (1_000, 10_000_000_000)
    assert all(low < high <= 2.5 * low for low, high in pairwise(BOUNDS))


@pytest.mark.parametrize(
    ("opcode", "size", "kind"),
    [
        (READ, 1, "page_read"),
        (READ, 4096, "page_read"),
        (READ, 4097, "short_read"),
        (READ, 8 * 4096, "short_read"),
        (READ, 8 * 4096 + 1, "long_read"),
        (READ, 1 << 20, "long_read"),
        (WRITE, 4096, "write"),
        (FSYNC, None, "sync"),
        (FSYNCDIR, None, "sync"),
    ],
)
def test_kinds(session: Session, opcode: int, size: int | None, kind: str) -> None:
    change = Change()
    received = session.receive(request(opcode, 7, size))
    assert change.requests() == {}  # not yet answered
    session.answer(received)
    assert change.requests() == {kind: 1}


def test_what_is_answered_natively(session: Session) -> None:
    session.pages.open(1, 5, 8 * PAGE, True)
    change = Change()
    page = b"x" * PAGE
    session.kernel.send(request(WRITE, 5, PAGE)[:-PAGE] + page)
    session.kernel.send(request(READ, 7, PAGE))
    session.kernel.send(request(FSYNC, 9))
    assert session.answerer.next() == _answering.SYNC
    assert session.kernel.recv(100) == struct.pack("<IiQII", 24, 0, 5, PAGE, 0)
    assert session.kernel.recv(PAGE + 100) == struct.pack("<IiQ", 16 + PAGE, 0, 7) + page
    assert change.requests() == {"write": 1, "page_read": 1}


@pytest.mark.parametrize("cut", [16, 24, 39, 41, 79, 80, 100])
def test_what_is_cut_off_goes_to_libfuse(session: Session, lane: Lane, cut: int) -> None:
    """Or nowhere, when it is no request at all: nothing behind it is looked at."""
    session.pages.open(1, 5, 8 * PAGE, True)
    sent = request(WRITE, 5, PAGE)[:cut]
    if cut >= HEADER.size:
        lane.receive(sent)
    else:
        session.kernel.send(sent)
        session.kernel.send(request(FSYNC, 9))
        assert session.answerer.next() == _answering.SYNC
    assert session.pages.waiting_count == 0


def test_what_libfuse_answers(lane: Lane) -> None:
    change = Change()
    lane.answer(0)  # what it sends by itself
    lane.receive(request(FORGET, 8))  # which nobody answers
    lane.receive(request(GETATTR, 10))
    lane.answer(8)
    assert change.requests() == {}
    lane.answer(10)
    assert change.requests() == {"other": 1}
    lane.answer(10)  # a second answer is none
    assert change.requests() == {"other": 1}


def test_times_of_a_removed_file_are_no_error(lane: Lane) -> None:
    """libfuse says ESTALE, which the kernel would keep for the next syncfs."""
    times = 1 << 5 | 1 << 10  # FATTR_MTIME, FATTR_CTIME
    for valid, replaced in ((times, True), (times | 1 << 6, False), (1 << 3, False)):
        body = struct.pack("<I", valid) + bytes(84)
        lane.receive(HEADER.pack(HEADER.size + len(body), SETATTR, 12, 1, 0, 0, 0, 0) + body)
        reply = lane.answer(12, errno.ESTALE)
        error = struct.unpack_from("<IiQ", reply)[1]
        assert error == (0 if replaced else -errno.ESTALE)
        assert len(reply) == (120 if replaced else 16)


def test_what_takes_longer_counts_as_longer(session: Session) -> None:
    change = Change()
    received = session.receive(request(READ, 12, 4096))
    began = time.monotonic_ns()
    time.sleep(0.003)
    least = time.monotonic_ns() - began
    session.answer(received)
    taken = change.nanoseconds("page_read")
    assert taken >= least
    (counts,) = change.counts().values()
    place = counts.index(1)
    assert place == len(BOUNDS) or taken <= BOUNDS[place]
    assert taken > BOUNDS[place - 1]


def test_failures(session: Session) -> None:
    change = Change()
    for error in (errno.EIO, errno.ENOSPC, errno.ENOSPC, errno.ENOENT, 0):
        session.answer(session.receive(request(WRITE, 14, 4096)), error)
    assert change.failures() == {"EIO": 1, "ENOSPC": 2}
    assert change.requests() == {"write": 5}


def test_the_end_of_a_mount() -> None:
    session = Session()
    session.kernel.close()
    assert session.answerer.next() == 0
    session.daemon.close()


def test_no_thread_s_count_is_lost() -> None:
    """Each thread answers what it has received itself, all of them at once."""
    change = Change()
    threads, rounds = 4, 500

    def answer() -> None:
        session = Session()
        for number in range(1, rounds + 1):
            # the same numbers in each thread
            session.answer(session.receive(request(READ, 2 * number, 4096)))
        session.close()

    running = [threading.Thread(target=answer) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert change.requests() == {"page_read": threads * rounds}


def test_statistics(session: Session) -> None:
    session.answer(session.receive(request(READ, 18, 4096)), errno.EIO)
    told = request_statistics()
    assert told["request_times"]["bounds_us"] == [bound // 1000 for bound in BOUNDS]
    counts, nanoseconds, failures = _answering.totals()
    for kind, counted, total in zip(KINDS, counts, nanoseconds, strict=True):
        assert told["request_times"]["requests"][kind] == {
            "count": sum(counted),
            "us": total // 1000,
            "counts": counted,
        }
    assert [*told["failed_requests"].values()] == failures
    assert failures[0] >= 1


def test_no_statistics_where_nothing_is_counted() -> None:
    """As where libfuse does its input and output by itself."""
    program = (
        "from difffs.mount.request_times import request_statistics; print(request_statistics())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "{}\n"
