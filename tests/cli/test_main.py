"""The command line as such: help, errors in one line, exit codes, the mount helper's form."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from difffs import __version__
from difffs.cli import main as main_module
from difffs.cli.main import COMMANDS, build_parser, main, mount_helper_arguments
from difffs.errors import StoreBusy


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"difffs {__version__}\nlibzstd " in text
    assert "exit codes" in text
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["stats"], ["check", "a", "b"]])
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(tmp_path / "missing")]) == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("difffs: ")


def test_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "build_parser", interrupt)
    assert main(["stats", "x"]) == 130


def test_other_errors_are_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_: str | None) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(main_module, "build_parser", bug)
    with pytest.raises(ValueError, match="a bug"):
        main(["stats", "x"])


def test_each_command_runs_its_module() -> None:
    for name in COMMANDS:
        parser = build_parser(name)
        assert parser.prog == "difffs"


def test_light_start() -> None:
    """Help and errors do not load the store, the kernels or libfuse."""
    script = (
        "import sys; from difffs.cli.main import build_parser; build_parser('umount');"
        "print([m for m in sys.modules if m.split('.')[0] in ('lmdb', 'mfusepy')"
        " or m == 'difffs._kernels'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("command", ["import", "export", "check", "mount"])
def test_repairing_is_loaded_by_who_repairs(command: str) -> None:
    script = (
        f"import sys; from difffs.cli.main import build_parser; build_parser({command!r});"
        "print([m for m in sys.modules if 'repair' in m or 'salvage' in m])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["/s", "/m", "-o", "rw,dev"], ["mount", "-o", "rw,dev", "--", "/s", "/m"]),
        (["/s", "/m", "-n", "-v"], ["mount", "--", "/s", "/m"]),
        (["/s", "/m", "-f"], ["mount", "--fake", "--", "/s", "/m"]),
        (
            ["/s", "/m", "-o", "a", "-t", "fuse.difffs", "-o", "b"],
            ["mount", "-o", "a", "-o", "b", "--", "/s", "/m"],
        ),
    ],
)
def test_mount_helper(given: list[str], expected: list[str]) -> None:
    assert mount_helper_arguments(given) == expected


def test_when_it_is_called_as_a_mount_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def remember(arguments: list[str]) -> list[str]:
        seen.append(arguments)
        raise StoreBusy("stop here")

    monkeypatch.setattr(main_module, "mount_helper_arguments", remember)
    for program, arguments in (
        ("/usr/bin/difffs", ["/store", "/mnt", "-o", "rw"]),
        ("/usr/bin/difffs", ["./store", "mnt", "-o", "rw"]),
        ("/sbin/mount.fuse.difffs", ["/store", "/mnt"]),
    ):
        assert main(arguments, program) == StoreBusy.exit_code
        assert seen.pop() == arguments
    for arguments in (
        ["stat", "m", "-v"],  # mistyped, and no request to make a store of that name
        ["imports", "store", "-o", "rw"],
        ["ls", "-o", "rw"],
        ["mount", "/store", "-o"],
        ["/store", "/mnt"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments, "/usr/bin/difffs")
        assert caught.value.code == 2
        assert seen == []


@pytest.mark.parametrize(
    "words",
    [
        ["import", "", "image"],
        ["import", "store", ""],
        ["import", "store", "image", ""],
        ["export", "", "volume", "out"],
        ["export", "store", "volume", ""],
        ["mount", "", "folder"],
        ["mount", "store", ""],
        ["umount", ""],
        ["swapon", ""],
        ["swapoff", ""],
        ["ls", ""],
        ["rm", "", "volume"],
        ["rm", "store", ""],
        ["mv", "store", "volume", ""],
        ["stats", ""],
        ["check", ""],
        ["study", ""],
        ["study", "image", "--report", ""],
    ],
)
def test_an_empty_word_is_not_the_current_directory(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "image").write_bytes(b"x" * 5000)
    monkeypatch.chdir(tmp_path)
    assert main(["import", "store", "image", "folder/volume"]) == 0
    monkeypatch.chdir(empty)
    given = {"store": "../store", "image": "../image", "volume": "folder/volume"}
    capsys.readouterr()
    assert main([given.get(word, word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "empty" in line or "'' cannot be a volume's name" in line
    assert os.listdir(empty) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["import", "store", "image", "--workers", "0"], "--workers 0: needs a number from 1"),
        (["import", "store", "image", "--workers=-3"], "--workers -3: needs"),
        (["import", "store", "image", "--workers", "100000"], "--workers 100000: needs"),
        (["stats", "store", "--watch", "1e300"], "--watch 1e+300: needs seconds"),
        (["stats", "store", "--watch", "inf"], "--watch inf: needs seconds"),
        (["swapon", "store", "--size", "17T"], "at most 16.0 TiB"),
        (["swapon", "store", "-o", "ro"], "-o ro"),
        (["swapon", "store", "-o", "remount"], "-o remount"),
    ],
)
def test_numbers_and_options_out_of_bounds(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").write_bytes(b"x")
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert os.listdir(tmp_path) == ["image"]
