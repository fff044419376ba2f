"""Control groups: those of this machine, and the files of either version."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.cgroup.finding import MemoryGroup, memory_group
from difffs.cgroup.group import Group, Usage, Version1Group, Version2Group, make_group
from difffs.doctor.host import Host
from difffs.errors import EnvironmentProblem

MIB = 1 << 20
HOLD = "import time; held = bytearray(b'x') * (64 << 20); print(flush=True); time.sleep(600)"


@pytest.fixture
def group() -> Iterator[Group]:
    if os.geteuid() != 0:
        pytest.skip("making groups needs root, or a delegated group")
    own = memory_group(Host())
    if own is None:
        pytest.skip("no memory controller")
    made = make_group(own, f"difffs-test-{os.getpid()}")
    yield made
    for process in made.processes() if made.folder.exists() else []:
        os.kill(process, 9)
    assert made.remove()


def test_a_process_in_a_group_is_charged_to_it(group: Group) -> None:
    assert group.processes() == []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, preexec_fn=group.enter
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert group.processes() == [process.pid]
        found = group.usage()
        assert found.anonymous >= 64 * MIB
        assert found.peak >= found.resident >= found.anonymous
        assert not group.remove(), "somebody is in it"
        process.kill()
    assert group.remove()
    assert not group.folder.exists()
    assert group.remove(), "once more does no harm"


def test_a_limit_moves_pages_of_files_out(group: Group, tmp_path: Path) -> None:
    """Clean pages of a file, which always can leave."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(64 * MIB))
    subprocess.run(["sync", file], check=True)
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    read = f"open({str(file)!r}, 'rb').read(); import time; print(flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", read], stdout=subprocess.PIPE, preexec_fn=group.enter
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = group.usage()
        if before.cached < 48 * MIB:
            process.kill()
            pytest.skip("this file system keeps no pages in the page cache")
        assert group.set_limit(before.resident - 32 * MIB)
        assert group.usage().resident <= before.resident - 30 * MIB
        assert group.set_limit(None)
        process.kill()


def test_what_cannot_leave_is_said(group: Group) -> None:
    """Anonymous memory, where there is no swap."""
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        pytest.skip("this machine swaps")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, preexec_fn=group.enter
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if group.version == 1:
            assert not group.set_limit(16 * MIB)
        assert process.poll() is None, "a limit that cannot be kept kills nobody"
        time.sleep(0.2)
        assert process.poll() is None
        process.kill()


def made_folder(tmp_path: Path, files: dict[str, str]) -> Path:
    folder = tmp_path / "group"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


VERSION_1 = {
    "memory.usage_in_bytes": "5000\n",
    "memory.max_usage_in_bytes": "9000\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.stat": "cache 1\nrss 2\ntotal_cache 3000\ntotal_rss 1900\n"
    "total_workingset_refault_anon 3\ntotal_workingset_refault_file 4\n",
}
VERSION_2 = {
    "memory.current": "5000\n",
    "memory.peak": "9000\n",
    "memory.high": "max\n",
    "memory.stat": "anon 1900\nfile 3000\nworkingset_refault_anon 3\nworkingset_refault_file 4\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n",
}


def test_the_files_of_version_1(tmp_path: Path) -> None:
    group = Version1Group(made_folder(tmp_path, VERSION_1))
    assert group.usage() == Usage(5000, 9000, 1900, 3000, 7, None)
    group.set_limit(4096)
    assert (group.folder / "memory.limit_in_bytes").read_text() == "4096"
    group.set_limit(None)
    assert (group.folder / "memory.limit_in_bytes").read_text() == "-1"


def test_the_files_of_version_2(tmp_path: Path) -> None:
    group = Version2Group(made_folder(tmp_path, VERSION_2))
    assert group.usage() == Usage(5000, 9000, 1900, 3000, 7, 1234)
    group.set_limit(4096)
    assert (group.folder / "memory.high").read_text() == "4096"
    group.set_limit(None)
    assert (group.folder / "memory.high").read_text() == "max"


def test_a_kernel_without_pressure_and_peak(tmp_path: Path) -> None:
    files = {name: VERSION_2[name] for name in ("memory.current", "memory.high", "memory.stat")}
    group = Version2Group(made_folder(tmp_path, files))
    assert group.usage() == Usage(5000, 5000, 1900, 3000, 7, None)


def test_without_a_memory_controller() -> None:
    with pytest.raises(EnvironmentProblem, match="memory controller"):
        make_group(None, "name")


def test_a_folder_without_the_controller_is_no_group(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(EnvironmentProblem, match="Delegate=yes"):
        make_group(MemoryGroup(2, str(tmp_path), str(own)), "name")
    assert not list(tmp_path.rglob("name")), "nothing is left behind"
