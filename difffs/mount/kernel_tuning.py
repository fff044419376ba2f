"""What a memory store asks of the kernel, and what it got.

Every setting is tried, none is required; each leaves a :class:`Setting` that says whether it was
applied and, if not, why. They are shown under ``kernel_settings`` in the statistics.

The reasons, setting by setting, are in docs/operations.md.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from difffs import linux
from difffs.mount.table import lines_of

log = logging.getLogger("difffs.mount")

MAXIMUM_WRITE = 1 << 20
"""Bytes of one write request; also the limit of one read request."""

# Nothing but this mount changes its files, so the kernel's copies never go stale by themselves:
# but for the blocks that du shows, which change as pages are routed, and with them what archivers
# take for a hole. A request a second and file costs nothing.
ENTRY_SECONDS = 3600.0
ATTRIBUTE_SECONDS = 1.0
WRITER_ATTRIBUTE_SECONDS = 0.1
"""Of a file that somebody has opened for writing, doubled each time that it is found to have grown:
it grows in the kernel before it does here, but a writer waits for each question, behind all that it
has written."""
MAXIMUM_ATTRIBUTE_SECONDS = 60.0
"""Of such a file that has not grown."""
NEGATIVE_SECONDS = 3600.0

MAXIMUM_BACKGROUND = 64

_CAPABILITY_AUTO_INVAL_DATA = 1 << 12
_CAPABILITY_SPLICE_WRITE = 1 << 7
_CAPABILITY_SPLICE_MOVE = 1 << 8
_CAPABILITY_SPLICE_READ = 1 << 9
_CAPABILITY_WRITEBACK_CACHE = 1 << 16

_FUSE_SETTINGS = Path("/proc/sys/fs/fuse")

# cgroup v1 shows "no limit" as a number just below 2**63.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what was asked, whether it holds, and why not."""

    setting: str
    value: str
    applied: bool
    reason: str


def request_timeouts() -> list[str]:
    """Return a warning for each of the kernel's timeouts of FUSE requests that is set.

    A mount of which one request takes longer is aborted, whatever it was waiting for.
    """
    warnings = []
    for name in ("default_request_timeout", "max_request_timeout"):
        with contextlib.suppress(OSError, ValueError):  # a kernel without them
            seconds = int((_FUSE_SETTINGS / name).read_text())
            if seconds > 0:
                warnings.append(
                    f"fs.fuse.{name} is {seconds}: the kernel aborts a mount that takes longer "
                    f"over a request; sysctl fs.fuse.{name}=0, and mount again"
                )
    return warnings


