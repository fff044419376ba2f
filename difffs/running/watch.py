"""The thread that follows a rule while a command runs, and notes what it gave."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from difffs.cgroup.group import Group, Usage
from difffs.host_memory import HostMemory, host_memory, resident_of
from difffs.running.memory_files import MemoryFile, memory_files
from difffs.running.rule import Limits, Rule

STEP_SECONDS = 0.5
"""Between two decisions; a step that takes long is followed by as long a pause."""

_LOOK_SECONDS = 1.0
"""Between two looks at what is mapped and what it costs."""

_FIRST_LOOK_SECONDS = 0.1
"""The same as long as nothing was found to be mapped, in the first seconds: a command may not last
longer than that."""

_FIRST_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a run has cost so far."""

    seconds: float
    usage: Usage
    """When it was looked at last while it ran; peak and refaults at the end."""
    resident_peak: int
    resident_mean: int
    limit: int | None
    files: tuple[MemoryFile, ...]
    """Guest RAM, as of the last look that found any."""
    host: HostMemory | None
    """At that look; None when no file of a mount was ever mapped."""
    saved_mean: int
    """Over the time in which any was mapped."""


class Watch:
    """Follows a rule in a thread of its own, because moving pages out takes its time."""

    def __init__(self, group: Group, rule: Rule) -> None:
        """Nothing is done before :meth:`start`."""
        self._group = group
        self._rule = rule
        self._ended = threading.Event()
        self._lock = threading.Lock()  # guards all below
        self._began = self._looked_at = time.monotonic()
        self._usage = group.usage()
        self._limit: int | None = None
        self._peak = 0
        self._resident_seconds = self._saved_seconds = self._mapped_seconds = 0.0
        self._files: tuple[MemoryFile, ...] = ()
        self._host: HostMemory | None = None
        self._thread = threading.Thread(target=self._follow, name="difffs-resident", daemon=True)

    def start(self) -> None:
        """Limit the group for the first time, and go on in the background."""
        self._apply(self._rule.limits(self._usage, 0, 0.0))
        self._thread.start()

    def stop(self) -> Found:
        """End; the limit stays as it is. Returns what was found."""
        self._ended.set()
        self._thread.join()
        last = self._group.usage()
        with self._lock:
            self._peak = max(self._peak, last.peak)
            self._usage = replace(self._usage, refaults=last.refaults, waited_us=last.waited_us)
        return self.found()

    def found(self) -> Found:
        """What was found up to now."""
        with self._lock:
            seconds = time.monotonic() - self._began
            mean = self._resident_seconds / max(self._looked_at - self._began, 1e-9)
            return Found(
                seconds=seconds,
                usage=self._usage,
                resident_peak=self._peak,
                resident_mean=round(mean),
                limit=self._limit,
                files=self._files,
                host=self._host,
                saved_mean=round(self._saved_seconds / max(self._mapped_seconds, 1e-9)),
            )

    def _follow(self) -> None:
        decided = time.monotonic()
        pause = _FIRST_LOOK_SECONDS
        while not self._ended.wait(pause):
            try:
                began = time.monotonic()
                usage = self._group.usage()
                if began - self._looked_at >= _LOOK_SECONDS or not self._files:
                    self._look(began, usage)
                is_new = not self._files and began - self._began < _FIRST_SECONDS
                pause = _FIRST_LOOK_SECONDS if is_new else STEP_SECONDS
                if began - decided < STEP_SECONDS and is_new:
                    continue
                guest_bytes = sum(file.mapped for file in self._files)
                self._apply(self._rule.limits(usage, guest_bytes, began - decided))
                decided = began
                pause = max(pause, time.monotonic() - began)
            except OSError as error:
                # The group is looked at again: files of /proc and of mounts come and go.
                logger.debug("a look at the group failed: %s", error)

    def _apply(self, limits: Limits) -> None:
        if limits.down_to is not None:
            self._group.set_limit(limits.down_to)
        if limits.up_to != limits.down_to or limits.down_to is None:
            if limits.up_to == self._limit:
                return
            self._group.set_limit(limits.up_to)
        with self._lock:
            self._limit = limits.up_to

    def _look(self, now: float, usage: Usage) -> None:
        files = memory_files(self._group.processes())
        host = None
        if files:
            # A mount that went this moment: the rest of the look counts all the same.
            with suppress(OSError):
                host = host_memory(
                    sum(file.mapped for file in files),
                    resident_of(file.path for file in files),
                    dict.fromkeys(file.mountpoint for file in files),
                )
        with self._lock:
            seconds = now - self._looked_at
            self._looked_at = now
            self._usage = usage
            self._peak = max(self._peak, usage.peak, usage.resident)
            self._resident_seconds += usage.resident * seconds
            if host is not None:
                self._files, self._host = tuple(files), host
                self._saved_seconds += host.saved * seconds
                self._mapped_seconds += seconds
