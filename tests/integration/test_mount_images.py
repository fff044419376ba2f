"""Images in a real mount: what programs read, what is refused, and what is left when they go."""

import errno
import json
import mmap
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.integration.harness import Mounted, difffs, wait_until
from tests.mount.invented_image import Content, store_in

pytestmark = pytest.mark.integration

PAGE = 4096


@pytest.fixture
def content(mount: Mounted) -> Content:
    """The mount gets an image, ``image`` with ``image.ram``; what they are to hold."""
    mount.unmount()
    made = store_in(mount.store)
    mount.mount()
    return made


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file for the time of the context."""
    file = os.open(path, flags)
    try:
        yield file
    finally:
        os.close(file)


def refused(number: int, call: Callable[[], object]) -> None:
    """Expect an OSError with this number."""
    with pytest.raises(OSError, match="Errno") as caught:
        call()
    assert caught.value.errno == number


def run(*words: str | Path) -> str:
    """Run a program that must succeed; return what it printed."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout


def objects(mount: Mounted) -> int:
    """Pages that the store has after all that was removed is freed."""
    total: int = mount.statistics()["pages"]["total"]
    return total


def test_programs_read_the_file_and_the_memory(mount: Mounted, content: Content) -> None:
    for name, expected in (("image", content.file), ("image.ram", content.memory)):
        path = mount.path / name
        assert path.read_bytes() == expected
        assert path.stat().st_size == len(expected)
        with opened(path) as file:
            random = Random(5)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            for _ in range(200):
                offset = random.randrange(len(expected))
                count = random.choice([1, 100, PAGE, 50_000])
                assert os.pread(file, count, offset) == expected[offset : offset + count]
            for access in (mmap.ACCESS_READ, mmap.ACCESS_COPY):
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                with mmap.mmap(file, 0, access=access) as mapped:
                    assert mapped[:] == expected
                    if access == mmap.ACCESS_COPY:
                        mapped[7] ^= 1  # a page of the program's own
        with opened(path, os.O_RDONLY | os.O_DIRECT) as file, mmap.mmap(-1, 1 << 20) as buffer:
            assert os.preadv(file, [buffer], 2 * PAGE) == min(1 << 20, len(expected) - 2 * PAGE)
            assert buffer[: 10 * PAGE] == expected[2 * PAGE : 12 * PAGE]
    assert (mount.path / "image.ram").read_bytes() == content.memory


def test_a_read_only_mount_serves_images(mount: Mounted, content: Content) -> None:
    mount.remount("-o", "ro")
    assert (mount.path / "image").read_bytes() == content.file
    assert (mount.path / "image.ram").read_bytes() == content.memory
    refused(errno.EROFS, lambda: os.open(mount.path / "image", os.O_RDWR))
    with opened(mount.path / "image") as file:
        assert os.lseek(file, 0, os.SEEK_HOLE) > 0


def test_nobody_changes_an_image_or_its_memory(mount: Mounted, content: Content) -> None:
    for name in ("image", "image.ram"):
        path = mount.path / name
        os.chmod(path, 0o666)
        os.utime(path, (5, 6))
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o666, 6)
        for flags in (
            os.O_WRONLY,
            os.O_RDWR,
            os.O_WRONLY | os.O_APPEND,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
            os.O_RDONLY | os.O_TRUNC,
        ):
            refused(errno.EPERM, partial(os.open, path, flags))
        refused(errno.EPERM, partial(os.truncate, path, 5))
        run("touch", path)
    assert (mount.path / "image").read_bytes() == content.file
    assert (mount.path / "image.ram").read_bytes() == content.memory
    mount.remount()
    assert (mount.path / "image").read_bytes() == content.file
    os.unlink(mount.path / "image")
    with opened(mount.path / "image.ram", os.O_RDWR) as file:
        os.pwrite(file, b"mine", 10)
        os.ftruncate(file, 2 * PAGE)
    changed = content.memory[:10] + b"mine" + content.memory[14 : 2 * PAGE]
    assert (mount.path / "image.ram").read_bytes() == changed
    mount.remount()
    assert (mount.path / "image.ram").read_bytes() == changed


