"""The documents and the program agree: commands, links, exit codes, recipes."""

import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs import errors
from difffs.cli import main
from difffs.configuration.files import read
from difffs.configuration.keys import KINDS, entries
from difffs.mount.live import mount_at
from difffs.mount.options import OPTIONS, parse_options
from difffs.recipe import RECIPES
from tests.integration import harness

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "vm-configs").glob("*.md"),
        *(ROOT / "findings").glob("*.md"),
    ]
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNNABLE = re.compile(r"^<!-- runnable -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")

# What stands for a value in a synopsis -> a value that the parser takes.
PLACEHOLDERS = {
    "COLUMNS": "store,factor",
    "KEY=VALUE,...": "ro",
    "N": "1",
    "SIZE": "1M",
    "S": "2",
    "SECONDS": "2",
}
SHELL_ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>"}


def without_fences(text: str) -> str:
    return FENCE.sub("", text)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in without_fences(path.read_text()).splitlines()
            if line.startswith("#")}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in LINK.findall(CODE.sub("", without_fences(path.read_text()))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{name}: {target}"


def shell_lines(text: str) -> Iterator[str]:
    """Lines of fenced and of indented blocks, continuations joined."""
    blocks = [body for language, body in FENCE.findall(text) if language in ("", "sh")]
    blocks += [
        line[4:] for line in without_fences(text).splitlines() if line.startswith("    difffs ")
    ]
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()


def difffs_calls(line: str) -> Iterator[list[str]]:
    """The arguments of each difffs in a line of shell."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return  # prose with an apostrophe in a block that is no shell
    while words:
        end = next((at for at, word in enumerate(words) if word in SHELL_ENDS), len(words))
        command = words[:end]
        while command and command[0] in ("sudo", "time"):
            del command[0]
        if command and Path(command[0]).name == "difffs":
            yield command[1:]
        words = words[end + 1 :]


def variants(line: str) -> set[str]:
    """A synopsis without and with all that is optional."""
    bare = full = line
    while "[" in bare:
        shorter = re.sub(r"\[[^\[\]]*\]", " ", bare)
        if shorter == bare:
            break
        bare = shorter
    full = re.sub(r"\[([^\[\]]*)\]", r" \1 ", re.sub(r"\[([^\[\]]*)\]", r" \1 ", full))
    return {bare, full}


def commands_of(text: str) -> list[list[str]]:
    found = []
    spoken = [code for code in CODE.findall(without_fences(text)) if code.startswith("difffs ")]
    for line in [*shell_lines(text), *spoken]:
        if "difffs" not in line:
            continue
        for variant in variants(line):
            found += list(difffs_calls(variant))
    return found


def parses(arguments: list[str]) -> bool:
    """Whether the parser takes them; prose may leave out all that is no option."""
    if not any(not word.startswith("-") for word in arguments[1:]):
        return any(_parses([*arguments, *["X"] * count]) for count in range(4))
    return _parses(arguments)


def _parses(arguments: list[str]) -> bool:
    given = [PLACEHOLDERS.get(word, word) for word in arguments]
    chosen = next((word for word in given if not word.startswith("-")), None)
    try:
        main.build_parser(chosen).parse_args(given)
    except SystemExit as end:
        return end.code == 0
    return True


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in commands_of((ROOT / name).read_text()):
        if arguments[:1] == ["COMMAND"]:
            continue
        if len(arguments) == 1 and not arguments[0].startswith("-"):
            assert arguments[0] in main.COMMANDS, f"{name}: difffs {arguments[0]}"
            continue
        assert parses(arguments), f"{name}: difffs {' '.join(arguments)}: {capsys.readouterr().err}"


def test_the_commands_of_the_documents_are_found() -> None:
    text = (
        "Say `difffs check`.\n\n    difffs mount S M [-o KEY=VALUE,...]\n\n```sh\nsudo difffs \\\n"
    )
    text += "  export s 'a b' - | wc -c\n```\n"
    expected = [
        ["check"],
        ["export", "s", "a b", "-"],
        ["mount", "S", "M"],
        ["mount", "S", "M", "-o", "KEY=VALUE,..."],
    ]
    unique = {tuple(arguments) for arguments in commands_of(text)}
    assert sorted(map(list, unique)) == expected
    assert parses(expected[3])
    assert not parses(["mount", "S", "M", "--nonsense"])


def test_every_command_is_documented() -> None:
    spoken = {call[0] for path in DOCUMENTS for call in commands_of(path.read_text()) if call}
    assert main.COMMANDS.keys() <= spoken


def table_rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table behind a heading."""
    behind = text[text.index(f"\n{heading}\n") :]
    lines = re.search(r"(?:^\|.*\n)+", behind, re.MULTILINE)
    assert lines, heading
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines.group().splitlines()[2:]
    ]


