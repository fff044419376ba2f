"""Refining what a live mount holds: when it is asked for, and by itself once nothing was written
for a while (docs/operations.md).

A thread of its own reads and encodes, with less of the processor than those who answer; the routing
thread stores each group between two of its rounds (docs/concurrency.md).
"""

import errno
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from difffs.errors import DifffsError, StoreReadOnly
from difffs.refine.tiers import tier_named
from difffs.volume import Volumes

if TYPE_CHECKING:
    from difffs.refine.refiner import Progress, Refiner

log = logging.getLogger("difffs.mount")

_NICENESS = 10
_LOOK_SECONDS = 1.0
_WAIT_SECONDS = 0.01


class Refining:
    """What a mount has to do with refining. Thread-safe."""

    def __init__(self, volumes: Volumes, tier: str | None, quiet_seconds: float) -> None:
        """With a `tier`, a pass begins by itself whenever nothing was written for `quiet_seconds`,
        and ends when something is."""
        self._volumes = volumes
        self._tier = tier
        self._quiet_seconds = quiet_seconds
        self._lock = threading.Lock()
        self._refiner: Refiner | None = None
        self._thread: threading.Thread | None = None
        self._progress: Progress | None = None
        """Of the pass that runs, or ran last."""
        self._closing = threading.Event()
        self._watch: threading.Thread | None = None
        if tier is not None and not volumes.store.read_only:
            self._watch = threading.Thread(
                target=self._begin_when_quiet, name="difffs-idle", daemon=True
            )
            self._watch.start()

    def start(self, tier: str, seconds: float | None) -> None:
        """Begins a pass. UsageError where there is no such tier; OSError EBUSY while one runs."""
        if self._volumes.store.read_only:
            raise StoreReadOnly(f"{self._volumes.store.path} is mounted read-only")
        with self._lock:
            if self._is_running():
                raise OSError(errno.EBUSY, "the mount refines already")
            self._begin(tier, seconds, by_itself=False)

    def stop(self) -> None:
        """Has the pass that runs end soon. Does not wait for it: others are to be answered."""
        refiner = self._refiner
        if refiner is not None:
            refiner.stop()

    def close(self) -> None:
        """Ends all of it, and waits for that; before the volumes are closed."""
        self._closing.set()
        with self._lock:
            self.stop()
            thread = self._thread
        for each in (thread, self._watch):
            if each is not None:
                each.join()

    def statistics(self) -> dict[str, Any]:
        """What `stats --json` tells of it."""
        told: dict[str, Any] = {"by_itself": self._tier, "running": self._is_running()}
        if self._progress is not None:
            told.update(self._progress.to_dict())
        return told

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, tier: str, seconds: float | None, *, by_itself: bool) -> None:
        # Imported with the first pass: a mount that refines nothing does not carry it.
        from difffs.refine.refiner import Refiner

        self._refiner = refiner = Refiner(
            self._volumes.store,
            tier_named(tier),
            on_routing_thread=self._volumes.on_routing_thread,
            commit=self._volumes.commit,
            give_way=lambda: self._wait_for_others(by_itself=by_itself),
        )
        self._progress = refiner.progress
        self._thread = threading.Thread(
            target=self._run, args=(refiner, seconds), name="difffs-refiner", daemon=True
        )
        self._thread.start()

    def _run(self, refiner: "Refiner", seconds: float | None) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            refiner.run(seconds)
        except DifffsError as error:
            refiner.progress.error = str(error)
            log.warning("refining has ended: %s", error)
        except Exception as error:  # nothing half done is left: the store goes on without
            refiner.progress.error = f"an internal error ({error!r})"
            log.exception("refining has ended")

    def _wait_for_others(self, *, by_itself: bool) -> None:
        """Between groups: the routing thread's work goes first, and what was begun by itself ends
        when something is written."""
        if by_itself and self._volumes.quiet_seconds < self._quiet_seconds / 2:
            assert self._refiner is not None
            self._refiner.stop()
        while self._volumes.is_busy and not self._closing.is_set():
            time.sleep(_WAIT_SECONDS)

    def _begin_when_quiet(self) -> None:
        assert self._tier is not None
        refined_at = -1
        while not self._closing.wait(min(_LOOK_SECONDS, self._quiet_seconds)):
            batches = self._volumes.routed_batches
            if batches == refined_at or self._volumes.quiet_seconds < self._quiet_seconds:
                continue
            with self._lock:
                if self._is_running() or self._closing.is_set():
                    continue
                self._begin(self._tier, None, by_itself=True)
                thread = self._thread
            assert thread is not None
            thread.join()
            # Whether it came to its end, to one of the disk's or to somebody's: not again before
            # something is written.
            refined_at = batches
