"""Clients of a mount: threads that do what guests, swap and people do, and keep the model of it.

Each has files of its own, so that what it does to them has an order; names of client 1 begin with
`c1-`. Each goes on until it has done enough, or the mount is gone.
"""

import contextlib
import errno
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.endurance.contents import pages_of
from tests.endurance.model import PAGE, Acknowledged, ClientModel, FileModel, Found, Model
from tests.integration.test_mount_files import KEEP_SIZE, PUNCH_HOLE, fallocate

GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV})
"""What calls on the mount of a dead daemon are answered with."""

DIRECTORY = "directory"
_MADV_POPULATE_WRITE = 23
"""Pages are made writable now: of a mount that is gone by then an error, where touching them would
be a SIGBUS."""
_LONGEST = 260
"""Pages of a file at most."""


class Gone(Exception):
    """The daemon has died."""


class Marks:
    """Where clients tell when operations begin and are acknowledged; by itself nobody."""

    def began(self, client: int, operation: int) -> None:
        """Before anything of it is done."""

    def acknowledged(self, covered: Acknowledged) -> None:
        """An fsync was answered that covers this."""


class Client:
    """One client of a mount."""

    def __init__(self, model: Model, number: int, root: Path, random: Random) -> None:
        self.model = model
        self.mine: ClientModel = model.clients[number]
        self.root = root
        self.random = random
        self.wrong: list[str] = []
        """What was read and never written."""
        self.refused: list[OSError] = []
        """Operations that failed though the daemon is alive."""
        self.gone = threading.Event()
        self.marks = Marks()
        self.operations = 0
        self.history: list[str] = []
        """What was done, and how it ended, for whoever looks into a violation."""
        self._held: dict[int, int] = {}
        """Open files by number of the file: what they were given may still be in the kernel."""

    # -- running ---------------------------------------------------------------------------------

    def run(self, operations: int, until: Callable[[], bool] = lambda: False) -> None:
        """So many operations, or fewer when the daemon dies or `until` says so."""
        weighted = [(method, weight) for method, weight in self._choices() if weight]
        methods, weights = zip(*weighted, strict=True)
        try:
            for _ in range(operations):
                if until():
                    break
                self.operations += 1
                self.random.choices(methods, weights)[0]()
            for number in list(self._held):
                self._let_go(number)
        except Gone:
            self.gone.set()
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.gone.set()
        finally:
            for descriptor in self._held.values():
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._held.clear()

    def _choices(self) -> list[tuple[Callable[[], None], int]]:
        return [
            (self.write_pages, 30),
            (self.write_bytes, 10),
            (self.overwrite_all, 3),
            (self.punch, 9),
            (self.truncate, 5),
            (self.write_mapped, 6),
            (self.rename, 5),
            (self.unlink, 4),
            (self.synchronise, 10),
            (self.synchronise_all, 2),
            (self.read, 8),
            (self.idle, 3),
        ]

    # -- one operation ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _operation(self, file: FileModel | None) -> Iterator[None]:
        """Within this, an operation that the model knows already is done. One that is refused
        leaves the file uncertain."""
        try:
            yield
        except OSError as error:
            self._refuse(error)
            if file is not None:
                self._forget(file)
        else:
            self._note("done")

    def _refuse(self, error: OSError) -> None:
        """Gone when the daemon is; else it is kept."""
        self._note(f"refused: {error}")
        if error.errno in GONE:
            raise Gone from None
        self.refused.append(error)

    def _note(self, text: str) -> None:
        self.history.append(f"{time.monotonic():.6f} c{self.mine.number} {text}")

    def _begin(self, what: str, name: str, *numbers: int) -> int:
        operation = self.model.next_operation()
        self.mine.begun = operation
        self._note(f"{operation} {what} {name} {numbers}")
        self.marks.began(self.mine.number, operation)
        return operation

    def _forget(self, file: FileModel) -> None:
        """Something of it was refused: it is only read from now on."""
        file.is_certain = False
        descriptor = self._held.pop(file.number, None)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _names(self) -> list[str]:
        number = self.mine.number
        return [f"c{number}-{letter}" for letter in "abc"] + [f"{DIRECTORY}/c{number}-d"]

    def _some_file(self) -> tuple[str, FileModel] | None:
        """A file that can be changed, and its name; made if there is none of the name chosen."""
        if self.names_are_uncertain:
            return None
        name = self.random.choice(self._names())
        number = self.mine.current.get(name)
        if number is not None:
            file = self.mine.files[number]
            return (name, file) if file.is_certain else None
        operation = self._begin("create", name)
        file = self.model.new_file(self.mine, operation)
        self._change_names(operation, {**self.mine.current, name: file.number})
        try:
            os.close(os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        except OSError as error:
            self._refuse(error)
            file.is_certain = False
            self.names_are_uncertain = True
            return None
        file.done = file.arrived = operation
        self.mine.names_done = operation
        return name, file

    names_are_uncertain = False
    """Whether an operation on names was refused: which file a name is cannot be told then."""

    def _change_names(self, operation: int, names: dict[str, int]) -> None:
        self.mine.names.append((operation, names))

    @contextlib.contextmanager
    def _opened(self, name: str, file: FileModel, operation: int) -> Iterator[int]:
        """The file, open. Closing it sends the daemon all that the kernel has; some stay open."""
        descriptor = self._held.pop(file.number, None)
        if descriptor is None:
            descriptor = os.open(self.root / name, os.O_RDWR)
        try:
            yield descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        if operation:
            file.done = operation
        if self.random.random() < 0.2:
            self._held[file.number] = descriptor
            return
        os.close(descriptor)
        file.arrived = file.done
        self._note(f"closed {name}, {file.done} has arrived")

    def _let_go(self, number: int) -> None:
        descriptor = self._held.pop(number, None)
        if descriptor is not None:
            file = self.mine.files[number]
            with self._operation(file):
                os.close(descriptor)
                file.arrived = file.done

    # -- the operations --------------------------------------------------------------------------

    def write_pages(self) -> None:
        """Whole pages, anywhere, behind the end too."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        count = self.random.choice((1, 1, 2, 5, 16, 40))
        first = self.random.randrange(min(_LONGEST - count, file.size // PAGE + 12))
        operation = self._begin("write", name, first, count)
        data = pages_of(self.random, file.number, first, count, operation)
        file.write(operation, first * PAGE, data)
        with self._operation(file), self._opened(name, file, operation) as descriptor:
            _write_all(descriptor, data, first * PAGE)

    def write_bytes(self) -> None:
        """Parts of pages."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        offset = self.random.randrange(min(_LONGEST * PAGE, file.size + 3 * PAGE))
        length = self.random.choice((1, 10, 511, 3000, 9000))
        operation = self._begin("write bytes", name, offset, length)
        data = self.random.randbytes(length)
        file.write(operation, offset, data)
        with self._operation(file), self._opened(name, file, operation) as descriptor:
            _write_all(descriptor, data, offset)

    def overwrite_all(self) -> None:
        """All of a file: what was there is dead, which has extents rewritten."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        count = max(1, file.size // PAGE)
        operation = self._begin("overwrite", name, count)
        data = pages_of(self.random, file.number, 0, count, operation)
        file.write(operation, 0, data)
        with self._operation(file), self._opened(name, file, operation) as descriptor:
            _write_all(descriptor, data, 0)

    def write_mapped(self) -> None:
        """Through shared memory, as a guest does, then msync."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        pages = file.size // PAGE
        if not pages:
            return
        count = min(pages, self.random.choice((1, 3, 12)))
        first = self.random.randrange(pages - count + 1)
        operation = self._begin("write mapped", name, first, count)
        data = pages_of(self.random, file.number, first, count, operation)
        file.write(operation, first * PAGE, data)
        with self._operation(file), self._opened(name, file, operation) as descriptor:
            with mmap.mmap(descriptor, count * PAGE, offset=first * PAGE) as memory:
                memory.madvise(_MADV_POPULATE_WRITE)
                memory[:] = data
                covered = self.model.covered(file)
                # msync tells of its range only
                everything = file.arrived == file.done
                covered.files[file.number] = operation if everything else file.arrived
                memory.flush()
            self._acknowledge(covered)

    def punch(self) -> None:
        """A hole: whole pages mostly."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        unit = self.random.choice((PAGE, PAGE, PAGE, 1))
        offset = self.random.randrange(file.size // unit + 1) * unit
        length = self.random.choice((1, 3, 30)) * PAGE + (unit == 1)
        operation = self._begin("punch", name, offset, length)
        file.punch(operation, offset, length)
        with self._operation(file), self._opened(name, file, operation) as descriptor:
            fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, offset, length)

    def truncate(self) -> None:
        """Cut, or made longer."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        size = self.random.randrange(int(1.2 * file.size) + PAGE)
        if self.random.random() < 0.4:
            size = size // PAGE * PAGE
        operation = self._begin("truncate", name, size)
        file.truncate(operation, size)
        with self._operation(file), self._opened(name, file, operation) as descriptor:
            os.ftruncate(descriptor, size)

    def rename(self) -> None:
        """To a new name, or over another file."""
        names = self.mine.current
        if not names or self.names_are_uncertain:
            return
        old = self.random.choice(sorted(names))
        new = self.random.choice([each for each in self._names() if each != old])
        file = self.mine.files[names[old]]
        lost = self.mine.files.get(names.get(new, -1))
        if not file.is_certain or (lost is not None and not lost.is_certain):
            return
        if lost is not None:
            self._let_go(lost.number)
        operation = self._begin("rename", f"{old} {new}", names[old])
        after = {name: number for name, number in names.items() if name != old}
        self._change_names(operation, {**after, new: names[old]})
        self._name_operation(operation, lambda: (self.root / old).rename(self.root / new))

    def unlink(self) -> None:
        """A file goes."""
        names = self.mine.current
        if not names or self.names_are_uncertain:
            return
        name = self.random.choice(sorted(names))
        if not self.mine.files[names[name]].is_certain:
            return
        self._let_go(names[name])
        operation = self._begin("unlink", name)
        self._change_names(operation, {n: f for n, f in names.items() if n != name})
        self._name_operation(operation, (self.root / name).unlink)

    def _name_operation(self, operation: int, change: Callable[[], object]) -> None:
        try:
            change()
        except OSError as error:
            self._refuse(error)
            self.names_are_uncertain = True
        else:
            self._note("done")
            if not self.names_are_uncertain:
                self.mine.names_done = operation

    def synchronise(self) -> None:
        """fsync of a file."""
        if (found := self._some_file()) is None:
            return
        name, file = found
        with self._operation(file), self._opened(name, file, 0) as descriptor:
            covered = self.model.covered(file)
            self._note(f"fsync {name}")
            os.fsync(descriptor)
            self._acknowledge(covered)

    def synchronise_all(self) -> None:
        """fsync of the mount's root."""
        with self._operation(None):
            descriptor = os.open(self.root, os.O_RDONLY)
            try:
                covered = self.model.covered()
                self._note("fsync of the root")
                os.fsync(descriptor)
                self._acknowledge(covered)
            finally:
                os.close(descriptor)

    def _acknowledge(self, covered: Acknowledged) -> None:
        self.model.acknowledge(covered)
        self.marks.acknowledged(covered)

    def read(self) -> None:
        """Looks at some pages, as often as not in the store and not in the kernel."""
        names = self.mine.current
        if not names or self.names_are_uncertain:
            return
        name = self.random.choice(sorted(names))
        file = self.mine.files[names[name]]
        if not file.is_certain:
            return
        with self._operation(file), self._opened(name, file, 0) as descriptor:
            if self.random.random() < 0.5:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            found = _read_all(descriptor)
            if found != file.content():
                page = next(
                    at
                    for at in range(len(found) // PAGE + 1)
                    if found[at * PAGE : (at + 1) * PAGE]
                    != file.content()[at * PAGE : (at + 1) * PAGE]
                )
                self.wrong.append(
                    f"{name} page {page}, read from the mount, is not what was last written"
                    f" ({len(found)} of {file.size} bytes)"
                )

    def idle(self) -> None:
        """Time in which the daemon routes, commits and reclaims by itself."""
        time.sleep(self.random.choice((0.002, 0.01, 0.04)))


def _read_all(descriptor: int) -> bytes:
    """A read that meets an error in the middle is short; only the next one tells."""
    found = b""
    while piece := os.pread(descriptor, 1 << 20, len(found)):
        found += piece
    return found


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def make_directory(root: Path) -> None:
    """The directory that clients have files in. Of it alone nothing is promised."""
    (root / DIRECTORY).mkdir(exist_ok=True)


def found_files(root: Path) -> Found:
    """All files of a mount, read through it."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
