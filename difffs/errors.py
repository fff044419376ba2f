"""Errors that reach a person.

Every error that difffs raises on purpose is a :class:`DifffsError`. Its text is one line that
names the thing and the remedy, and its class carries the exit code of the command line.

====================  =========  =============================================================
error                 exit code  meaning
====================  =========  =============================================================
UsageError            2          an argument or option is wrong
ConfigurationProblem  2          a configuration file is wrong
EnvironmentProblem    2          the machine lacks something (a library, a device, a privilege)
NotAStore             3          the path is not a difffs store
FormatTooNew          4          the store was written by a newer difffs
FormatTooOld          4          the store must be upgraded before it can be written
StoreBusy             5          the store is open or mounted elsewhere
CorruptStore          6          the store's structure is damaged
PayloadDamaged        6          a payload's bytes are damaged or missing
ImageDamaged          6          a memory image does not hold together: cut off, or its headers lie
StoreReadOnly         7          the store cannot be written
StoreFull             8          no space is left where the store lives
OutputProblem         8          what is printed or exported cannot be written where it should go
RecipeMismatch        9          the store has another recipe than the one asked for
DomainsMismatch       9          the store was made without the domains that were asked for
VolumeNotFound        10         the store holds no such volume
VolumeExists          11         a volume of that name is there already
MountProblem          12         the mount point cannot be mounted or unmounted
MediumFailed          13         reading or writing the store's files failed (I/O error)
OutOfResources        2          the machine lacks memory or open files for now
CommandNotExecutable  126        what `difffs run` is to run cannot be executed
CommandNotFound       127        there is no such command
TryAgain              2          base of StoreFull and OutOfResources: the same may succeed later
====================  =========  =============================================================

Exit code 0 is success, 1 means "completed with findings", 130 an interrupt from the keyboard,
128 + n the end by signal n (129 SIGHUP, 141 a reader of stdout that has gone, 143 SIGTERM).
"""

import errno
from typing import Self

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a disk, a quota or a file can take no more. (EFBIG: the file system's
longest file, 16 TiB on ext4, or the process's limit. What is freed below it is usable again.)"""


class DifffsError(Exception):
    """Base of all errors that difffs raises on purpose.

    ``str(error)`` is one line: what is wrong with which thing, and what to do about it.
    """

    exit_code: int = 2

    def __init__(self, text: str) -> None:
        """Keep ``text`` as one line, whatever line breaks a quoted message brought along."""
        super().__init__(" ".join(text.split("\n")).strip())

    def again(self) -> Self:
        """Return this error, to be raised once more: each raising of a kept one would add to its
        traceback, and keep every frame on the way alive."""
        return self.with_traceback(None)


class UsageError(DifffsError):
    """An argument or option is wrong."""

    exit_code = 2


class ConfigurationProblem(DifffsError):
    """A configuration file is wrong; the text names file and line."""

    exit_code = 2


class EnvironmentProblem(DifffsError):
    """The machine lacks something: a library, a device, a tool or a privilege."""

    exit_code = 2


class NotAStore(DifffsError):
    """The path is not a difffs store."""

    exit_code = 3


class FormatTooNew(DifffsError):
    """The store was written by a newer difffs than this one."""

    exit_code = 4


class FormatTooOld(DifffsError):
    """The store has a former format, which this difffs only reads; `difffs upgrade` converts it."""

    exit_code = 4


class StoreBusy(DifffsError):
    """The store is open or mounted elsewhere."""

    exit_code = 5


class CorruptStore(DifffsError):
    """The store's structure is damaged."""

    exit_code = 6


class PayloadDamaged(CorruptStore):
    """A payload's bytes are damaged or missing; the text names volume, page and extent."""


class ImageDamaged(DifffsError):
    """A memory image does not hold together; the text names the offset where that shows."""

    exit_code = 6


class StoreReadOnly(DifffsError):
    """The store cannot be written."""

    exit_code = 7


class TryAgain(DifffsError):
    """Nothing is lost; the same may succeed when something has been freed."""


class StoreFull(TryAgain):
    """No space is left where the store lives."""

    exit_code = 8


class OutOfResources(TryAgain):
    """The machine lacks memory or open files for now."""

    exit_code = 2


class MediumFailed(DifffsError):
    """Reading or writing the store's files failed."""

    exit_code = 13


class OutputProblem(DifffsError):
    """What a command prints or exports cannot be written where it should go."""

    exit_code = 8


class RecipeMismatch(DifffsError):
    """The store has another recipe than the one asked for."""

    exit_code = 9


class DomainsMismatch(DifffsError):
    """The store was made without domains, and has them for life or not at all."""

    exit_code = 9


class VolumeNotFound(DifffsError):
    """The store holds no volume of that name."""

    exit_code = 10


class VolumeExists(DifffsError):
    """A volume of that name is there already."""

    exit_code = 11


class MountProblem(DifffsError):
    """The mount point cannot be mounted or unmounted."""

    exit_code = 12


class CommandNotExecutable(DifffsError):
    """A command that is to be run cannot be executed."""

    exit_code = 126


class CommandNotFound(DifffsError):
    """There is no such command."""

    exit_code = 127