class KernelTuning:
    """The settings of one mount."""

    def __init__(self, read_ahead_bytes: int) -> None:
        """Plan a mount whose sequential reads run ``read_ahead_bytes`` ahead."""
        self._read_ahead_bytes = read_ahead_bytes
        self._settings: list[Setting] = []
        self._config: Any = None
        self.carries_swap = False
        """Whether the process has been asked to be fit to carry swap."""

    @property
    def settings(self) -> list[Setting]:
        """All settings tried so far."""
        return list(self._settings)

    def report(self) -> list[dict[str, Any]]:
        """Return the settings as plain dictionaries."""
        return [asdict(setting) for setting in self._settings]

    def note(self, setting: str, value: str, reason: str = "") -> None:
        """Take down a setting, and why it does not hold if it does not."""
        entry = Setting(setting, value, not reason, reason)
        self._settings.append(entry)
        if reason:
            log.info("%s = %s not applied: %s", setting, value, reason)
        else:
            log.debug("%s = %s", setting, value)

    # ---- the process -------------------------------------------------------------------------

    def apply_to_process(self, *, lock_memory: bool) -> None:
        """Keep this process able to work while the machine waits for it to free memory.

        To be called before any thread is started: threads inherit the setting.
        """
        self._call("PR_SET_IO_FLUSHER", "1", linux.set_io_flusher, needs="CAP_SYS_RESOURCE")
        if lock_memory:
            self.lock_memory()

    def lock_memory(self) -> None:
        """Make this process fit to carry swap: never itself swapped out, killed or held back.

        May be called at any time; a second call has no effect.
        """
        if self.carries_swap:
            return
        self.carries_swap = True
        self._call(
            "mlockall",
            "MCL_CURRENT|MCL_FUTURE|MCL_ONFAULT",
            linux.lock_memory,
            needs="CAP_IPC_LOCK",
        )
        self._write(
            "oom_score_adj", Path("/proc/self/oom_score_adj"), "-1000", needs="CAP_SYS_RESOURCE"
        )
        self._leave_limited_cgroup()

    def _leave_limited_cgroup(self) -> None:
        """Move to the root of the memory cgroups when the process's own has a limit.

        A daemon inside the cgroup whose memory it is to free would wait for itself.
        """
        limited = _limited_cgroup()
        if limited is None:
            return
        root, path = limited
        self._write(f"memory cgroup (was {path})", root / "cgroup.procs", str(os.getpid()))

    # ---- the connection ----------------------------------------------------------------------

    def negotiate(self, connection: Any, config: Any) -> None:
        """Set libfuse's ``fuse_conn_info`` and ``fuse_config`` before the first request."""
        connection.max_write = MAXIMUM_WRITE
        self.note("max_write", str(MAXIMUM_WRITE))
        connection.max_readahead = self._read_ahead_bytes
        self.note("max_readahead", str(self._read_ahead_bytes))
        connection.max_background = MAXIMUM_BACKGROUND
        connection.congestion_threshold = MAXIMUM_BACKGROUND * 3 // 4
        self.note("max_background", str(MAXIMUM_BACKGROUND))
        if connection.capable & _CAPABILITY_WRITEBACK_CACHE:
            connection.want |= _CAPABILITY_WRITEBACK_CACHE
            self.note("writeback_cache", "1")
        else:
            self.note("writeback_cache", "1", "the kernel does not offer it")
        # The data is copied into Python's memory anyway: a detour through a pipe only costs.
        connection.want &= ~(
            _CAPABILITY_SPLICE_READ | _CAPABILITY_SPLICE_WRITE | _CAPABILITY_SPLICE_MOVE
        )
        self.note("splice", "0")
        # Nobody else changes the data either: the kernel need not look for that at every read.
        connection.want &= ~_CAPABILITY_AUTO_INVAL_DATA
        self.note("auto_inval_data", "0")
        config.entry_timeout = ENTRY_SECONDS
        config.attr_timeout = ATTRIBUTE_SECONDS
        config.negative_timeout = NEGATIVE_SECONDS
        self.note("entry_timeout", f"{ENTRY_SECONDS:g}")
        self.note("attr_timeout", f"{ATTRIBUTE_SECONDS:g}")
        self.note("negative_timeout", f"{NEGATIVE_SECONDS:g}")
        # Cached pages stay valid from one open to the next.
        config.kernel_cache = 1
        self.note("kernel_cache", "1")
        config.use_ino = 1
        self._config = config

    def let_attributes_live(self, seconds: float) -> None:
        """Say for how long the attributes hold that are about to be answered.

        libfuse reads its configuration when it sends an answer, and asks one question at a time.
        """
        if self._config is not None:
            self._config.attr_timeout = seconds

    # ---- the mounted file system -------------------------------------------------------------

    def apply_to_mount(self, device: int) -> None:
        """Lift the limits on dirty pages of the mount with this ``st_dev``."""
        directory = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}")
        # A FUSE mount starts with 1 % of the dirty limit, strictly kept: a guest that writes
        # through mmap is throttled to a crawl.
        self._write("bdi strict_limit", directory / "strict_limit", "0")
        self._write("bdi max_ratio", directory / "max_ratio", "100")
        self._write(
            "bdi read_ahead_kb", directory / "read_ahead_kb", str(self._read_ahead_bytes // 1024)
        )

    def _call(self, setting: str, value: str, call: Callable[[], None], needs: str) -> None:
        try:
            call()
        except OSError as error:
            self.note(setting, value, f"{error.strerror}: needs {needs}")
        else:
            self.note(setting, value)

    def _write(self, setting: str, path: Path, value: str, needs: str = "root") -> None:
        if not path.exists():  # sysfs answers whoever would make it that it is not permitted
            self.note(setting, value, f"{path} does not exist")
            return
        try:
            path.write_text(value)
        except PermissionError:
            self.note(setting, value, f"not permitted: needs {needs}")
        except OSError as error:
            self.note(setting, value, f"{error.strerror}")
        else:
            self.note(setting, value)


def _limited_cgroup() -> tuple[Path, str] | None:
    """Return (root of the memory hierarchy, own cgroup) when a limit is set on the way to it."""
    try:
        table = Path("/proc/self/cgroup").read_bytes()
    except OSError:
        return None
    for line in lines_of(table):
        _, controllers, path = os.fsdecode(line).split(":", 2)
        if controllers == "":
            root, limit = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        while folder != root and folder.is_relative_to(root):
            with contextlib.suppress(OSError):
                value = (folder / limit).read_text().strip()
                if value != "max" and int(value) < _NO_LIMIT:
                    return root, path
            folder = folder.parent
    return None
