"""Working on the host for a moment: tools, kernel settings, loop devices, and putting all back."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Image

CHUNK = 1 << 20
"""Bytes that images are written in at a time."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SECONDS = 1800


def kernel() -> str:
    """The running kernel's release."""
    return os.uname().release


def tool_obstacle(program: str, package: str) -> str | None:
    """Say that a program is missing and which Debian package has it, or None."""
    return None if shutil.which(program) else f"no {program} (install the package {package})"


def run_tool(*command: str | Path) -> str:
    """Run a program; return what it prints. EnvironmentProblem with its complaint."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip()[-400:]
        raise EnvironmentProblem(f"{words[0]} exited with {done.returncode}: {complaint}")
    return done.stdout


def version_of(program: str, option: str) -> str:
    """The first line that a program tells about itself, on whichever output."""
    done = subprocess.run([program, option], check=False, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip("* ") if lines else "unknown"


@contextmanager
def undone_when_interrupted() -> Iterator[None]:
    """Turn the first of SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt and ignore the others,
    so that what a block has changed is put back once and undisturbed.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {one: signal.signal(one, interrupt) for one in _SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other study uses the part of the kernel that this setting belongs to."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """Have a kernel setting for the length of a block. EnvironmentProblem when it is refused."""
    try:
        before = chosen(path.read_text())
        path.write_text(value)
    except OSError as error:
        raise EnvironmentProblem(f"{path} does not take {value}: {error.strerror}") from None
    try:
        yield
    finally:
        path.write_text(before)


def chosen(text: str) -> str:
    """The value of a setting: where it lists all that there are, the one in brackets."""
    words = text.split()
    return next((word[1:-1] for word in words if word.startswith("[")), text.strip())


def choices(text: str) -> list[str]:
    """All values of a setting that lists them, as in ``[lzo-rle] lzo lz4``."""
    return [word.strip("[]") for word in text.split()]


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """A loop device over a file. EnvironmentProblem when there is none to be had."""
    device = Path(run_tool("losetup", "--find", "--show", file).strip())
    try:
        yield device
    finally:
        run_tool("losetup", "--detach", device)


@contextmanager
def sparse_file(path: Path, size: int) -> Iterator[Path]:
    """A new file of holes; removed afterwards."""
    with path.open("wb") as file:
        file.truncate(size)
    try:
        yield path
    finally:
        path.unlink()


def chunks(images: Iterable[Image]) -> Iterator[memoryview]:
    """The images' pages one behind the other, in chunks that are valid until the next one.

    Read instead of mapped: what is mapped counts as memory of the process. Aligned for O_DIRECT.
    """
    buffer = mmap.mmap(-1, CHUNK)
    with memoryview(buffer) as whole:
        for image in images:
            left = image.pages * PAGE_SIZE
            with image.path.open("rb", buffering=0) as file:
                while left:
                    length = file.readinto(whole[: min(CHUNK, left)])
                    if not length or length % PAGE_SIZE:
                        raise EnvironmentProblem(f"image {image.path} has become shorter")
                    left -= length
                    with whole[:length] as chunk:
                        yield chunk


def write_images(images: Sequence[Image], device: Path) -> float:
    """Write images one behind the other to a block device, past the page cache; return seconds."""
    began = time.monotonic()
    descriptor = os.open(device, os.O_WRONLY | os.O_DIRECT | os.O_EXCL)
    try:
        for chunk in chunks(images):
            if os.write(descriptor, chunk) != len(chunk):
                raise EnvironmentProblem(f"{device} took only part of an image")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return time.monotonic() - began


def copy_images(images: Sequence[Image], folder: Path) -> None:
    """Copy images into a folder, with their holes written as zeros, and have them on its device."""
    for number, image in enumerate(images):
        with (folder / f"{number}.mem").open("wb", buffering=0) as file:
            for chunk in chunks([image]):
                file.write(chunk)
            os.fsync(file.fileno())


def total_bytes(images: Sequence[Image]) -> int:
    """Logical bytes of some images."""
    return sum(image.pages for image in images) * PAGE_SIZE
