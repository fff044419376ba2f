"""libfuse's own test of system calls on a mounted file system, ``test/test_syscalls.c``."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from wheels.running import WheelError, cache_folder
from wheels.sources import Source, fetched, unpacked

from outside.suite import Outcome, Run, Suite, SuiteError, missing, run_tool
from tests.integration import harness

SOURCE = Source(
    "fuse3",
    "3.14.0",
    "main/f/fuse3/fuse3_3.14.0.orig.tar.xz",
    "96115b2a8ff34bd1e0c7b00c5dfd8297571d7e165042b94498c9a26356a9a70a",
    "LICENSE",
)
_LINKS = "a volume has one name: hard links are EPERM"
LEFT_OUT = {
    "link": _LINKS,
    "link-unlink-link": _LINKS,
    "mkfifo": "only files, directories and symbolic links are kept",
    "socket": "only files, directories and symbolic links are kept",
}
# What meson would find out of the system; all of it is there since Linux 4.5 and glibc 2.27.
_CONFIGURATION = "#define HAVE_COPY_FILE_RANGE 1\n"
_LINE = re.compile(r"^ *\d+ \[(.+?)\] (.*)$")
_NOBODY = 65534


def _obstacle() -> str | None:
    reason = harness.obstacle() or missing("gcc")
    if reason is None:
        try:
            fetched(SOURCE, cache_folder() / "outside")
        except WheelError as error:
            reason = str(error)
    return reason


def _build(folder: Path) -> Path:
    top = unpacked(fetched(SOURCE, cache_folder() / "outside"), folder / "source")
    (folder / "fuse_config.h").write_text(_CONFIGURATION)
    program = folder / "test_syscalls"
    command = ["gcc", "-O1", "-w", "-I", folder, "-o", program, top / "test" / "test_syscalls.c"]
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SuiteError(f"gcc: {done.stderr.strip()[-500:]}")
    return program


def _cases(text: str) -> dict[str, str]:
    """Return what was said of each case: ``OK``, or what went wrong."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines()):
        if match := _LINE.match(line):
            name, said = match.groups()
            found[name if name not in found else f"{name} (line {number})"] = said
    return found


def judge(text: str, title: str, outcome: Outcome) -> None:
    """Count the cases of one run. One that is left out and passes is a fault of the list."""
    for name, said in _cases(text).items():
        if (said == "OK") == (name in LEFT_OUT):
            outcome.failed.append(f"{title}: {name}: {said}, which {LEFT_OUT.get(name, 'passed')}")
        elif said == "OK":
            outcome.passed += 1


def _run(run: Run) -> Outcome:
    outcome = Outcome()
    program = _build(run.evidence)
    as_root = os.geteuid() == 0
    with harness.mounted_store() as mounted:
        run.evidence.chmod(0o755)
        for title, words in (("", []), (", unlinked while open", ["-u"])):
            for user in [None, _NOBODY] if as_root else [None]:
                who = "root" if as_root and user is None else "a user"
                folder = mounted.path / f"{user}{len(words)}"
                folder.mkdir()
                if user is not None:
                    os.chown(folder, user, user)
                log = run.evidence / f"{folder.name}.log"
                run_tool([program, folder, *words], log, seconds=120, user=user)
                cases = len(_cases(log.read_text(errors="replace")))
                if cases < 50:
                    outcome.failed.append(f"{who}{title}: ended after {cases} cases")
                judge(log.read_text(errors="replace"), f"{who}{title}", outcome)
        mounted.remount()
    return outcome


SUITE = Suite(
    "libfuse",
    "libfuse's test_syscalls, as root and as a user, with files that have a name and without",
    LEFT_OUT,
    _obstacle,
    _run,
    SOURCE,
)
