"""Guests of the installed QEMU with known data in their memory, to have it written."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

QEMU = "qemu-system-x86_64"
MEMORY = 8 << 20
DATA_AT = 2 << 20
DATA = random.Random(15).randbytes(1 << 20) + b"known data " * 40_000


def obstacle() -> str | None:
    """Why there is no guest here, or None."""
    return None if shutil.which(QEMU) else f"no {QEMU}"


class SmallGuest:
    """A guest of 8 MiB with DATA at DATA_AT; a context manager."""

    def __init__(self, folder: Path, *options: str, machine: str = "q35") -> None:
        """`folder` takes its files; ``raw`` is its memory as one of them. Further options may be
        ``-S``, devices, ``-incoming``."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.raw = folder / "raw"
        data = folder / "data"
        data.write_bytes(DATA)
        backend = f"memory-backend-file,id=ram,size={MEMORY},share=on,mem-path={self.raw}"
        loader = f"loader,file={data},addr={DATA_AT:#x},force-raw=on"
        self._process = subprocess.Popen(
            [
                *(QEMU, "-accel", "tcg,tb-size=32", "-m", str(MEMORY >> 20)),
                *("-object", backend, "-machine", f"{machine},memory-backend=ram"),
                *("-nodefaults", "-display", "none", "-no-user-config", "-qmp", "stdio"),
                *("-device", loader, *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._answer()
        self.command("qmp_capabilities")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def command(self, name: str, /, **arguments: object) -> Any:
        """What a command of QEMU's machine protocol returns; underscores stand for hyphens."""
        assert self._process.stdin is not None
        words = {key.replace("_", "-"): value for key, value in arguments.items()}
        print(json.dumps({"execute": name, "arguments": words}), file=self._process.stdin)
        self._process.stdin.flush()
        while True:
            answer = self._answer()
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "QEMU ended"
        return json.loads(line)


class PausedGuest(SmallGuest):
    """One that never ran."""

    def __init__(self, folder: Path, *options: str) -> None:
        """As a SmallGuest's."""
        super().__init__(folder, "-S", *options)

    def dump(self, **arguments: object) -> bytes:
        """What dump-guest-memory writes."""
        path = self.folder / "dump"
        self.command("dump-guest-memory", protocol=f"file:{path}", **arguments)
        return path.read_bytes()
