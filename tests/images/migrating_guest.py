"""A guest of the installed QEMU with known data in its memory, to have it migrated to a file."""

import time
from pathlib import Path

from tests.images.small_guest import SmallGuest

# Real mode, at 0x7C00: adds 1 to the first word of each page from 0x20000 to 0x90000, for ever.
BUSY = bytes.fromhex("b80020 8ec0 31ff 26ff05 81c70010 75f7 050010 3d0090 75eb ebe6")


def boot_sector(path: Path) -> None:
    """Makes a disk that a guest boots BUSY from."""
    path.write_bytes((BUSY.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))


class MigratingGuest(SmallGuest):
    """One that writes and loads migration streams."""

    def capabilities(self, *names: str) -> None:
        """Switches capabilities of migration on."""
        self.command(
            "migrate-set-capabilities",
            capabilities=[{"capability": name, "state": True} for name in names],
        )

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
