"""Images in the mount's operations, without a kernel: bytes, holes, refused changes, removal."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from difffs.engine import Engine
from difffs.errors import CorruptStore
from difffs.mount.caller import Caller
from difffs.mount.handles import Handles
from difffs.mount.images import OpenImages
from difffs.mount.kernel_tuning import KernelTuning
from difffs.mount.live import USAGE, USAGE_REQUEST
from difffs.mount.operations import VolumeOperations
from difffs.mount.refining import Refining
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store.namespace import Namespace
from difffs.stored_image.head import pack_head
from difffs.stored_image.reading import ReadVolume, open_image
from difffs.volume import Volumes
from tests.mount.invented_image import Content, store, store_in
from tests.stores import open_volumes

HIDDEN = "/.fuse_hidden0123456789abcde"


class Served:
    """Operations over a store with one image, and what the image is to hold."""

    def __init__(self, volumes: Volumes, content: Content) -> None:
        self.volumes = volumes
        self.content = content
        caller = Caller(lambda: (0, 0, os.getpid()))
        refining = Refining(volumes, None, 1.0)
        self.do = VolumeOperations(volumes, caller, KernelTuning(0), dict, lambda: None, refining)

    def bytes_of(self, handle: int) -> bytes:
        """All that a reader gets, in pieces of three pages and a bit."""
        found = bytearray()
        while True:
            out = bytearray(3 * PAGE_SIZE + 5)
            count = self.do.read(None, memoryview(out), len(found), handle)
            found += out[:count]
            if not count:
                return bytes(found)

    def hide(self, path: str, number: int) -> None:
        """Unlink what is open, as libfuse does."""
        self.do.rename(path, f"{HIDDEN}{number}")

    def numbers(self) -> set[int]:
        """All inodes but the root."""
        return {inode.number for inode in self.volumes.namespace} - {Namespace.ROOT}

    def is_empty(self) -> bool:
        """Whether the store holds nothing at all."""
        self.volumes.flush()
        return not self.numbers() and self.volumes.store.object_count() == 0


@contextmanager
def serving(path: Path) -> Iterator[Served]:
    """Serve a store in which there is an image; checked afterwards."""
    content = store_in(path)
    with open_volumes(path) as volumes:
        served = Served(volumes, content)
        yield served
        served.do.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """One image, served."""
    with serving(tmp_path / "store") as made:
        yield made


def refused(number: int, call: Callable[[], Any]) -> None:
    """Expect ``call`` to fail with this error number."""
    with pytest.raises(OSError, match="Errno") as caught:
        call()
    assert caught.value.errno == number


def test_a_reader_gets_the_file(served: Served) -> None:
    handle = served.do.open("/image", os.O_RDONLY)
    file = served.content.file
    assert served.do.getattr("/image")["st_size"] == len(file)
    assert served.bytes_of(handle) == file
    random = Random(2)
    for _ in range(300):
        offset = random.randrange(len(file) + 2)
        out = bytearray(random.choice([1, 8, 511, PAGE_SIZE, 70_000]))
        count = served.do.read(None, memoryview(out), offset, handle)
        assert out[:count] == file[offset : offset + len(out)]
    assert served.bytes_of(served.do.open("/image.ram", os.O_RDONLY)) == served.content.memory


def test_an_image_is_not_answered_for_without_python(served: Served) -> None:
    """Only volumes have pages."""
    image = served.do.open("/image", os.O_RDONLY)
    memory = served.do.open("/image.ram", os.O_RDONLY)
    page = bytearray(PAGE_SIZE)
    assert not served.do.pages.answer_read(image, 0, page)
    assert served.do.read(None, memoryview(page), 0, memory) == PAGE_SIZE  # loads what it needs
    assert served.do.pages.answer_read(memory, 0, page)
    assert page == served.content.memory[:PAGE_SIZE]


def test_all_of_an_image_counts_as_occupied(served: Served) -> None:
    found = served.do.getattr("/image")
    assert found["st_blocks"] == -(-len(served.content.file) // PAGE_SIZE) * 8
    assert served.do.getattr("/image.ram")["st_blocks"] == len(served.content.memory) // 512


def test_holes_are_whole_pages_of_zeros(served: Served) -> None:
    handle = served.do.open("/image", os.O_RDONLY)
    file, at, holes = served.content.file, 0, []
    while at < len(file):
        data = len(file)
        with suppress(OSError):  # none any more
            data = served.do.lseek(None, at, os.SEEK_DATA, handle)
        if data > at:
            holes.append((at, data))
        if data == len(file):
            break
        at = served.do.lseek(None, data, os.SEEK_HOLE, handle)
        assert at > data
    zeros = (1000 + 20 * PAGE_SIZE, len(file) - 5 * PAGE_SIZE - 77)
    first, last = (-(-start // PAGE_SIZE) * PAGE_SIZE for start in zeros)
    assert holes == [(first, first + 9 * PAGE_SIZE), (last, len(file))]
    for start, end in holes:
        assert not any(file[start:end])
        inside = start + 1000
        assert served.do.lseek(None, inside, os.SEEK_HOLE, handle) == inside
    assert served.do.lseek(None, holes[0][0] + 1, os.SEEK_DATA, handle) == holes[0][1]
    refused(errno.ENXIO, lambda: served.do.lseek(None, last, os.SEEK_DATA, handle))
    refused(errno.ENXIO, lambda: served.do.lseek(None, len(file), os.SEEK_DATA, handle))
    refused(errno.ENXIO, lambda: served.do.lseek(None, len(file), os.SEEK_HOLE, handle))


def test_the_usage_is_the_skeletons(served: Served) -> None:
    inode = served.volumes.namespace.lookup("/image")
    handle = served.do.open("/image", os.O_RDONLY)
    reply = served.do.ioctl(None, USAGE_REQUEST, handle, USAGE.pack(0, 0, 0, 0.0))
    expected = served.volumes.store.volume_usage(inode.skeleton)
    assert expected.pages > 0
    assert USAGE.unpack(reply) == (0, expected.pages, expected.zero, expected.stored)


def _changes(do: VolumeOperations, path: str) -> list[Callable[[], object]]:
    handle = do.open(path, os.O_RDONLY)
    return [
        lambda: do.open(path, os.O_RDWR),
        lambda: do.open(path, os.O_WRONLY),
        lambda: do.open(path, os.O_RDONLY | os.O_TRUNC),
        lambda: do.truncate(path, 0),
        lambda: do.truncate(path, do.getattr(path)["st_size"]),
        lambda: do.truncate(None, 1 << 30, handle),
        lambda: do.fallocate(None, 3, 0, PAGE_SIZE, handle),
        lambda: do.fallocate(None, 0, 0, 1 << 30, handle),
        lambda: do.fallocate(None, 0x10, 0, PAGE_SIZE, handle),
    ]


def test_an_image_and_its_memory_cannot_be_changed(served: Served) -> None:
    for path in ("/image", "/image.ram"):
        for change in _changes(served.do, path):
            refused(errno.EPERM, change)
        served.do.chmod(path, 0o600)
        served.do.chown(path, 5, 6)
        served.do.utimens(path, (7, 8))
        found = served.do.getattr(path)
        assert (found["st_mode"] & 0o7777, found["st_uid"], found["st_mtime"]) == (0o600, 5, 8)
    assert served.bytes_of(served.do.open("/image", os.O_RDONLY)) == served.content.file


def test_nothing_is_written_through_a_handle_to_read(served: Served) -> None:
    other = served.do.create("/file", 0o600, os.O_RDONLY)
    for handle in (other, 999, *(served.do.open(f"/image{end}", 0) for end in ("", ".ram"))):
        refused(errno.EBADF, partial(served.do.write, None, b"x", 0, handle))


def test_names_may_change(served: Served) -> None:
    served.do.mkdir("/d", 0o755)
    served.do.rename("/image", "/d/one")
    served.do.rename("/image.ram", "/two")
    served.do.rename("/d/one", "/two", 2)
    assert served.bytes_of(served.do.open("/two", os.O_RDONLY)) == served.content.file
    refused(errno.EPERM, lambda: served.do.open("/d/one", os.O_RDWR))


def test_without_its_image_the_memory_is_a_volume_like_others(served: Served) -> None:
    served.do.unlink("/image")
    handle = served.do.open("/image.ram", os.O_RDWR)
    assert served.bytes_of(handle) == served.content.memory
    served.do.write(None, b"new", 5, handle)
    assert served.bytes_of(handle)[:10] == served.content.memory[:5] + b"new" + bytes(
        served.content.memory[8:10]
    )
    served.do.release(None, handle)
    served.do.unlink("/image.ram")
    assert served.is_empty()


def test_without_its_name_the_memory_stays_for_the_image(served: Served) -> None:
    served.do.unlink("/image.ram")
    served.volumes.flush()
    handle = served.do.open("/image", os.O_RDONLY)
    assert served.bytes_of(handle) == served.content.file
    served.do.release(None, handle)
    served.do.unlink("/image")
    assert served.is_empty()


def test_an_open_image_is_read_until_its_last_close(served: Served) -> None:
    one, two = (served.do.open("/image", os.O_RDONLY) for _ in range(2))
    served.hide("/image", 1)
    served.do.release(None, one)
    assert served.do.getattr(f"{HIDDEN}1")["st_nlink"] == 0
    for change in _changes(served.do, "/image.ram"):
        refused(errno.EPERM, change)
    again = served.do.open(f"{HIDDEN}1", os.O_RDONLY)  # by /proc/PID/fd/N
    served.do.release(None, again)
    assert served.bytes_of(two) == served.content.file
    served.do.release(None, two)
    handle = served.do.open("/image.ram", os.O_RDWR)
    assert served.bytes_of(handle) == served.content.memory
    assert len(served.numbers()) == 1


def test_nothing_is_left_in_whatever_order_both_go(tmp_path: Path) -> None:
    """Both open: two lose their names, two are closed for the last time."""
    events = ("close image", "close memory", "unlink image", "unlink memory")
    for number, order in enumerate(permutations(events)):
        with serving(tmp_path / str(number)) as served:
            handles = {
                "image": served.do.open("/image", os.O_RDONLY),
                "memory": served.do.open("/image.ram", os.O_RDONLY),
            }
            paths = {"image": "/image", "memory": "/image.ram"}
            contents = {"image": served.content.file, "memory": served.content.memory}
            for event in order:
                verb, what = event.split()
                if verb == "close":
                    served.do.release(None, handles.pop(what))
                elif what in handles:
                    served.hide(paths[what], len(what))
                else:
                    served.do.unlink(paths[what])
                served.volumes.flush()
                for each, handle in handles.items():
                    assert served.bytes_of(handle) == contents[each], order
            assert served.is_empty(), order


def test_what_replaces_an_open_image_leaves_it_as_it_is(served: Served) -> None:
    handle = served.do.open("/image", os.O_RDONLY)
    served.do.unlink("/image.ram")
    other = served.do.create("/other", 0o600, os.O_RDWR)
    served.do.release(None, other)
    served.hide("/image", 1)  # as libfuse does before it renames
    served.do.rename("/other", "/image")
    served.volumes.flush()
    assert served.bytes_of(handle) == served.content.file
    served.do.release(None, handle)
    served.do.unlink("/image")
    assert served.is_empty()


def test_an_image_takes_the_place_of_its_own_memory(served: Served) -> None:
    served.do.rename("/image", "/image.ram")
    served.volumes.flush()
    handle = served.do.open("/image.ram", os.O_RDONLY)
    assert served.bytes_of(handle) == served.content.file
    served.do.release(None, handle)
    served.do.unlink("/image.ram")
    assert served.is_empty()


def test_the_memory_takes_the_place_of_its_image(served: Served) -> None:
    served.do.rename("/image.ram", "/image")
    served.volumes.flush()
    handle = served.do.open("/image", os.O_RDWR)
    assert served.bytes_of(handle) == served.content.memory
    served.do.release(None, handle)
    served.do.unlink("/image")
    assert served.is_empty()


def test_replacing_frees_image_and_memory(served: Served) -> None:
    for name in ("/one", "/two"):
        served.do.release(None, served.do.create(name, 0o600, os.O_RDWR))
    served.do.rename("/one", "/image.ram")
    served.do.rename("/two", "/image")
    served.do.unlink("/image")
    served.do.unlink("/image.ram")
    assert served.is_empty()


@pytest.mark.parametrize("first", ["image", "image.ram"])
def test_what_is_open_at_the_end_goes_with_the_mount(served: Served, first: str) -> None:
    order = [first, *({"image", "image.ram"} - {first})]
    for number, name in enumerate(order):
        served.do.open(f"/{name}", os.O_RDONLY)
        served.hide(f"/{name}", number)
    served.do.close()
    assert served.is_empty()


def test_a_crash_while_open_leaves_what_the_next_opening_removes(tmp_path: Path) -> None:
    content = store_in(tmp_path / "store")
    with Store.open(tmp_path / "store") as opened, Engine(opened) as engine:
        volumes = Volumes(engine)
        served = Served(volumes, content)
        served.do.open("/image", os.O_RDONLY)
        served.do.open("/image.ram", os.O_RDONLY)
        served.hide("/image", 1)
        served.hide("/image.ram", 2)
        volumes.flush()
        volumes.close()
        assert opened.check() == []
        opened.abandon()
    with open_volumes(tmp_path / "store") as volumes:
        assert Served(volumes, content).is_empty()


@pytest.mark.expected_log(r"reading /image: .*page")
def test_a_damaged_page_is_an_input_output_error(served: Served) -> None:
    handle = served.do.open("/image", os.O_RDONLY)
    memory = served.do.open("/image.ram", os.O_RDONLY)
    assert served.bytes_of(handle) == served.content.file
    payloads = served.volumes.store.path / "payloads"
    original = payloads.read_bytes()
    with payloads.open("r+b") as stream:
        stream.write(bytes(byte ^ 0xFF for byte in original))
    refused(errno.EIO, lambda: served.bytes_of(handle))
    with payloads.open("r+b") as stream:
        stream.write(original)
    assert served.bytes_of(handle) == served.content.file
    assert served.bytes_of(memory) == served.content.memory


@pytest.mark.expected_log(r"reading /image: the image's (head|layout)")
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"{}",
        b'{"layout": {"rows": 1, "size": 5, "extents": [[1, 1]]}, "container": null}',
    ],
)
def test_a_damaged_head_is_an_input_output_error_and_stops_nobody(
    tmp_path: Path, head: bytes
) -> None:
    content = store_in(tmp_path / "store")
    with open_volumes(tmp_path / "store") as volumes:
        image = volumes.namespace.lookup("/image")
        page = pack_head(head, 0) if head else b"x" * PAGE_SIZE
        volumes.write(image.skeleton, 0, page)
        do = Served(volumes, content).do
        handle = do.open("/image", os.O_RDONLY)
        refused(errno.EIO, lambda: do.read(None, memoryview(bytearray(10)), 0, handle))
        refused(errno.EIO, lambda: do.lseek(None, 0, os.SEEK_HOLE, handle))
        assert volumes.failed is None
        do.release(None, handle)
        do.close()


@pytest.mark.expected_log("the image's layout")
def test_a_damaged_layout_is_an_input_output_error_and_stops_nobody(tmp_path: Path) -> None:
    content = store_in(tmp_path / "store")
    random = Random(7)
    failed = 0
    with open_volumes(tmp_path / "store") as volumes:
        image = volumes.namespace.lookup("/image")
        first, _pages = open_image(image, volumes_reader(volumes)).head["layout"]["extents"][0]
        page = bytearray(PAGE_SIZE)
        volumes.read_into(image.skeleton, first * PAGE_SIZE, memoryview(page))
        for _ in range(150):
            damaged = bytearray(page)
            for _ in range(random.randrange(1, 5)):
                damaged[random.randrange(320)] = random.choice(
                    (0, 1, 5, 255, random.randrange(256))
                )
            volumes.write(image.skeleton, first * PAGE_SIZE, bytes(damaged))
            do = Served(volumes, content).do
            handle = do.open("/image", os.O_RDONLY)
            for offset in (0, len(content.file) // 2, len(content.file) - 9):
                out = memoryview(bytearray(5000))
                failed += answer(partial(do.read, None, out, offset, handle)) == errno.EIO
                answer(partial(do.lseek, None, offset, os.SEEK_HOLE, handle))
            assert volumes.failed is None
            do.release(None, handle)
            do.close()
    assert failed > 50


def answer(call: Callable[[], Any]) -> int:
    """The error number of a call that may go well (0) or find damage."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def volumes_reader(volumes: Volumes) -> ReadVolume:
    """Reads an image's parts as the mount does."""

    def read(number: int, offset: int, out: memoryview) -> None:
        assert volumes.read_into(number, offset, out) == len(out)

    return read


