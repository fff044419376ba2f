"""Making a store, and what is left when that is cut off."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from difffs.errors import NotAStore, OutOfResources
from difffs.store import Store, creation, index
from tests.pages import guest_memory
from tests.stores import OpenStore

KILLED = """
import os, signal, sys
from difffs.store import creation, index, payloads, store
from difffs.store import format as names

def killed(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

owner = {
    "PayloadFile": creation,
    "Index": creation,
    "punch_hole": payloads,
    "synchronise_directory": creation,
    "write_format": names,
}[sys.argv[2]]
setattr(owner, sys.argv[2], killed)
store.Store.create(sys.argv[1])
"""


@pytest.mark.parametrize(
    "step", ["PayloadFile", "punch_hole", "Index", "synchronise_directory", "write_format"]
)
def test_a_store_whose_making_was_killed_is_made_again(tmp_path: Path, step: str) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-c", KILLED, str(path), step]
    assert subprocess.run(command, check=False).returncode == -9
    assert path.is_dir()
    assert not (path / "format").exists()
    with Store.open_or_create(path) as store:
        assert store.check() == []


def test_a_store_that_holds_something_is_never_made_again(tmp_path: Path) -> None:
    """Though the file that says what it is has been lost."""
    opened = OpenStore(tmp_path / "s")
    opened.write(opened.new_volume("a", 50), 0, guest_memory(1, 50))
    opened.engine.commit()
    opened.close()
    text = (tmp_path / "s" / "format").read_text()
    (tmp_path / "s" / "format").unlink()
    with pytest.raises(NotAStore):
        Store.open_or_create(tmp_path / "s")
    with pytest.raises(NotAStore):
        Store.create(tmp_path / "s")
    (tmp_path / "s" / "format").write_text(text)
    with Store.open(tmp_path / "s") as store:
        assert store.page_counts()["total"] == 50


def test_the_root_of_a_fresh_file_system_is_empty(tmp_path: Path) -> None:
    (tmp_path / "s" / "lost+found").mkdir(parents=True)
    with Store.open_or_create(tmp_path / "s") as store:
        assert store.check() == []


def test_a_folder_with_other_files_is_no_unfinished_store(tmp_path: Path) -> None:
    for name in ("payloads", "other"):
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s" / name).write_text("mine")
        with pytest.raises(NotAStore):
            Store.open_or_create(tmp_path / "s")
        assert (tmp_path / "s" / name).read_text() == "mine"


def test_several_at_once_make_one_store(tmp_path: Path) -> None:
    """One makes it, the others find it: open to somebody, or whole."""
    script = (
        "import sys\n"
        "from difffs.errors import StoreBusy\n"
        "from difffs.store import Store\n"
        "sys.stdin.read(1)\n"
        "try: Store.open_or_create(sys.argv[1]).close()\n"
        "except StoreBusy: print('busy')\n"
        "else: print('opened')\n"
    )
    for number in range(5):
        path = tmp_path / f"s{number}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in processes:  # all have started
            assert process.stdin is not None
            process.stdin.write("x")
            process.stdin.flush()
        said = {process.communicate()[0].strip() for process in processes}
        assert "opened" in said
        assert said <= {"opened", "busy"}, said
        with Store.open(path) as store:
            assert store.check() == []


def test_what_is_left_after_a_power_cut_is_known_by_its_payload_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are on the medium in the order in which they are made: an index without `payloads`
    would be taken for a store that has lost them."""
    on_medium: set[str] = set()
    synchronise = index.synchronise_directory

    def note(path: Path) -> None:
        synchronise(path)
        if path == tmp_path / "s":
            on_medium.update(os.listdir(path))

    make = index.Index

    def make_index(*arguments: Any, **more: Any) -> Any:
        assert on_medium == {"payloads", "index-2"}
        return make(*arguments, **more)

    monkeypatch.setattr(creation, "synchronise_directory", note)
    monkeypatch.setattr(creation, "Index", make_index)
    Store.create(tmp_path / "s").close()
    assert "format" in on_medium


def test_what_cannot_be_removed_for_want_of_files_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a store fails, and so does removing what was made of it."""

    synchronise = index.synchronise_directory

    def refuse(path: Path) -> None:
        if path.name == "index-2":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        synchronise(path)

    with monkeypatch.context() as patch:
        patch.setattr(creation, "synchronise_directory", refuse)
        patch.setattr(creation, "rmtree", lambda *_arguments, **_options: None)
        with pytest.raises(OutOfResources):
            Store.open_or_create(tmp_path / "s")
    Store.open_or_create(tmp_path / "s").close()


REMOVED_HALF = """
import os, signal, sys
from difffs.store import creation, store

unlink, rmdir = os.unlink, os.rmdir
left = int(sys.argv[2])

def change(call):
    def changed(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return changed

os.unlink, os.rmdir = change(unlink), change(rmdir)
store.Store.create(sys.argv[1])
"""


def test_a_store_whose_removal_was_killed_too_is_made_again(tmp_path: Path) -> None:
    """What a cut-off making has left is removed first; that may be killed after any step."""
    path = tmp_path / "s"
    for steps in range(12):
        killed = [sys.executable, "-c", KILLED, str(path), "write_format"]
        assert subprocess.run(killed, check=False).returncode == -9
        half = [sys.executable, "-c", REMOVED_HALF, str(path), str(steps)]
        done = subprocess.run(half, check=False, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        Store.open_or_create(path).close()
        if done.returncode == 0:
            assert steps >= 3
            return
        shutil.rmtree(path)
    pytest.fail("it never came to an end")