def test_copies_and_archives_have_every_byte(mount: Mounted, content: Content) -> None:
    names = ("image", "image.ram")
    outside = mount.folder / "outside"
    outside.mkdir()
    for kind in ("auto", "always", "never"):
        run("cp", f"--sparse={kind}", *(mount.path / name for name in names), outside)
        assert (outside / "image").read_bytes() == content.file
        assert (outside / "image.ram").read_bytes() == content.memory
    archive = outside / "archive.tar"
    for options in (["-S"], ["-S", "--hole-detection=seek"], []):
        run("tar", "-C", mount.path, "-cf", archive, *options, *names)
        unpacked = outside / "unpacked"
        unpacked.mkdir()
        run("tar", "-C", unpacked, "-xf", archive)
        assert (unpacked / "image").read_bytes() == content.file
        assert (unpacked / "image.ram").read_bytes() == content.memory
        shutil.rmtree(unpacked)
    before = objects(mount)
    run("cp", mount.path / "image.ram", mount.path / "clone")  # this one may be changed
    with opened(mount.path / "clone", os.O_RDWR) as file:
        os.pwrite(file, b"x", 0)
        os.fsync(file)
    assert (mount.path / "clone").read_bytes() == b"x" + content.memory[1:]
    assert objects(mount) == before + len(content.memory) // PAGE
    assert (mount.path / "image.ram").read_bytes() == content.memory


