"""What a process takes, with mappings of known sizes."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cloning.process_memory import process_memory, writes_to

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with contents."""
    path = tmp_path / "memory"
    path.write_bytes(b"page" * (SIZE // 4))
    return path


def test_changed_pages_are_told_from_those_that_are_only_read(file: Path) -> None:
    before = process_memory(os.getpid(), [file])
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), SIZE, mmap.MAP_PRIVATE) as view:
        assert view[:: mmap.PAGESIZE].count(b"p") == SIZE // mmap.PAGESIZE
        read = process_memory(os.getpid(), [file])
        assert (before.changed, read.changed) == (0, 0)
        view[: 2 * MIB] = bytes(2 * MIB)
        assert process_memory(os.getpid(), [file]).changed == 2 * MIB
        other = file.with_name("other")
        other.touch()
        elsewhere = process_memory(os.getpid(), [other])
        assert elsewhere.changed == 0
        assert elsewhere.own >= before.own + MIB, "it counts as any other memory"
    assert file.read_bytes()[:4] == b"page"
    assert before.page_tables > 0
    assert before.private == before.changed + before.own + before.page_tables


def test_memory_of_its_own_is_counted(file: Path) -> None:
    """In a process that does nothing else: its own, and that it is not a program's."""
    program = "import sys; held = bytearray(b'x' * (64 << 20)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = process_memory(process.pid, [file])
        assert 64 * MIB <= found.own < 96 * MIB
        assert 0 < found.program < 32 * MIB
        process.communicate(b"")


def test_who_can_change_a_file_for_others_is_found(file: Path) -> None:
    assert writes_to(file) is None
    with file.open("r+b") as stream:
        with mmap.mmap(stream.fileno(), SIZE, mmap.MAP_PRIVATE):
            assert writes_to(file) is None
        with mmap.mmap(stream.fileno(), SIZE, prot=mmap.PROT_READ):
            assert writes_to(file) is None
        with mmap.mmap(stream.fileno(), SIZE):
            assert writes_to(file) == os.getpid()
    assert writes_to(file) is None