def error_codes() -> set[int]:
    return {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.DifffsError)
    }


def test_exit_codes() -> None:
    expected = error_codes() | {0, 1, 129, 130, 141, 143}
    rows = table_rows((ROOT / "docs/operations.md").read_text(), "## Exit codes")
    assert [int(row[0]) for row in rows] == sorted(expected)
    help_text = main.build_parser(None).epilog or ""
    assert {int(code) for code in re.findall(r"(?:^|\s{2,})(\d+) ", help_text)} == expected
    table = re.findall(r"^(\w+) +(\d+) ", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in table} == {
        name: error.exit_code
        for name, error in vars(errors).items()
        if isinstance(error, type)
        and issubclass(error, errors.DifffsError)
        and error is not errors.DifffsError
    }


def test_every_table_of_recipes_has_all_of_them() -> None:
    for file, heading in (
        ("docs/how-it-works.md", "## Recipes"),
        ("README.md", "## What it saves"),
    ):
        rows = table_rows((ROOT / file).read_text(), heading)
        named = [re.findall(r"`([a-z-]+)`", row[0]) for row in rows]
        assert sorted(names[0] for names in named) == sorted(RECIPES), file


def test_the_tables_of_options_and_keys_have_all_of_them() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    named = [name for row in table_rows(text, "## Mounting") for name in CODE.findall(row[0])]
    assert named == [option.form for option in OPTIONS.values()]
    rows = table_rows(text, "## At every boot")
    assert {
        (kind, CODE.findall(row[1])[0], "".join(CODE.findall(row[2])))
        for row in rows
        for kind in CODE.findall(row[0])
    } == {
        (kind.name, key.name, key.default) for kind in KINDS.values() for key in kind.keys.values()
    }


@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_right(name: str, tmp_path: Path) -> None:
    for language, body in FENCE.findall((ROOT / name).read_text()):
        if language == "ini":
            (tmp_path / "difffs.conf").write_text(body)
            assert entries(read([tmp_path / "difffs.conf"]))


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_fstab_are_right(name: str) -> None:
    for line in re.findall(r"^    (/.* fuse\.difffs .*)$", (ROOT / name).read_text(), re.M):
        words = line.split()
        assert (words[2], words[4:]) == ("fuse.difffs", ["0", "0"])
        parse_options([words[3]])


def test_decisions_are_numbered() -> None:
    files = sorted((ROOT / "docs/adr").glob("*.md"))
    assert files
    for number, path in enumerate(files, 1):
        assert path.name.startswith(f"{number:04}-"), path.name


def runnable_blocks() -> list[tuple[str, str]]:
    return [
        (name, block) for name in NAMES for block in RUNNABLE.findall((ROOT / name).read_text())
    ]


def test_there_are_runnable_blocks() -> None:
    assert runnable_blocks()


@pytest.mark.integration
@pytest.mark.parametrize(("name", "block"), runnable_blocks())
def test_runnable_blocks_run(name: str, block: str) -> None:
    reason = harness.obstacle()
    if reason is not None:
        pytest.skip(reason)
    with harness.folder_in_memory() as folder:
        programs = folder / "programs"
        programs.mkdir()
        program = programs / "difffs"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m difffs "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        work = folder / "work"
        work.mkdir()
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", f'PATH="{programs}:$PATH"\n{block}'],
                cwd=work,
                capture_output=True,
                text=True,
                check=False,
                timeout=harness.SECONDS,
            )
        finally:
            for mountpoint in work.iterdir():
                if mount_at(mountpoint) is not None:
                    subprocess.run(
                        harness.unmount_command(mountpoint, lazy=True), check=True
                    )  # what a failed block has left
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
