"""Manual pages and completion: as the parsers are now, and as man and the shells take them."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from manual import files
from manual.examples import CONFIGURATION, EXAMPLES, MOUNT_HELPER, OVERVIEW, STORE

from difffs.cli.main import COMMANDS, build_parser
from difffs.configuration.files import read
from difffs.configuration.keys import KINDS, entries
from difffs.mount.options import OPTIONS, parse_options
from difffs.store.format import (
    DIGEST_FILE,
    FORMAT_FILE,
    LOCK_FILE,
    PAYLOAD_FILE,
    RESERVE_FILE,
    SKETCH_FILE,
)

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/man").glob("*.[1-9]"))
BASH = ROOT / "completion/bash/difffs"


def test_nothing_is_stale() -> None:
    stale = list(files.stale(ROOT))
    assert not stale, f"run scripts/make-manual, and commit what it makes: {stale}"


def test_what_is_stale_is_found(tmp_path: Path) -> None:
    for name, content in files.wanted().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert files.stale(tmp_path) == {}
    (tmp_path / "docs/man/difffs.1").write_text("another\n")
    (tmp_path / "docs/man/difffs-gone.1").write_text("of a command that there was\n")
    script = tmp_path / "completion/bash/difffs"
    script.unlink()
    stale = files.stale(tmp_path)
    assert set(stale) == {
        "docs/man/difffs.1",
        "docs/man/difffs-gone.1",
        "completion/bash/difffs",
    }
    assert stale["docs/man/difffs-gone.1"] is None


def test_every_command_has_examples_that_parse() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, examples in EXAMPLES.items():
        assert examples
        for example in examples:
            words = shlex.split(example.call.rpartition("| ")[2])
            assert words[:2] == ["difffs", name]
            build_parser(name).parse_args(words[1:])
    for example in OVERVIEW:
        words = shlex.split(example.call)
        build_parser(words[1]).parse_args(words[1:])


def test_the_examples_of_the_other_pages_are_right(tmp_path: Path) -> None:
    sections = [example.call for example in CONFIGURATION if example.call.startswith("[")]
    (tmp_path / "difffs.conf").write_text("\n".join(sections))
    found = entries(read([tmp_path / "difffs.conf"]))
    assert len(found) == len(sections)
    units = {f"/{one.unit.removesuffix('.service')}" for one in found}
    units |= {f"/difffs-refine@{one.name}.timer" for one in found if one.kind.name == "mount"}
    shown = [line for example in CONFIGURATION for line in example.call.splitlines()]
    for line in shown:
        if line.startswith("systemctl"):
            assert {f"/{word}" for word in line.split() if word.startswith("difffs")} < units
    for example in (*CONFIGURATION, *STORE, *MOUNT_HELPER):
        for line in example.call.splitlines():
            words = line.split()
            if words[0] == "difffs":
                build_parser(words[1]).parse_args(words[1:])
            elif "fuse.difffs" in words and words[0] != "mount":
                assert len(words) == 6
                parse_options([words[3]])
            elif "-o" in words:
                parse_options([words[words.index("-o") + 1]])


def test_the_other_pages_have_all_that_there_is() -> None:
    pages = {path.name: path.read_text() for path in PAGES}
    for option in OPTIONS.values():
        assert f"\\fB{option.name}\\fR" in pages["mount.difffs.8"]
    for kind in KINDS.values():
        for key in kind.keys.values():
            assert f"\\fB{key.name}\\fR = " in pages["difffs.conf.5"]
    for file in (FORMAT_FILE, PAYLOAD_FILE, DIGEST_FILE, SKETCH_FILE, LOCK_FILE, RESERVE_FILE):
        assert f"\\fISTORE\\fR/\\fB{file}\\fR\n" in pages["difffs-store.5"]


def test_examples_come_first() -> None:
    for path in PAGES:
        titles = [line[4:] for line in path.read_text().splitlines() if line.startswith(".SH ")]
        assert titles[:3] == ["NAME", "EXAMPLES", "SYNOPSIS"], path.name


def test_man_has_no_warnings() -> None:
    if shutil.which("man") is None:
        pytest.skip("no man (Debian's package man-db)")
    assert len(PAGES) == len(COMMANDS) + 4
    for path in PAGES:
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", str(path)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        )
        assert (done.returncode, done.stderr) == (0, ""), path.name
        shown = " ".join(done.stdout.split())  # man fills lines up with spaces
        assert re.search(rf"NAME {re.escape(path.stem)}(, \S+)? - ", shown), path.name
        for name, option in (("stats", "--prometheus [FILE]"), ("mount", "--foreground")):
            assert path.stem != f"difffs-{name}" or option in shown


# ---- completion ------------------------------------------------------------------------------


def bash_offers(folder: Path, *words: str) -> set[str]:
    """What completing the last word may become."""
    script = (
        'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_difffs;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    done = subprocess.run(
        [bash, "--norc", "--noprofile", "-c", script, BASH, "difffs", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert done.stderr == ""
    return {line for line in done.stdout.splitlines() if line}


def test_what_bash_offers(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "state").write_bytes(b"")
    assert bash_offers(tmp_path, "") >= COMMANDS.keys()
    assert bash_offers(tmp_path, "swapo") == {"swapon", "swapoff"}
    assert bash_offers(tmp_path, "stats", "--output-") == {"--output-all"}
    assert bash_offers(tmp_path, "stats", "st") == {"store"}  # directories only
    assert bash_offers(tmp_path, "import", "store", "st") == {"store", "state"}
    assert bash_offers(tmp_path, "import", "--recipe", "den") == {"dense"}
    assert bash_offers(tmp_path, "stats", "--output", "pa") == {"pages", "payload", "patch"}


def test_the_tab_key(tmp_path: Path) -> None:
    """In an interactive bash, on a terminal."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    rc = tmp_path / "rc"
    rc.write_text(
        f"PS1='ready> '\nsource {shlex.quote(str(BASH))}\ndifffs() {{ echo \"=$*=\"; }}\n"
    )
    terminal, its_side = pty.openpty()
    process = subprocess.Popen(
        [bash, "--noprofile", "--rcfile", str(rc), "-i"],
        stdin=its_side,
        stdout=its_side,
        stderr=its_side,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"},
    )
    os.close(its_side)
    seen = b""

    def wait_for(awaited: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + 20
        while awaited not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096)
        assert awaited in seen, seen

    try:
        wait_for(b"ready> ")
        os.write(terminal, b"difffs umo\tx --for\t\r")
        wait_for(b"=umount x --force=")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@pytest.mark.parametrize(
    ("shell", "script"), [("zsh", "zsh/_difffs"), ("fish", "fish/difffs.fish")]
)
def test_other_shells_take_theirs(shell: str, script: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    path = str(ROOT / "completion" / script)
    subprocess.run([program, "-n", path], check=True, stdin=subprocess.DEVNULL, timeout=20)
    if shell == "fish":
        asked = f"source {shlex.quote(path)}; complete --do-complete 'difffs swapo'"
        done = subprocess.run(
            [program, "--no-config", "-c", asked], capture_output=True, text=True, check=True
        )
        assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"swapon", "swapoff"}


def test_the_wheel_installs_them() -> None:
    """The patterns of pyproject.toml find every file that there is."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["data-files"]
    found = {
        str(path.relative_to(ROOT))
        for each in patterns.values()
        for pattern in each
        for path in ROOT.glob(pattern)
    }
    assert found == files.wanted().keys()


def test_the_script_checks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "manual", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