def test_many_images_are_open_at_once(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "store") as volumes:
        contents = [store(volumes.engine, f"/{number}", number) for number in range(10)]
        images = OpenImages(volumes)
        out = memoryview(bytearray(3000))
        for _ in range(2):
            for number, content in enumerate(contents):
                inode = volumes.namespace.lookup(f"/{number}")
                assert images.read_into(inode, 999, out) == 3000
                assert out == content.file[999:3999]
        assert len(images._files) == 8
        for number in range(10):
            images.forget(volumes.namespace.lookup(f"/{number}").number)
        assert not images._files


def test_a_layout_of_another_length_is_damage(tmp_path: Path) -> None:
    content = store_in(tmp_path / "store")
    with open_volumes(tmp_path / "store") as volumes:
        inode = volumes.namespace.lookup("/image")
        inode.size += 1
        with pytest.raises(CorruptStore, match=f"{len(content.file):,} bytes"):
            OpenImages(volumes).read_into(inode, 0, memoryview(bytearray(1)))
        inode.size -= 1


def test_parts_are_needed_while_their_image_is_hidden() -> None:
    names, handles = Namespace(), Handles()
    image, skeleton, memory = (names.create_orphan() for _ in range(3))
    names.make_image(image.number, 5, skeleton.number, memory.number)
    assert handles.image(handles.add(image)) is image
    assert handles.image(None) is handles.image(99) is None
    assert not handles.is_needed(memory.number)
    handles.hide("/.fuse_hidden1", image)
    assert handles.is_needed(memory.number)
    assert handles.is_needed(skeleton.number)
    assert not handles.is_needed(image.number)
    assert handles.reveal(image.number)
    assert not handles.is_needed(memory.number)
