"""What a command does when its standard streams are closed, full, or gone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from difffs.cli.main import main

CONTENT = b"page " * 30_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one volume, `volume`."""
    image = tmp_path / "image"
    image.write_bytes(CONTENT)
    path = tmp_path / "store"
    assert main(["import", str(path), str(image), "volume"]) == 0
    return path


def shell(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `difffs` is this one and $1, $2, ... are the words."""
    return subprocess.run(
        [
            "bash",
            "-c",
            f'difffs() {{ {sys.executable} -m difffs "$@"; }}\n{script}',
            "bash",
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_import_from_a_closed_stdin_is_no_empty_volume(store: Path) -> None:
    done = shell("difffs import $1 - new <&-", store)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert main(["export", str(store), "new", "-"]) == 10


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_commands_work_with_closed_descriptors(store: Path, closed: str) -> None:
    done = shell(f"difffs stats $1 {closed} && difffs check $1 {closed}", store)
    assert done.returncode == 0
    assert "clean" in done.stdout
    assert done.stderr == ""
    done = shell(f"difffs export $1 volume - {closed}", store)
    assert done.stdout.encode() == CONTENT


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_import_with_closed_descriptors_keeps_its_files_apart(
    store: Path, tmp_path: Path, closed: str
) -> None:
    shell(f"difffs import $1 $2 again {closed}", store, tmp_path / "image")
    assert main(["check", str(store)]) == 0
    assert main(["export", str(store), "again", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == CONTENT


PRINTING = [
    "export $1 volume -",
    "stats $1",
    "stats $1 --json",
    "check $1",
    "import $1 $2 another",
    "--help",
    "--version",
    "import --help",
]


@pytest.mark.parametrize("command", PRINTING)
@pytest.mark.parametrize("target", [">/dev/full", ">&-"])
def test_what_cannot_be_printed_is_one_line(
    store: Path, tmp_path: Path, command: str, target: str
) -> None:
    done = shell(f"difffs {command} {target}", store, tmp_path / "image")
    assert done.returncode == 8
    (line,) = done.stderr.splitlines()
    assert line.startswith("difffs: stdout cannot be written: ")
    if command.startswith("import $1"):  # what was done stays done
        assert main(["export", str(store), "another", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out").read_bytes() == CONTENT


@contextmanager
def pipe_without_a_reader() -> Iterator[int]:
    """The end of a pipe to write to."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_has_gone_ends_a_command_quietly(
    store: Path, tmp_path: Path, command: str
) -> None:
    words = command.replace("$1", str(store)).replace("$2", str(tmp_path / "image")).split()
    with pipe_without_a_reader() as writer:
        done = subprocess.run(
            [sys.executable, "-m", "difffs", *words],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("stats $1", 0),
        ("stats $1 >/dev/full", 8),
        ("export $1 volume -", 0),
        ("export $1 nothing -", 10),
        ("export $1", 2),
        ("stats $1/missing", 3),
    ],
)
@pytest.mark.parametrize("target", ["2>/dev/full", "2>&-", "2> >(exec true)"])
def test_messages_that_nobody_takes_change_nothing(
    store: Path, command: str, status: int, target: str
) -> None:
    assert shell(f"difffs {command} {target}", store).returncode == status


def test_export_to_what_is_full(store: Path) -> None:
    done = shell("difffs export $1 volume /dev/full", store)
    assert done.returncode == 8
    assert len(done.stderr.splitlines()) == 1
    assert "/dev/full" in done.stderr


@pytest.mark.parametrize("target", ["out", "-"])
def test_export_beyond_the_largest_file(store: Path, tmp_path: Path, target: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    done = shell(f"cd $2; ulimit -f 8; difffs export $1 volume {target} >stdout", store, folder)
    assert done.returncode == 8
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(folder) == ["stdout"]


def test_import_beyond_the_largest_file(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(os.urandom(4 << 20))
    done = shell("ulimit -f 2048; difffs import $1/store $1/image", tmp_path)
    assert done.returncode == 8
    assert len(done.stderr.splitlines()) == 1
    assert main(["check", str(tmp_path / "store")]) == 0


STRANGE = b"caf\xe9 \xe2\x82\xac".decode("utf-8", "surrogateescape")
"""One byte that is no UTF-8, and a character that ASCII and Latin-1 lack."""


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({"PYTHONIOENCODING": "utf-8:strict"}, b"caf\xe9 \xe2\x82\xac"),
        ({"PYTHONIOENCODING": "ascii:strict"}, b"caf\xe9 \\u20ac"),
        ({"PYTHONIOENCODING": "latin-1:strict"}, b"caf\xe9 \\u20ac"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"caf\xe9 "),
        ({"LC_ALL": "C"}, b"caf\xe9 \xe2\x82\xac"),
    ],
)
def test_names_are_printed_whatever_they_are(
    tmp_path: Path, environment: dict[str, str], printed: bytes
) -> None:
    image = tmp_path / STRANGE
    image.write_bytes(CONTENT)
    command = [sys.executable, "-m", "difffs"]
    done = subprocess.run(
        [*command, "import", tmp_path / "store", image],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"imported " + printed)
    done = subprocess.run(
        [*command, "export", tmp_path / "store", "nothing", "-"],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 10
    assert b"it holds " + printed in done.stderr


@pytest.mark.parametrize("target", ["| cat >out", ">out"])
def test_an_image_that_is_stdout_has_nothing_else_in_it(
    store: Path, tmp_path: Path, target: str
) -> None:
    done = shell(f"cd $2; difffs export $1 volume /dev/stdout {target}", store, tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("exported volume")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_an_image_whose_name_is_gone_is_written_to(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    script = "cd $2; exec 3<>out; echo old >&3; rm out; difffs export $1 volume /dev/fd/3"
    done = shell(f"{script} && cat /dev/fd/3 >out", store, folder)
    assert done.returncode == 0
    assert (folder / "out").read_bytes() == CONTENT
    assert os.listdir(folder) == ["out"]


def test_room_is_asked_for_only_where_there_is_none(store: Path) -> None:
    assert "make room" in shell("difffs stats $1 >/dev/full", store).stderr
    assert "make room" not in shell("difffs stats $1 >&-", store).stderr
