"""Room that a full disk still has for the commit that frees some.

A commit writes changed index pages elsewhere before the old ones are free: on a full file system
even removing a volume would need room. So a live store keeps some blocks in a file that holds
nothing, counts them as its metadata, and gives them up while it makes room.
"""

import os
from contextlib import suppress
from pathlib import Path

from difffs.errors import NO_ROOM

RESERVE_BYTES = 1 << 20
"""Room for the index pages of a commit of a hundred changes, or for an extent that is rewritten."""


class Reserve:
    """The file of one store. Routing thread only."""

    def __init__(self, path: Path) -> None:
        """Nothing is reserved yet; what a crash left is given back."""
        self._path = path
        self._held = False
        self.give_back()

    @property
    def held(self) -> bool:
        """Whether the room is there."""
        return self._held

    def hold(self) -> bool:
        """Reserves the room, if there is any. False when there is none: what is left must be kept
        for the commit that frees some. Where it cannot be tried (no descriptors, a folder that is
        read-only) there is no reserve, and no lack of room either."""
        if self._held:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return error.errno not in NO_ROOM
        try:
            os.posix_fallocate(file, 0, RESERVE_BYTES)
            self._held = True
        except OSError as error:
            # Half a reserve helps nobody, and may be what a freeing commit lacks.
            with suppress(OSError):
                os.ftruncate(file, 0)
            return error.errno not in NO_ROOM
        finally:
            os.close(file)
        return True

    def give_back(self) -> None:
        """Lets others have the room."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._held = False
