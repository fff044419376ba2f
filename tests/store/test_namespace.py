"""The namespace against a real directory tree, and its records against damage."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from difffs.errors import CorruptStore, FormatTooNew
from difffs.store import inode as inode_module
from difffs.store.inode import Inode
from difffs.store.namespace import RENAME_EXCHANGE, RENAME_NOREPLACE, Namespace


def reload(namespace: Namespace) -> Namespace:
    """What another opening of the store would see."""
    namespace.restore_dirty([inode.number for inode in namespace])
    return Namespace((n, record) for n, record in namespace.take_dirty() if record is not None)


def test_an_empty_store_gets_a_root_directory() -> None:
    namespace = Namespace()
    root = namespace.lookup("/")
    assert (root.number, root.nlink, stat.S_ISDIR(root.mode)) == (1, 2, True)
    assert namespace.is_dirty
    assert [number for number, _ in namespace.take_dirty()] == [1]
    assert not namespace.is_dirty


def test_everything_survives_a_reload() -> None:
    namespace = Namespace()
    namespace.mkdir("/guests", 0o2750, 5, 6)
    volume = namespace.create("/guests/one.mem", 0o600, 7, 8)
    volume.size = 1 << 44
    volume.atime_ns, volume.mtime_ns = -5, 1_700_000_000_123_456_789
    namespace.symlink("/ünï\udcff", "guests/one.mem")
    again = reload(namespace)
    assert sorted(map(repr, again)) == sorted(map(repr, namespace))
    assert again.lookup("/guests/one.mem").gid == 6, "a setgid directory passes its group on"
    assert again.readlink("/ünï\udcff") == "guests/one.mem"
    assert again.check() == []


def test_numbers_are_never_given_out_twice() -> None:
    namespace = Namespace()
    first = namespace.create("/a")
    namespace.unlink("/a")
    namespace.retire(first.number)
    namespace.drop(first.number)
    second = namespace.create("/a")
    assert second.number > first.number
    assert reload(namespace).create("/b").number > second.number


def test_an_unlinked_volume_is_an_orphan_until_dropped() -> None:
    namespace = Namespace()
    number = namespace.create("/a").number
    namespace.take_dirty()
    assert namespace.unlink("/a").nlink == 0
    assert not namespace.exists("/a")
    assert namespace.get(number).is_volume
    again = reload(namespace)
    assert [inode.number for inode in again.orphans()] == [number]
    assert again.check() == []
    assert again.volumes() == []
    again.take_dirty()
    again.retire(number)
    with pytest.raises(FileNotFoundError):
        again.get(number)
    again.restore_dirty([number])
    (_number, record), *others = again.take_dirty()
    assert record is not None
    assert others == []
    again.drop(number)
    assert again.take_dirty() == [(number, None)]


def test_a_volume_with_a_name_cannot_be_dropped() -> None:
    namespace = Namespace()
    number = namespace.create("/a").number
    with pytest.raises(OSError, match="busy") as caught:
        namespace.retire(number)
    assert caught.value.errno == errno.EBUSY


def test_rename_returns_the_replaced_volume() -> None:
    namespace = Namespace()
    one, two = namespace.create("/one"), namespace.create("/two")
    assert namespace.rename("/one", "/two") is two
    assert two.nlink == 0
    assert namespace.lookup("/two") is one
    assert namespace.path(one.number) == "/two"
    assert namespace.rename("/two", "/two") is None


def test_rename_flags() -> None:
    namespace = Namespace()
    namespace.mkdir("/d")
    namespace.mkdir("/d/e")
    file = namespace.create("/f")
    with pytest.raises(FileExistsError):
        namespace.rename("/f", "/d", RENAME_NOREPLACE)
    assert namespace.rename("/d/e", "/f", RENAME_EXCHANGE) is None
    assert namespace.lookup("/d/e") is file
    assert namespace.lookup("/d").nlink == 2
    assert namespace.lookup("/").nlink == 4
    with pytest.raises(OSError, match="Invalid"):
        namespace.rename("/d", "/d/e", RENAME_EXCHANGE)
    with pytest.raises(OSError, match="Invalid"):
        namespace.rename("/d/e", "/d", RENAME_EXCHANGE)
    with pytest.raises(FileNotFoundError):
        namespace.rename("/f", "/nothing", RENAME_EXCHANGE)
    with pytest.raises(OSError, match="Invalid"):
        namespace.rename("/f", "/g", 4)
    assert namespace.check() == []


def test_names_and_targets_have_limits() -> None:
    namespace = Namespace()
    namespace.create("/" + "ä" * 127)
    makers: list[Callable[[], Inode]] = [
        lambda: namespace.create("/" + "ä" * 128),
        lambda: namespace.symlink("/l", "x" * 4096),
    ]
    for make in makers:
        with pytest.raises(OSError, match="too long") as caught:
            make()
        assert caught.value.errno == errno.ENAMETOOLONG


def test_the_last_number_is_not_passed() -> None:
    namespace = Namespace()
    namespace._last_number = (1 << 32) - 2
    namespace.create("/last")
    with pytest.raises(OSError, match="space"):
        namespace.create("/a")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_record(record: bytes) -> None:
    with pytest.raises(CorruptStore):
        Inode.unpack(record)


@given(st.data())
def test_any_flipped_bit_of_a_record_is_found(data: st.DataObject) -> None:
    record = bytearray(Namespace().create("/volume").pack())
    position = data.draw(st.integers(0, len(record) * 8 - 1))
    record[position // 8] ^= 1 << position % 8
    with pytest.raises(CorruptStore):
        Inode.unpack(bytes(record))


def test_a_later_record_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inode = Namespace().create("/volume")
    with monkeypatch.context() as patch:
        patch.setattr(inode_module, "_PLAIN", 5)
        record = inode.pack()
    with pytest.raises(FormatTooNew, match="newer difffs"):
        Inode.unpack(record)


def test_a_damaged_record_is_left_out_and_reported() -> None:
    namespace = Namespace()
    namespace.create("/good")
    number = namespace.create("/bad").number
    records = [(n, record) for n, record in namespace.take_dirty() if record is not None]
    damaged = [(n, record[:-1] + b"?" if n == number else record) for n, record in records]
    again = Namespace(damaged)
    assert [inode.name for inode in again.children("/")] == ["good"]
    assert [finding for finding in again.check() if str(number) in finding]
    assert again.create("/new").number > number, "its pages may still be there"


def corrupt_size_of_root(namespace: Namespace) -> None:
    namespace.lookup("/").mode = stat.S_IFREG | 0o644


def corrupt_parent(namespace: Namespace) -> None:
    namespace.lookup("/d/f").parent = 99


def corrupt_parent_kind(namespace: Namespace) -> None:
    namespace.lookup("/d/f").parent = namespace.lookup("/g").number


def corrupt_name(namespace: Namespace) -> None:
    namespace.lookup("/d/f").name = "a/b"


def corrupt_duplicate(namespace: Namespace) -> None:
    inode = namespace.lookup("/d/f")
    inode.parent, inode.name = namespace.ROOT, "g"


def corrupt_links(namespace: Namespace) -> None:
    namespace.lookup("/d").nlink = 3


def corrupt_loop(namespace: Namespace) -> None:
    inode = namespace.lookup("/d")
    inode.parent = inode.number


def corrupt_mode(namespace: Namespace) -> None:
    namespace.lookup("/g").mode = stat.S_IFIFO | 0o644


def corrupt_target(namespace: Namespace) -> None:
    namespace.lookup("/l").target = ""


@pytest.mark.parametrize(
    "corrupt",
    [
        corrupt_size_of_root,
        corrupt_parent,
        corrupt_parent_kind,
        corrupt_name,
        corrupt_duplicate,
        corrupt_links,
        corrupt_loop,
        corrupt_mode,
        corrupt_target,
    ],
)
def test_check_finds(corrupt: Callable[[Namespace], None]) -> None:
    namespace = Namespace()
    namespace.mkdir("/d")
    namespace.create("/d/f")
    namespace.create("/g")
    namespace.symlink("/l", "g")
    assert namespace.check() == []
    corrupt(namespace)
    assert reload(namespace).check() != []


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))


class NamespaceMachine(RuleBasedStateMachine):
    """Every operation gives what the same operation gives on the machine's own file system."""

    def __init__(self) -> None:
        """Start with an empty directory on both sides."""
        super().__init__()
        self.namespace = Namespace()
        self.directory = Path(tempfile.mkdtemp(prefix="namespace-"))

    def teardown(self) -> None:
        """Remove the model."""
        shutil.rmtree(self.directory)

    def both(self, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        """Run both and compare success or error number."""
        expected = actual = 0
        try:
            theirs()
        except OSError as error:
            expected = error.errno or -1
        try:
            ours()
        except OSError as error:
            actual = error.errno or -1
        assert actual == expected, (errno.errorcode.get(actual), errno.errorcode.get(expected))

    def real(self, path: str) -> str:
        """Return the path in the model."""
        return str(self.directory) + path

    @rule(path=PATHS)
    def create(self, path: str) -> None:
        """Make a file."""

        def theirs() -> None:
            os.close(os.open(self.real(path), os.O_CREAT | os.O_EXCL))

        if not self.passes_a_link(path):
            self.both(lambda: self.namespace.create(path), theirs)

    @rule(path=PATHS)
    def mkdir(self, path: str) -> None:
        """Make a directory."""
        if not self.passes_a_link(path):
            self.both(lambda: self.namespace.mkdir(path), lambda: os.mkdir(self.real(path)))

    @rule(path=PATHS)
    def symlink(self, path: str) -> None:
        """Make a dangling link, so that the model's paths are not followed anywhere."""

        def theirs() -> None:
            os.symlink("nowhere", self.real(path))

        if not self.passes_a_link(path):
            self.both(lambda: self.namespace.symlink(path, "nowhere"), theirs)

    def passes_a_link(self, path: str) -> bool:
        """Whether a directory on the way is a link: the namespace leaves following to others."""
        return any(os.path.islink(parent) for parent in Path(self.real(path)).parents)

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        """Remove a file or link."""
        if not self.passes_a_link(path):
            self.both(lambda: self.namespace.unlink(path), lambda: os.unlink(self.real(path)))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        """Remove a directory."""
        if not self.passes_a_link(path):
            self.both(lambda: self.namespace.rmdir(path), lambda: os.rmdir(self.real(path)))

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        """Move anything anywhere."""
        if self.passes_a_link(old) or self.passes_a_link(new):
            return
        self.both(
            lambda: self.namespace.rename(old, new),
            lambda: os.rename(self.real(old), self.real(new)),
        )

    @rule()
    def forget_orphans(self) -> None:
        """Drop what has no name."""
        for inode in self.namespace.orphans():
            self.namespace.retire(inode.number)
            self.namespace.drop(inode.number)

    @rule()
    def reopen(self) -> None:
        """Save and load."""
        self.namespace = reload(self.namespace)

    @invariant()
    def same_tree(self) -> None:
        """The trees are equal, and the namespace is sound."""
        assert self.namespace.check() == []
        self.compare("/", self.directory)

    def compare(self, path: str, directory: Path) -> None:
        """Compare one directory, recursively."""
        ours = {inode.name: inode for inode in self.namespace.children(path)}
        theirs = {entry.name: entry for entry in os.scandir(directory)}
        assert ours.keys() == theirs.keys()
        for name, entry in theirs.items():
            inode = ours[name]
            assert inode.is_directory == entry.is_dir(follow_symlinks=False)
            assert inode.is_symlink == entry.is_symlink()
            if inode.is_directory:
                self.compare(f"{path}/{name}", directory / name)


TestNamespaceMachine = NamespaceMachine.TestCase
TestNamespaceMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