def test_what_images_take_is_shown(mount: Mounted, content: Content) -> None:
    status = (mount.path / "image").stat()
    assert status.st_blocks * 512 == -(-len(content.file) // PAGE) * PAGE
    listed = json.loads(difffs("ls", mount.path, "--json").stdout)["volumes"]
    figures = {row["name"]: row for row in listed}
    assert figures["image"]["size"] == len(content.file)
    assert 0 < figures["image"]["pages"] < len(content.file) // PAGE
    assert figures["image.ram"]["pages"] == len(content.memory) // PAGE
    both = figures["image"]["pages"] + figures["image.ram"]["pages"]
    assert mount.statistics()["pages"]["total"] == both
    found = os.statvfs(mount.path)
    stored = figures["image"]["stored"] + figures["image.ram"]["stored"]
    assert (found.f_blocks - found.f_bfree) * found.f_frsize >= stored
    mount.unmount()
    assert json.loads(difffs("ls", mount.store, "--json").stdout)["total"]["pages"] > 0
    mount.mount()


@pytest.mark.parametrize("order", [("image", "image.ram"), ("image.ram", "image"), ()])
def test_both_are_removed_in_any_order(
    mount: Mounted, content: Content, order: tuple[str, ...]
) -> None:
    folder = mount.path / "folder"
    folder.mkdir()
    for name in ("image", "image.ram"):
        os.rename(mount.path / name, folder / name)
    assert (folder / "image").read_bytes() == content.file
    if order:
        for name in order:
            os.unlink(folder / name)
            if name == "image.ram" and order[0] == name:
                mount.remount()
                assert os.listdir(folder) == ["image"]
                assert (folder / "image").read_bytes() == content.file
    else:
        run("rm", "-r", folder)
    assert objects(mount) == 0


@pytest.mark.parametrize("closed_first", ["image", "image.ram"])
def test_open_files_are_read_after_their_names_are_gone(
    mount: Mounted, content: Content, closed_first: str
) -> None:
    expected = {"image": content.file, "image.ram": content.memory}
    files = {name: os.open(mount.path / name, os.O_RDONLY) for name in expected}
    for name in expected:
        os.unlink(mount.path / name)
    assert os.listdir(mount.path) == []
    assert objects(mount) > 0
    order = [closed_first, *(set(files) - {closed_first})]
    for name in order:
        for each, file in files.items():
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(file, 4 << 20, 0) == expected[each]
            assert os.fstat(file).st_nlink == 0
        os.close(files.pop(name))
        mount.commit()
    wait_until(lambda: objects(mount) == 0)


def test_the_memory_of_an_image_that_is_open_stays_as_it_is(
    mount: Mounted, content: Content
) -> None:
    with opened(mount.path / "image") as file:
        os.unlink(mount.path / "image")
        refused(errno.EPERM, lambda: os.open(mount.path / "image.ram", os.O_RDWR))
        again = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
        os.posix_fadvise(again, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(again, 4 << 20, 0) == content.file
        os.close(again)

    def writable() -> bool:  # a close is told to the mount a little later
        with suppress(PermissionError), opened(mount.path / "image.ram", os.O_RDWR):
            return True
        return False

    wait_until(writable)


def test_what_takes_the_place_of_open_files_leaves_them_be(
    mount: Mounted, content: Content
) -> None:
    expected = {"image": content.file, "image.ram": content.memory}
    files = {name: os.open(mount.path / name, os.O_RDONLY) for name in expected}
    for name in expected:
        (mount.path / "new").write_bytes(b"new")
        os.rename(mount.path / "new", mount.path / name)
    for name, file in files.items():
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file, 4 << 20, 0) == expected[name]
        os.close(file)
        assert (mount.path / name).read_bytes() == b"new"
        (mount.path / name).write_bytes(b"and writable")
    wait_until(lambda: objects(mount) == 2)


@pytest.mark.parametrize("names", [("image",), ("image", "image.ram"), ("image.ram",)])
def test_a_crash_loses_no_space(mount: Mounted, content: Content, names: tuple[str, ...]) -> None:
    files = [os.open(mount.path / name, os.O_RDONLY) for name in ("image", "image.ram")]
    for name in names:
        os.unlink(mount.path / name)
    mount.commit()
    mount.kill()
    for file in files:
        with suppress(OSError):
            os.close(file)
    mount.check()
    mount.mount()
    if "image" in names:
        expected = 0 if "image.ram" in names else len(content.memory) // PAGE
        wait_until(lambda: objects(mount) == expected)
    else:
        assert (mount.path / "image").read_bytes() == content.file
    if "image.ram" not in names:
        assert (mount.path / "image.ram").read_bytes() == content.memory


def test_others_write_while_an_image_is_read(mount: Mounted, content: Content) -> None:
    done = threading.Event()
    failures: list[int] = []

    def read() -> None:
        with opened(mount.path / "image") as file:
            while not done.is_set():
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                if os.pread(file, 4 << 20, 0) != content.file:
                    failures.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(5):
            data = Random(number).randbytes(2 << 20)
            with (mount.path / f"file{number}").open("wb") as stream:
                stream.write(data)
                os.fsync(stream.fileno())
            os.unlink(mount.path / f"file{number}")
    finally:
        done.set()
        reader.join()
    assert not failures


def test_a_damaged_page_is_an_input_output_error(mount: Mounted, content: Content) -> None:
    mount.unmount()
    payloads = mount.store / "payloads"
    original = payloads.read_bytes()
    payloads.write_bytes(bytes(byte ^ 0xFF for byte in original))
    mount.mount()
    mount.expected_log += [r"reading /image: .*"]
    with opened(mount.path / "image") as file:
        refused(errno.EIO, lambda: os.pread(file, 100, 0))
    assert mount.statistics()["failed_requests"]["EIO"] >= 1
    payloads.write_bytes(original)
    mount.remount()
    assert (mount.path / "image").read_bytes() == content.file


_GUEST = (
    b"\x31\xc0\x8e\xd8"  # xor ax, ax; mov ds, ax
    b"\xc7\x06\x00\x10\xef\xbe"  # mov word [0x1000], 0xbeef
    b"\xa1\x00\x10"  # mov ax, [0x1000]
    b"\xba\x02\x04\xee\x88\xe0\xee"  # mov dx, 0x402; out dx, al; mov al, ah; out dx, al
    b"\xf4\xeb\xfd"  # hlt, and again
)
"""Writes to its memory and tells over the debug port what it then finds there."""


def _run_clone(folder: Path, memory: Path, options: str) -> tuple[bytes, bytes]:
    """Run the guest on the memory; return what it found and its lowest 640 KiB in the end."""
    firmware = bytearray(1 << 16)
    firmware[: len(_GUEST)] = _GUEST
    firmware[-16:-13] = b"\xe9" + (13).to_bytes(2, "little")  # to the beginning
    (folder / "firmware").write_bytes(firmware)
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,tb-size=32", "-m", "1M", "-nodefaults"),
        *("-object", f"memory-backend-file,id=ram,size=1M,mem-path={memory},{options}"),
        *("-machine", "microvm,memory-backend=ram", "-bios", str(folder / "firmware")),
        *("-chardev", f"file,id=port,path={folder / 'port'}"),
        *("-device", "isa-debugcon,iobase=0x402,chardev=port"),
        *("-display", "none", "-monitor", "stdio"),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            port = folder / "port"
            wait_until(lambda: port.exists() and port.stat().st_size == 2, 60)
            process.communicate(b'pmemsave 0 0xa0000 "%s"\nquit\n' % bytes(folder / "saved"), 60)
        finally:
            process.kill()
    return port.read_bytes(), (folder / "saved").read_bytes()


@pytest.mark.timeout(200)
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU")
def test_a_clone_runs_on_the_memory(mount: Mounted, content: Content) -> None:
    """With ``rom=off`` (QEMU 8.2) it has pages of its own where it writes; without, its memory is
    read-only to itself, and what it writes is lost."""
    shown = run("qemu-system-x86_64", "-object", "memory-backend-file,help")
    writes = "rom=" in shown
    options = "share=off,readonly=on" + (",rom=off" if writes else "")
    found, saved = _run_clone(mount.folder, mount.path / "image.ram", options)
    before = content.memory[PAGE : PAGE + 2]
    assert found == (b"\xef\xbe" if writes else before)
    assert saved[:PAGE] == content.memory[:PAGE]
    assert saved[PAGE : PAGE + 2] == found
    assert saved[PAGE + 2 :] == content.memory[PAGE + 2 : len(saved)]
    assert (mount.path / "image.ram").read_bytes() == content.memory
    assert (mount.path / "image").read_bytes() == content.file
