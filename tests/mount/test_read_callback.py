"""The native callback for reads, called as libfuse would."""

import ctypes
import errno
from collections.abc import Callable

import pytest

from difffs.mount import _read_callback
from difffs.store.inode import Inode

CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int64,
    ctypes.c_void_p,
)
POSITION = 16
VOLUME = Inode(7, 0o100644, 0, 0, 1 << 20, 0, 0, 0, 1, 1, "guest")


class Asked:
    """What the callback asked whom, and what it is to be told."""

    def __init__(self) -> None:
        self.short: list[tuple[Inode, int, int]] = []
        self.long: list[tuple[bytes | None, int, int, int]] = []
        self.failures: list[BaseException] = []
        self.answer: Callable[[], bool] = lambda: True
        self.buffer = ctypes.create_string_buffer(8192)
        self.call = CALLBACK(
            _read_callback.install(self._short, {3: VOLUME}, self._long, self._failure, POSITION)
        )

    def _short(self, inode: Inode, offset: int, size: int, address: int) -> bool:
        assert address == ctypes.addressof(self.buffer)
        self.short.append((inode, offset, size))
        return self.answer()

    def _long(self, path: bytes | None, address: int, size: int, offset: int, handle: int) -> int:
        assert address == ctypes.addressof(self.buffer)
        self.long.append((path, size, offset, handle))
        return -errno.ENODATA

    def _failure(self, error: BaseException) -> int:
        self.failures.append(error)
        return -errno.EIO

    def read(self, path: bytes | None, size: int, offset: int, handle: int) -> int:
        information = (ctypes.c_uint64 * 8)()
        information[POSITION // 8] = handle
        result: int = self.call(path, ctypes.addressof(self.buffer), size, offset, information)
        return result


def test_the_short_way_is_asked_first() -> None:
    asked = Asked()
    assert asked.read(None, 4096, 1 << 40, 3) == 4096
    assert asked.short == [(VOLUME, 1 << 40, 4096)]
    assert asked.long == []


def test_the_long_way_is_asked_where_the_short_one_ends() -> None:
    asked = Asked()
    asked.answer = lambda: False
    assert asked.read(b"/guest", 100, 5, 3) == -errno.ENODATA
    assert len(asked.short) == 1
    assert asked.long == [(b"/guest", 100, 5, 3)]


def test_an_unknown_handle_takes_the_long_way() -> None:
    asked = Asked()
    assert asked.read(None, 4096, 0, 1 << 63) == -errno.ENODATA
    assert asked.short == []
    assert asked.long == [(None, 4096, 0, 1 << 63)]


@pytest.mark.parametrize("error", [RuntimeError("surprise"), KeyboardInterrupt()])
def test_a_surprise_is_told_and_no_answer(error: BaseException) -> None:
    asked = Asked()

    def surprise() -> bool:
        raise error

    asked.answer = surprise
    assert asked.read(None, 4096, 0, 3) == -errno.EIO
    assert asked.failures == [error]
    assert asked.long == []
