"""The machine that is looked at: its files, its programs, its Python packages.

All of it can be made below any directory, so that what one machine cannot show is tried all the
same. Nothing here changes anything or waits for long.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from difffs.errors import EnvironmentProblem
from difffs.libraries import installed_version
from difffs.linux import Capability
from difffs.mount.table import Mount, parse

SECONDS = 10.0
"""What a program has, to answer."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for that only root's PATH names."""

_OUTPUT = 1 << 20
_MODULE_LISTS = ("modules.builtin", "modules.dep")
_CHECKOUT = Path(__file__).parents[2]


def run_briefly(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    """Run a program without input; return what it prints, errors included.

    ``EnvironmentProblem`` when it cannot be started, fails, or is not done in time; then it is
    killed, and not waited for: who waits for a hanging file system cannot be killed.
    """
    name = os.path.basename(command[0])
    # A file, not a pipe: reading one would wait for all who have it open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentProblem(f"{name} cannot be started: {error.strerror}") from None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _abandon(process)
            raise EnvironmentProblem(f"{name} did not answer within {seconds:g} s") from None
        except BaseException:
            _abandon(process)
            raise
        output.seek(0)
        text = output.read(_OUTPUT).decode(errors="replace")
    if code != 0:
        said = " ".join(text.split())[-300:]
        raise EnvironmentProblem(f"{name} exited with {code}: {said or 'it says nothing'}")
    return text


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with all that it has started, and give it a moment to go."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    # So that the interpreter does not warn of one that could not go.
    process.returncode = process.returncode if process.returncode is not None else -signal.SIGKILL


@dataclass(frozen=True)
class Host:
    """A machine."""

    root: Path = Path("/")
    """Where its files begin."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    run: Callable[[Sequence[str], Mapping[str, str], float], str] = run_briefly
    package_version: Callable[[str], str | None] = installed_version
    checkout: Path = _CHECKOUT
    """Where difffs's own tree is, if it runs from one."""

    # ---- files -------------------------------------------------------------------------------

    def path(self, path: str) -> Path:
        """Where a file of the host is."""
        return self.root / path.lstrip("/")

    def exists(self, path: str) -> bool:
        """Whether there is such a file, as far as can be seen."""
        return os.path.exists(self.path(path))

    def names(self, folder: str) -> list[str]:
        """What lies in a folder; nothing where there is none. ``OSError``."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except FileNotFoundError:
            return []

    def text(self, path: str) -> str:
        """What a small file says, without the blanks around it. ``OSError``."""
        return self.path(path).read_text(errors="surrogateescape").strip()

    def text_or_none(self, path: str) -> str | None:
        """The same, or None where there is no such file. Other ``OSError`` are raised."""
        try:
            return self.text(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def may_write(self, path: str) -> bool:
        """Whether this process may write to a file or folder, the mount it is on included."""
        return os.access(self.path(path), os.W_OK)

    @cached_property
    def mounts(self) -> list[Mount]:
        """All mounts, the uppermost of a mount point last. ``OSError``."""
        return list(parse(self.path("/proc/self/mountinfo").read_bytes()))

    @cached_property
    def kernel(self) -> tuple[int, int]:
        """The version of the running kernel. ``OSError``, ``ValueError``."""
        release = self.text("/proc/sys/kernel/osrelease")
        found = re.match(r"(\d+)\.(\d+)", release)
        if found is None:
            raise ValueError(f"kernel release {release!r}")
        return int(found[1]), int(found[2])

    @cached_property
    def memory_bytes(self) -> int:
        """The memory that the kernel has to use. ``OSError``, ``ValueError``."""
        found = re.search(r"^MemTotal: +(\d+) kB$", self.text("/proc/meminfo"), re.MULTILINE)
        if found is None:
            raise ValueError("/proc/meminfo has no MemTotal")
        return int(found[1]) * 1024

    def has_module(self, name: str) -> bool:
        """Whether the kernel has a module, loaded, built in or to be loaded. ``OSError``."""
        if self.exists(f"/sys/module/{name}"):
            return True
        folder = f"/lib/modules/{self.text('/proc/sys/kernel/osrelease')}"
        listed = (self.text_or_none(f"{folder}/{file}") for file in _MODULE_LISTS)
        return any(f"/{name}.ko" in text for text in listed if text is not None)

    # ---- this process ------------------------------------------------------------------------

    @cached_property
    def _status(self) -> dict[str, str]:
        lines = self.text("/proc/self/status").split("\n")
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    @property
    def is_root(self) -> bool:
        """Whether this process is root's. ``OSError``."""
        return int(self._status["Uid"].split()[1]) == 0

    def has_capability(self, name: str) -> bool:
        """Whether this process has a capability. ``OSError``."""
        return bool(int(self._status["CapEff"], 16) >> Capability[name.removeprefix("CAP_")] & 1)

    @property
    def is_in_user_namespace(self) -> bool:
        """Whether this process's capabilities hold within a user namespace only. ``OSError``."""
        table = self.text_or_none("/proc/self/uid_map")  # a kernel without such namespaces
        return table is not None and table.split() != ["0", "0", "4294967295"]

    # ---- programs ----------------------------------------------------------------------------

    def program(self, name: str) -> str | None:
        """The path of a program, in PATH or where the system's are; None where there is none."""
        places = f"{self.environment.get('PATH', '')}:{SYSTEM_PATH}".split(":")
        for place in filter(os.path.isabs, places):
            candidate = self.path(f"{place}/{name}")
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return str(candidate)
        return None

    def said_by(self, *command: str, seconds: float = SECONDS) -> str:
        """What a program prints. ``EnvironmentProblem`` when it fails or takes too long."""
        return self.run(command, self.environment, seconds)
