"""A real mount against a model: whatever is done, files hold what a bytearray would."""

import contextlib
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.integration import harness
from tests.integration.harness import Mounted
from tests.integration.test_mount_files import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate

PAGE = 4096
LIMIT = 96 * PAGE

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        harness.obstacle() is not None, reason=harness.obstacle() or "mounting works"
    ),
]

NAMES = st.sampled_from(["a", "b", "directory/c"])
OFFSETS = st.one_of(
    st.integers(0, LIMIT - 1),
    st.integers(0, LIMIT // PAGE - 1).map(lambda page: page * PAGE),
)
LENGTHS = st.one_of(
    st.integers(1, 3 * PAGE), st.integers(1, 40).map(lambda pages: pages * PAGE), st.just(PAGE)
)
KINDS = st.sampled_from(["random", "zeros", "word", "repeated", "similar", "text"])

_POOL = [random.Random(number).randbytes(PAGE) for number in range(4)]


def make(kind: str, length: int, seed: int) -> bytes:
    """Bytes that take one route or another."""
    source = random.Random(seed)
    if kind == "random":
        return source.randbytes(length)
    if kind == "zeros":
        return bytes(length)
    if kind == "word":
        return (source.randbytes(8) * (length // 8 + 1))[:length]
    if kind == "text":
        words = (b"page", b"table", b"store", b"route", b"0x%x" % seed)
        return b" ".join(source.choice(words) for _ in range(length // 4 + 1))[:length]
    pages = bytearray()
    while len(pages) < length:
        page = bytearray(source.choice(_POOL))
        if kind == "similar":
            for _ in range(source.randrange(1, 20)):
                page[source.randrange(PAGE)] = source.randrange(256)
        pages += page
    return bytes(pages[:length])


class MountMachine(RuleBasedStateMachine):
    """Files in a mount, and what they must hold."""

    @initialize()
    def start(self) -> None:
        """Mount a new store."""
        self._cleanup = contextlib.ExitStack()
        self.mount: Mounted = self._cleanup.enter_context(harness.mounted_store())
        (self.mount.path / "directory").mkdir()
        self.files: dict[str, bytearray] = {}

    def teardown(self) -> None:
        """Unmount and check the store."""
        if hasattr(self, "_cleanup"):
            self._cleanup.close()

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.mount.path / name

    @contextlib.contextmanager
    def opened(self, name: str, flags: int = 0) -> Iterator[int]:
        """Open a file, making it if need be."""
        self.files.setdefault(name, bytearray())
        file = os.open(self.path(name), os.O_RDWR | os.O_CREAT | flags)
        try:
            yield file
        finally:
            os.close(file)

    def put(self, name: str, offset: int, data: bytes) -> None:
        """Write in the model."""
        model = self.files[name]
        if len(model) < offset + len(data):
            model += bytes(offset + len(data) - len(model))
        model[offset : offset + len(data)] = data

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS, kind=KINDS, seed=st.integers(0, 999))
    def write(self, name: str, offset: int, length: int, kind: str, seed: int) -> None:
        """Write anywhere, growing the file."""
        data = make(kind, length, seed)
        with self.opened(name) as file:
            assert os.pwrite(file, data, offset) == length
        self.put(name, offset, data)

    @rule(name=NAMES, page=st.integers(0, 90), count=st.integers(1, 6), kind=KINDS)
    def write_directly(self, name: str, page: int, count: int, kind: str) -> None:
        """Write past the page cache, as a loop device does."""
        data = make(kind, count * PAGE, page)
        with self.opened(name, os.O_DIRECT) as file, mmap.mmap(-1, count * PAGE) as buffer:
            buffer[:] = data
            assert os.pwritev(file, [buffer], page * PAGE) == len(data)
        self.put(name, page * PAGE, data)

    @rule(name=NAMES, offset=OFFSETS, length=st.integers(1, 5 * PAGE), kind=KINDS)
    def write_mapped(self, name: str, offset: int, length: int, kind: str) -> None:
        """Write through a shared mapping, as a guest does."""
        model = self.files.get(name)
        if not model or offset >= len(model):
            return
        data = make(kind, min(length, len(model) - offset), offset)
        with self.opened(name) as file, mmap.mmap(file, len(model)) as memory:
            memory[offset : offset + len(data)] = data
        self.put(name, offset, data)

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS)
    def read(self, name: str, offset: int, length: int) -> None:
        """Read from the page cache or the daemon."""
        if name not in self.files:
            return
        with self.opened(name) as file:
            assert os.pread(file, length, offset) == self.files[name][offset : offset + length]

    @rule(name=NAMES)
    def read_from_the_daemon(self, name: str) -> None:
        """Read everything with the kernel's copies dropped."""
        if name not in self.files:
            return
        with self.opened(name) as file:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(file, 2 * LIMIT, 0) == self.files[name]

    @rule(name=NAMES, size=st.integers(0, LIMIT))
    def truncate(self, name: str, size: int) -> None:
        """Cut or grow."""
        with self.opened(name) as file:
            os.ftruncate(file, size)
        model = self.files[name]
        if size < len(model):
            del model[size:]
        else:
            model += bytes(size - len(model))

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS)
    def punch(self, name: str, offset: int, length: int) -> None:
        """Punch a hole; the size stays."""
        with self.opened(name) as file:
            fallocate(file, PUNCH_HOLE | KEEP_SIZE, offset, length)
        model = self.files[name]
        end = min(offset + length, len(model))
        if offset < end:
            model[offset:end] = bytes(end - offset)

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS)
    def zero(self, name: str, offset: int, length: int) -> None:
        """Zero a range; the file may grow."""
        with self.opened(name) as file:
            fallocate(file, ZERO_RANGE, offset, length)
        self.put(name, offset, bytes(length))

    @rule(name=NAMES)
    def unlink(self, name: str) -> None:
        """Remove a file."""
        if self.files.pop(name, None) is not None:
            self.path(name).unlink()

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        """Move a file over another."""
        if old in self.files:
            self.path(old).rename(self.path(new))
            self.files[new] = self.files.pop(old)

    @rule(old=NAMES, new=NAMES)
    def copy(self, old: str, new: str) -> None:
        """Write one file's content to another: identical pages."""
        if old not in self.files or old == new:
            return
        self.path(new).write_bytes(self.path(old).read_bytes())
        self.files[new] = bytearray(self.files[old])

    @rule()
    def commit(self) -> None:
        """Make everything durable."""
        for name in self.files:
            with self.opened(name) as file:
                os.fsync(file)

    @rule()
    def remount(self) -> None:
        """Unmount, check every invariant, mount."""
        self.mount.remount()

    @rule()
    def crash(self) -> None:
        """Commit, then lose the daemon: what was committed is there."""
        self.commit()
        self.mount.commit()
        self.mount.kill()
        self.mount.check()
        self.mount.mount()

    @invariant()
    def same_names_and_sizes(self) -> None:
        """The directory shows what the model has."""
        if not hasattr(self, "files"):
            return
        found = {
            str(path.relative_to(self.mount.path)): path.stat().st_size
            for path in self.mount.path.rglob("*")
            if path.is_file()
        }
        assert found == {name: len(model) for name, model in self.files.items()}


def _steps(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TestMount = MountMachine.TestCase
TestMount.settings = _steps(6, 30)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.timeout(900)
class TestMountLonger(MountMachine.TestCase):  # type: ignore[misc, valid-type]
    """The same with many more steps."""

    settings = _steps(15, 60)
