"""The command line as such: help, errors in one line, exit codes, the mount helper's form."""

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
    assert __version__ in text
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
        ["stats", "-o", "rw"],
        ["mount", "/store", "-o"],
        ["/store", "/mnt"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments, "/usr/bin/difffs")
        assert caught.value.code == 2
        assert seen == []
