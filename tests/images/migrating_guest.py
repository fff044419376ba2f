"""A guest of the installed QEMU with known data in its memory, to have it migrated to a file."""

import json
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

QEMU = "qemu-system-x86_64"
MEMORY = 8 << 20
DATA_AT = 2 << 20
DATA = random.Random(15).randbytes(1 << 20) + b"known data " * 40_000

# Real mode, at 0x7C00: adds 1 to the first word of each page from 0x20000 to 0x90000, for ever.
BUSY = bytes.fromhex("b80020 8ec0 31ff 26ff05 81c70010 75f7 050010 3d0090 75eb ebe6")


def obstacle() -> str | None:
    """Why there is no guest here, or None."""
    return None if shutil.which(QEMU) else f"no {QEMU}"


def boot_sector(path: Path) -> None:
    """Makes a disk that a guest boots BUSY from."""
    path.write_bytes((BUSY.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))


class MigratingGuest:
    """A guest of 8 MiB with DATA at DATA_AT; a context manager. Its memory is a file, ``raw``."""

    def __init__(self, folder: Path, *options: str, machine: str = "q35") -> None:
        """`folder` takes its files; further options may be ``-S``, devices, ``-incoming``."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._memory = folder / "memory"
        data = folder / "data"
        data.write_bytes(DATA)
        backend = f"memory-backend-file,id=ram,size={MEMORY},share=on,mem-path={self._memory}"
        loader = f"loader,file={data},addr={DATA_AT:#x},force-raw=on"
        self._process = subprocess.Popen(
            [
                *(QEMU, "-accel", "tcg,tb-size=32", "-m", str(MEMORY >> 20)),
                *("-object", backend, "-machine", f"{machine},memory-backend=ram"),
                *("-nodefaults", "-display", "none", "-vga", "none", "-no-user-config"),
                *("-qmp", "stdio", "-device", loader, *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "MigratingGuest":
        self._answer()
        self.command("qmp_capabilities")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def command(self, name: str, /, **arguments: object) -> Any:
        """What a command of QEMU's machine protocol returns."""
        assert self._process.stdin is not None
        words = {key.replace("_", "-"): value for key, value in arguments.items()}
        print(json.dumps({"execute": name, "arguments": words}), file=self._process.stdin)
        self._process.stdin.flush()
        while True:
            answer = self._answer()
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def capabilities(self, *names: str) -> None:
        """Switches capabilities of migration on."""
        self.command(
            "migrate-set-capabilities",
            capabilities=[{"capability": name, "state": True} for name in names],
        )

    def raw(self) -> bytes:
        """Its memory."""
        return self._memory.read_bytes()

    def migrate(self, **arguments: object) -> bytes:
        """The stream that it writes."""
        path = self.folder / "stream"
        self.command("migrate", uri=f"exec:cat > {path}", **arguments)
        self.wait()
        return path.read_bytes()

    def take_in(self, stream: bytes) -> None:
        """Loads a stream; the guest has ``-incoming defer``."""
        path = self.folder / "incoming"
        path.write_bytes(stream)
        self.command("migrate-incoming", uri=f"exec:cat {path}")
        self.wait()

    def wait(self, rounds: int = 0, seconds: float = 60) -> None:
        """Returns when a migration has ended, or has gone through the memory so often."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.command("query-migrate")
            if answer.get("status") == "completed":
                return
            assert answer.get("status") != "failed", answer
            if rounds and answer.get("ram", {}).get("dirty-sync-count", 0) > rounds:
                return
            time.sleep(0.05)
        raise AssertionError(f"the migration lasts: {answer}")

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "QEMU ended"
        return json.loads(line)
