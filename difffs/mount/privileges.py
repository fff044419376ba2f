"""What a daemon may do: as little as serving a mount, carrying swap and leaving take.

A daemon that root has started keeps the capabilities of :data:`KEPT` and gives all others up before
it opens the store; the one to mount is at hand, but in effect only while this process mounts. What
it starts (difffs/mount/own_mount.py) may do no more, since ``no_new_privs`` is set.

A user's daemon has no capabilities to give up. Its mount is made and taken away by fusermount3,
which is setuid, so ``no_new_privs`` is set where nothing is started: in the main thread once
mounted, and in the threads that it starts from then on. The reasons: docs/adr/0018-privileges.md.
"""

import os
from collections.abc import Callable
from typing import Protocol

from difffs import linux
from difffs.linux import Capability

KEPT = frozenset(
    {
        Capability.DAC_OVERRIDE,
        Capability.DAC_READ_SEARCH,
        Capability.IPC_LOCK,
        Capability.SYS_PTRACE,
        Capability.SYS_RESOURCE,
    }
)
"""In effect as long as the daemon lives; of these, what it was given."""

AT_HAND = frozenset({Capability.SYS_ADMIN})
"""Not in effect, but what the daemon starts to leave the mount has it."""


class _Notes(Protocol):
    """Takes down what was tried, and why it failed."""

    def __call__(self, setting: str, value: str, reason: str = "") -> None: ...


class Privileges:
    """Those of this process. To be used in its main thread only."""

    def __init__(self, note: _Notes) -> None:
        """Nothing is given up yet."""
        self._note = note
        self._is_root = os.geteuid() == 0

    def give_up(self) -> None:
        """Give up what is never needed. Before the first other thread: they inherit it."""
        if not self._is_root:
            return
        self._try("no_new_privs", "1", linux.set_no_new_privileges)
        value = " ".join(sorted(each.name.lower() for each in KEPT))
        self._try("capabilities", value, self._keep)

    def mount(self) -> None:
        """Have the right to mount in effect in this thread."""
        self._administer(on=True)

    def serve(self) -> None:
        """Give up what was needed to mount. Whatever may have to unmount has been started."""
        if self._is_root:
            self._administer(on=False)
        else:
            self._try("no_new_privs", "1", linux.set_no_new_privileges)

    def _keep(self) -> None:
        had = linux.capabilities().permitted
        linux.set_capabilities(effective=had & KEPT, permitted=had & (KEPT | AT_HAND))

    def _administer(self, *, on: bool) -> None:
        if not self._is_root:
            return
        has = linux.capabilities()
        effective = has.effective - AT_HAND
        if on:
            effective |= has.permitted & AT_HAND
        linux.set_capabilities(effective=effective, permitted=has.permitted)

    def _try(self, setting: str, value: str, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError as error:
            self._note(setting, value, f"{error.strerror}")
        else:
            self._note(setting, value)
