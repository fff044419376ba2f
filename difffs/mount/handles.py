"""Open files and directories of the mount, and volumes that lost their name while open.

Changed by one thread only, the one that knows names; others look up handles that the kernel does
not release meanwhile. So nothing here needs a lock but Python's own. Every question about one inode
or handle is O(1): closing thousands of files must not look through all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from difffs.store.inode import Inode


@dataclass(slots=True)
class _Use:
    """Who has one inode open."""

    handles: int = 0
    writers: dict[int, int] = field(default_factory=dict)
    """Handle to the process that opened it for writing."""
    answers: int = 0
    """How often it was found to have grown, since there are writers."""
    size: int = -1
    """What its size was then."""


class Handles:
    """Numbers that libfuse keeps for open files, and what they stand for."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._images: dict[int, Inode] = {}
        self._numbers: dict[int, int] = {}
        self._uses: dict[int, _Use] = {}
        self._last = 0
        # Unlinked while open: libfuse's hidden path <-> inode number. Such a file has no name in
        # the namespace any more; the path only serves requests for its attributes.
        self._hidden: dict[str, int] = {}
        self._hidden_paths: dict[int, str] = {}
        # Of hidden images: the volumes that one is made up of; and all of these.
        self._parts: dict[int, tuple[int, int]] = {}
        self._needed: set[int] = set()

    def add(self, inode: Inode, writer: int | None = None) -> int:
        """Return a new handle. ``writer`` is the process that may write through it, or None."""
        self._last += 1
        self._numbers[self._last] = inode.number
        use = self._uses.setdefault(inode.number, _Use())
        use.handles += 1
        if writer is not None:
            use.writers[self._last] = writer
        if inode.is_image:
            self._images[self._last] = inode
        return self._last

    def number(self, handle: int | None) -> int | None:
        """Return the inode number behind a handle, or None when there is no such handle."""
        return None if handle is None else self._numbers.get(handle)

    def image(self, handle: int | None) -> Inode | None:
        """Return the image behind a handle, or None when it is for something else."""
        return None if handle is None else self._images.get(handle)

    def remove(self, handle: int) -> int | None:
        """Forget a handle; return its inode's number if that was the last one, else None."""
        self._images.pop(handle, None)
        number = self._numbers.pop(handle, None)
        if number is None:
            return None
        use = self._uses[number]
        use.handles -= 1
        use.writers.pop(handle, None)
        if not use.writers:
            use.answers, use.size = 0, -1
        if use.handles:
            return None
        del self._uses[number]
        return number

    def is_open(self, number: int) -> bool:
        """Whether there is a handle for the inode."""
        return number in self._uses

    def is_writer(self, handle: int, number: int) -> bool:
        """Whether a handle for the inode may be written through."""
        return handle in self._uses[number].writers

    def writers(self, number: int) -> Iterable[int]:
        """Return the processes that opened the inode for writing, a number for each handle."""
        use = self._uses.get(number)
        return () if use is None else use.writers.values()

    def count_growth(self, number: int, size: int) -> int | None:
        """Return how often an inode has been found larger since somebody has it open for writing, 0
        at the first time; None when it has not grown since it was asked for the last time."""
        use = self._uses[number]
        grown, use.size = size != use.size, size
        if not grown:
            return None
        use.answers += 1
        return use.answers - 1

    # ---- hidden files ------------------------------------------------------------------------

    def hide(self, path: str, inode: Inode) -> None:
        """Note that libfuse calls an unlinked inode ``path`` from now on."""
        self._hidden[path] = inode.number
        self._hidden_paths[inode.number] = path
        if inode.is_image:
            self._parts[inode.number] = inode.skeleton, inode.memory
            self._needed.update(self._parts[inode.number])

    def hidden(self, path: str) -> int | None:
        """Return the number of the unlinked inode that libfuse calls ``path``, or None."""
        return self._hidden.get(path)

    def is_needed(self, number: int) -> bool:
        """Whether a volume is part of an image that has lost its name and is still open: it must
        stay as it is."""
        return number in self._needed

    def reveal(self, number: int) -> bool:
        """Forget that an inode is hidden; whether it was."""
        path = self._hidden_paths.pop(number, None)
        if path is None:
            return False
        del self._hidden[path]
        self._needed.difference_update(self._parts.pop(number, ()))
        return True

    def close(self) -> list[int]:
        """Forget everything; return the inodes that were hidden."""
        numbers = list(self._hidden_paths)
        for table in (
            self._images,
            self._numbers,
            self._uses,
            self._hidden,
            self._hidden_paths,
            self._parts,
        ):
            table.clear()
        self._needed.clear()
        return numbers
