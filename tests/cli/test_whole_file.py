"""What export writes appears whole or not at all, and what cannot be written is said at once."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from difffs.cli.main import main
from difffs.store import Store

CONTENT = os.urandom(3 << 20)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one volume, `volume`."""
    image = tmp_path / "image"
    image.write_bytes(CONTENT)
    path = tmp_path / "store"
    assert main(["import", str(path), str(image), "volume"]) == 0
    image.unlink()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to export into, with one file."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_bytes(b"old")
    return path


@pytest.fixture
def refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Export to a target that is refused, as a wrong argument and before a page is read."""

    def refused(target: Path | str) -> str:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(Store, "read_pages", lambda *_: pytest.fail("data is read"))
            assert main(["export", str(store), "volume", str(target)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "make room" not in line
        return line

    return refused


@contextmanager
def attribute(path: Path, letter: str) -> Iterator[None]:
    """Set an attribute of chattr(1)."""
    done = subprocess.run(["chattr", f"+{letter}", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no such attribute here: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{letter}", path], check=True)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "argument is empty"),
        ("folder", "is a directory"),
        ("folder/..", "is a directory"),
        ("new/", "names a directory"),
        ("new/.", "names a directory"),
        ("old/", "Not a directory"),
        ("old/new", "Not a directory"),
        ("missing/new", "directory is missing"),
        ("missing/../new", "directory is missing"),
        ("dangling", "directory is missing"),
        ("loop", "symbolic links"),
        ("loop/new", "symbolic links"),
        ("x" * 256, "too long"),
        ("../store/payloads", "lies in the store"),
        ("../store/new", "lies in the store"),
    ],
)
def test_paths_that_name_no_file(
    folder: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    words: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("missing/new")
    names = sorted(os.listdir(folder))
    assert words in refused(target)
    assert sorted(os.listdir(folder)) == names


def test_a_link_is_followed(store: Path, folder: Path) -> None:
    for name in ("old", "new"):
        link = folder.parent / name
        link.symlink_to(f"folder/{name}")
        assert main(["export", str(store), "volume", str(link)]) == 0
        assert link.is_symlink()
        assert (folder / name).read_bytes() == CONTENT


@pytest.mark.parametrize("letter", ["i", "a"])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_file_that_must_stay(
    folder: Path, refused: Callable[..., str], letter: str, whole_folder: bool
) -> None:
    with attribute(folder if whole_folder else folder / "old", letter):
        assert "Operation not permitted" in refused(folder / "old")
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"old"


def test_a_folder_that_takes_names_and_gives_none_back(store: Path, folder: Path) -> None:
    with attribute(folder, "a"):
        assert main(["export", str(store), "volume", str(folder / "new")]) == 0
    assert (folder / "new").read_bytes() == CONTENT
    assert sorted(os.listdir(folder)) == ["new", "old"]


def test_a_folder_that_is_read_only(folder: Path, refused: Callable[..., str]) -> None:
    if os.geteuid() != 0:
        folder.chmod(0o555)
        assert "Permission denied" in refused(folder / "new")
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], check=True)
    try:
        assert "Read-only file system" in refused(folder / "new")
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_mount_point(folder: Path, refused: Callable[..., str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount")
    (folder / "point").touch()
    subprocess.run(["mount", "--bind", folder / "old", folder / "point"], check=True)
    try:
        assert "is a mount point" in refused(folder / "point")
    finally:
        subprocess.run(["umount", folder / "point"], check=True)
    assert sorted(os.listdir(folder)) == ["old", "point"]


@pytest.mark.parametrize(
    ("number", "status"), [(errno.EBUSY, 2), (errno.EPERM, 2), (errno.ENOSPC, 8)]
)
def test_what_is_known_only_at_the_end(
    store: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    status: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.rename", fail)
    assert main(["export", str(store), "volume", str(folder / "old")]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert os.strerror(number) in line
    assert ("make room" in line) == (status == 8)
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"old"


# The command kills itself at the first progress that it makes.
KILLED = """
import os, signal, sys
from difffs.cli.main import main
from difffs.progress import Progress
Progress.update = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_killed_export_leaves_nothing(store: Path, folder: Path, name: str) -> None:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))
    except OSError as error:
        pytest.skip(f"no files without names here: {error}")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "export", store, "volume", folder / name], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["old", "new"])
@pytest.mark.parametrize("unnamed", [True, False])
def test_a_file_appears_whole(
    store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, unnamed: bool
) -> None:
    before = (folder / "old").open("rb")
    if not unnamed:  # as on file systems that have no such files
        monkeypatch.setattr("os.O_TMPFILE", os.O_DIRECTORY)
    seen = []
    read_pages = Store.read_pages

    def read(*words: object) -> None:
        seen.append(os.listdir(folder))
        read_pages(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "read_pages", read)
    assert main(["export", str(store), "volume", str(folder / name)]) == 0
    assert {len(names) for names in seen} == {1 if unnamed else 2}
    assert (folder / name).read_bytes() == CONTENT
    assert sorted(os.listdir(folder)) == sorted({"old", name})
    with before:
        assert before.read() == b"old", "it is replaced, not written to"


def test_a_name_that_is_taken_meanwhile(
    store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_pages = Store.read_pages

    def read(*words: object) -> None:
        (folder / "new").write_bytes(b"somebody else's")
        read_pages(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "read_pages", read)
    assert main(["export", str(store), "volume", str(folder / "new")]) == 0
    assert (folder / "new").read_bytes() == CONTENT
    assert sorted(os.listdir(folder)) == ["new", "old"]


def test_without_proc(store: Path, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to unmount /proc in a mount namespace of its own")
    script = 'umount --lazy /proc && "$@" new && exec "$@" old'
    unshare = ["unshare", "--mount", "sh", "-c", script, "sh"]
    command = [sys.executable, "-m", "difffs", "export", str(store), "volume"]
    subprocess.run([*unshare, *command], check=True, cwd=folder)
    assert {(folder / name).read_bytes() for name in ("old", "new")} == {CONTENT}
    assert sorted(os.listdir(folder)) == ["new", "old"]


def test_a_file_system_without_modes(
    store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as vfat does
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.fchmod", refuse)
    assert main(["export", str(store), "volume", str(folder / "new")]) == 0
    assert (folder / "new").read_bytes() == CONTENT
