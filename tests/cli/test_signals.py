"""Commands that are ended by a signal put away what they have begun, or leave it to the next that
writes; SIGUSR1 ends none."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from difffs.cli.main import main
from difffs.engine import Engine
from difffs.signals import EndedBySignal
from difffs.store import Store
from tests.images.elf_builder import elf_core
from tests.pages import guest_memory

ENDING = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]

# The command sends itself a signal at the first progress that it makes.
SCRIPT = """
import os, signal, sys
from difffs.cli.main import main
from difffs.progress import Progress
number, ignored = int(sys.argv[1]), sys.argv[2] == "ignored"
for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    default = signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL
    signal.signal(one, signal.SIG_IGN if ignored else default)
update = Progress.update
def end(self, done, total=None):
    update(self, done, total)
    os.kill(os.getpid(), number)
Progress.update = end
sys.exit(main(sys.argv[3:]))
"""


def run(number: int, *words: str | Path, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command that gets a signal in its middle."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(number), "ignored" if ignored else "-", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one volume, `volume`."""
    (tmp_path / "image").write_bytes(os.urandom(12 << 20))
    path = tmp_path / "store"
    assert main(["import", str(path), str(tmp_path / "image"), "volume"]) == 0
    return path


def said(number: signal.Signals) -> str:
    return "interrupted" if number == signal.SIGINT else f"ended by {number.name}"


@pytest.mark.parametrize("number", ENDING)
def test_export_leaves_nothing_behind(store: Path, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "folder").mkdir()
    done = run(number, "export", store, "volume", tmp_path / "folder" / "image")
    assert done.returncode == 128 + number
    assert done.stderr == f"difffs: {said(number)}\n"
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.parametrize("number", ENDING)
def test_import_leaves_no_volume(store: Path, tmp_path: Path, number: signal.Signals) -> None:
    done = run(number, "import", store, tmp_path / "image", "folder/another")
    assert done.returncode == 128 + number
    assert done.stderr == f"difffs: {said(number)}\n"
    with Store.open(store, read_only=True) as opened:
        assert opened.check() == []
        assert opened.namespace.orphans() == []
        assert [each.name for each in opened.namespace] == ["", "volume"]


def test_under_nohup_it_goes_on(store: Path, tmp_path: Path) -> None:
    done = run(signal.SIGHUP, "export", store, "volume", tmp_path / "out", ignored=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "image").read_bytes()


@contextmanager
def waiting_import(store: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """An import that has read something from its pipe, and waits for more."""
    command = [sys.executable, "-m", "difffs", "import", str(store), "-", "new", *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0
    )
    try:
        assert process.stdin is not None
        rest = memoryview(bytes(9 << 20))  # a batch, and more than the pipe holds of the next
        while rest:
            rest = rest[process.stdin.write(rest) or 0 :]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_sigusr1_asks_an_import_how_far_it_is(store: Path) -> None:
    with waiting_import(store) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.send_signal(signal.SIGUSR1)
        line = process.stderr.readline().decode()
        assert re.match(r"import new: 8\.00 MiB, .*/s\n", line)
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, b"")
    with Store.open(store, read_only=True) as opened:
        assert opened.namespace.lookup("/new").size == 9 << 20


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_import_that_waits_ends(store: Path, workers: str) -> None:
    with waiting_import(store, "--workers", workers) as process:
        process.terminate()
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 143
        assert complaint == b"difffs: ended by SIGTERM\n"
    with Store.open(store, read_only=True) as opened:
        assert not opened.namespace.exists("/new")


def test_a_command_without_progress_ignores_sigusr1(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from difffs import stats

    original = stats.collect

    def collect(opened: Store) -> object:
        os.kill(os.getpid(), signal.SIGUSR1)
        return original(opened)

    monkeypatch.setattr(stats, "collect", collect)
    capsys.readouterr()
    assert main(["stats", str(store)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("end", [KeyboardInterrupt(), EndedBySignal(signal.SIGTERM)])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "image"])
def test_a_signal_between_packing_and_mapping_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, packed: bool
) -> None:
    memory = guest_memory(seed=5, pages=3000)
    image, store = tmp_path / "image", tmp_path / "store"
    image.write_bytes(elf_core([(0, memory)]) if packed else memory)
    (tmp_path / "other").write_bytes(memory[: 40 * 4096])
    assert main(["import", str(store), str(tmp_path / "other")]) == 0
    calls = 0
    adopt = Engine.adopt

    def adopt_or_end(self: Engine, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise end
        adopt(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "adopt", adopt_or_end)
        assert main(["import", str(store), str(image)]) in (130, 143)
    assert calls == 3
    with Store.open(store, read_only=True) as opened:
        assert opened.check() == []
        assert [each.name for each in opened.namespace.volumes()] == ["other"]
    assert main(["import", str(store), str(image)]) == 0
    with Store.open(store, read_only=True) as opened:
        assert opened.check() == []
