"""The daemon: one store, mounted until somebody unmounts it.

Threads (docs/concurrency.md): the main thread answers the kernel; ``volumes`` has its own; one
thread waits for signals; short-lived ones finish the start once the kernel has greeted, watch that
it comes to that, and do what a signal asks for.
"""

import contextlib
import errno
import fcntl
import gc
import json
import logging
import math
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from difffs import stats
from difffs.engine import Engine
from difffs.errors import DifffsError, EnvironmentProblem, MountProblem
from difffs.mount import daemon_log, own_mount
from difffs.mount.caller import Caller
from difffs.mount.detach import detach
from difffs.mount.flags import apply_to_mountpoint, for_libfuse
from difffs.mount.kernel_tuning import KernelTuning, request_timeouts
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at
from difffs.mount.options import MountOptions
from difffs.mount.privileges import Privileges
from difffs.mount.refining import Refining
from difffs.mount.request_times import request_statistics
from difffs.mount.table import Mount, mounts
from difffs.signals import SAME_SECONDS
from difffs.store import Store
from difffs.store.lock import mount_note
from difffs.volume import Volumes

log = logging.getLogger("difffs.mount")

_SWITCH_SECONDS = 0.0002
"""Longest time that the thread which answers the kernel waits for another to leave the interpreter;
Python's own 5 ms are 50 requests."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_ANSWER_SECONDS = 60.0
"""How long a new mount may take to answer, from when the store is open: some 0.1 s, but 20 s while
a slow machine boots."""

_PARENT_SECONDS = 70.0
"""The same for who started the daemon, should it not even be able to tell."""

_WRITE_BACK_SECONDS = 5.0
"""How long a second signal waits for the unmounting that the first one began."""

_END_SECONDS = 5.0
"""How long a daemon whose start failed may take to end."""


def check_mountpoint(mountpoint: Path, store: Path) -> None:
    """Raise ``MountProblem`` or ``EnvironmentProblem`` when a mount cannot succeed."""
    mount = mount_at(mountpoint)
    if mount is not None and mount.kind == FILE_SYSTEM_TYPE:
        raise MountProblem(
            f"{mountpoint} is a mount of {mount.source} already: difffs umount {mountpoint}"
        )
    try:
        mode = mountpoint.stat().st_mode
    except FileNotFoundError:
        raise MountProblem(f"{mountpoint} does not exist: mkdir -p {mountpoint}") from None
    except OSError as error:
        remedy = "unmount what is there" if error.errno == errno.ENOTCONN else "check the path"
        raise MountProblem(f"{mountpoint}: {error.strerror}; {remedy}") from None
    if not stat.S_ISDIR(mode):
        raise MountProblem(f"{mountpoint} is not a directory: choose or make one")
    if _is_at_or_below(mountpoint, store):
        raise MountProblem(f"{mountpoint} lies in the store {store}: choose another mount point")
    if _is_at_or_below(store, mountpoint):
        raise MountProblem(
            f"the store {store} lies below its own mount point {mountpoint}, and would wait for "
            "itself: choose another mount point"
        )
    if not os.path.exists("/dev/fuse"):
        raise EnvironmentProblem(
            "/dev/fuse does not exist: modprobe fuse (in a container: pass the device in)"
        )
    if os.geteuid() == 0:
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise EnvironmentProblem(
                f"/dev/fuse cannot be opened ({error.strerror}): modprobe fuse (in a container: "
                "pass the device in)"
            ) from None


def _is_at_or_below(path: Path, directory: Path) -> bool:
    """Return whether ``path``, which need not exist, lies in ``directory`` by whatever name.

    A mount on one name of a directory appears on its others too where mounts are propagated.
    """
    try:
        wanted = directory.stat()
    except OSError:
        return False
    resolved = Path(os.path.realpath(path))
    for ancestor in (resolved, *resolved.parents):
        with contextlib.suppress(OSError):
            if os.path.samestat(ancestor.stat(), wanted):
                return True
    return False


def open_store(path: Path, options: MountOptions) -> Store:
    """Open the store, or make it when there is nothing but an empty directory or nothing."""
    if options.read_only:
        return Store.open(path, options.recipe, read_only=True, domains=options.domains)
    return Store.open_or_create(
        path, options.recipe, change_recipe=options.change_recipe, domains=options.domains
    )


class Daemon:
    """One mount of one store."""

    def __init__(
        self,
        store: Path,
        mountpoint: Path,
        options: MountOptions,
        on_open: Callable[[], None],
        on_mounted: Callable[[], None],
    ) -> None:
        """Prepare. ``on_open`` is called when the store is open, ``on_mounted`` when it answers."""
        # A link on the way may lie below the mount point, where it soon leads nowhere.
        self._store_path = Path(os.path.realpath(store))
        self._mountpoint = Path(os.path.realpath(mountpoint))
        self._options = options
        self._on_open = on_open
        self._on_mounted = on_mounted
        self._tuning = KernelTuning(options.read_ahead_bytes)
        self._privileges = Privileges(self._tuning.note)
        self._mounted = False
        self._stopping = False
        self._signals = 0
        self._leaving: threading.Thread | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        self._start_problem: DifffsError | None = None
        self._device: int | None = None
        self._store: Store | None = None
        self._volumes: Volumes | None = None
        self._caller: Caller | None = None

    def run(self) -> None:
        """Mount, serve, and return when unmounted and everything is committed.

        To be called in the main thread of a process without other threads. ``MountProblem`` when
        it comes to no mount that answers. After an error that stopped all writing, that error: the
        store stays at its last commit.
        """
        from difffs.mount import binding
        from difffs.mount.operations import VolumeOperations

        self._caller = Caller(binding.request_context)
        # Blocked here and thereby in all threads to come: one thread takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._tuning.apply_to_process(lock_memory=self._options.lock_memory)
        self._privileges.give_up()
        with open_store(self._store_path, self._options) as store:
            self._on_open()
            for warning in request_timeouts():
                log.warning("%s", warning)
            self._store = store
            engine = Engine(store, workers=self._options.workers)
            volumes = Volumes(engine, buffer_bytes=self._options.buffer_bytes)
            volumes.keeps_memory = self._options.lock_memory
            self._volumes = volumes

            refining = Refining(volumes, self._options.refine, self._options.refine_after)

            def collect() -> dict[str, Any]:
                report = stats.collect(store, volumes)
                report["mountpoint"] = str(self._mountpoint)
                report["read_only"] = store.read_only
                report["mount_options"] = self._options.changed_by_mounting_anew()
                report["kernel_settings"] = self._tuning.report()
                report["refine"] = refining.statistics()
                report.update(request_statistics())
                return report

            operations = VolumeOperations(
                *(volumes, self._caller, self._tuning, collect, self._finish_start_soon),
                refining,
            )
            self._start_thread(self._take_signals)
            self._start_thread(self._watch_start)
            # What exists now stays: no need to look at it at every collection.
            gc.freeze()
            sys.setswitchinterval(_SWITCH_SECONDS)
            try:
                self._privileges.mount()
                binding.serve(operations, str(self._mountpoint), self._libfuse_options())
                if self._start_problem is not None:
                    raise self._start_problem
            finally:
                self._mounted = False
                self._started.set()
                self._ended.set()
                try:
                    with contextlib.suppress(DifffsError):  # volumes.close() tells what is wrong
                        operations.close()
                finally:
                    refining.close()
                    volumes.close()
                if volumes.failed is not None:
                    # Nothing that is in memory now may reach the store: leaving with an error
                    # abandons it at its last commit.
                    raise volumes.failed
        log.info("unmounted %s from %s", self._store_path, self._mountpoint)

    @staticmethod
    def _start_thread(task: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=task, name=task.__name__.strip("_"), daemon=True)
        thread.start()
        return thread

    def _libfuse_options(self) -> dict[str, str | bool]:
        source = str(self._store_path).replace("\\", "\\\\").replace(",", "\\,")
        options: dict[str, str | bool] = {
            "fsname": source,
            "subtype": FILE_SYSTEM_TYPE.partition(".")[2],
            "default_permissions": True,
            "allow_other": self._options.allow_other,
            "ro": self._options.read_only,
        }
        options.update(dict.fromkeys(for_libfuse(self._options.kernel_flags), True))
        return options

    # ---- the start ---------------------------------------------------------------------------

    def _finish_start_soon(self) -> None:
        """Called in the main thread when the kernel has greeted."""
        # The start thread may have to take the mount away, and sets its mount point's flags: it is
        # started with what that takes.
        self._start_thread(self._finish_start)
        self._privileges.serve()

    def _finish_start(self) -> None:
        """Wait for the mount's first answer, tune what exists only now, and tell."""
        try:
            mount = self._own_mount()
            device = mount.device
            self._device = device
            apply_to_mountpoint(mount, self._options.kernel_flags)
            for _, text in list(own_mount.look_at(str(self._mountpoint))):
                raise MountProblem(f"{self._mountpoint} does not answer: {text}")
            if self._caller is not None:
                self._caller.set_device(device)
            self._tuning.apply_to_mount(device)
            if self._store is not None and not self._store.read_only:
                self._store.set_lock_note(mount_note(str(self._mountpoint), device))
        except OSError as error:
            self._fail_start(MountProblem(f"{self._mountpoint} does not answer: {error.strerror}"))
            return
        except DifffsError as error:
            self._fail_start(error)
            return
        if self._started.is_set():
            return  # too late
        self._mounted = True
        self._started.set()
        log.info("mounted %s on %s", self._store_path, self._mountpoint)
        _notify_service_manager("READY=1")
        self._on_mounted()
        if self._stopping:
            self._leaving = self._start_thread(self._leave)

    def _own_mount(self) -> Mount:
        """Find the mount without asking it."""
        where = str(self._mountpoint)
        found = [
            mount
            for mount in mounts()
            if (mount.mountpoint, mount.kind) == (where, FILE_SYSTEM_TYPE)
        ]
        if not found:
            raise MountProblem(f"{where} was taken away before it answered: try again")
        return found[-1]

    def _watch_start(self) -> None:
        if not self._started.wait(_ANSWER_SECONDS):
            self._fail_start(
                MountProblem(
                    f"{self._mountpoint} does not answer after {_ANSWER_SECONDS:g} s: is something "
                    "mounted over it? see the log"
                )
            )

    def _fail_start(self, problem: DifffsError) -> None:
        """End the mount, and with it the daemon, which then tells the problem."""
        self._start_problem = problem
        self._started.set()
        self._start_thread(self._take_away)
        if not self._ended.wait(_END_SECONDS):
            log.error("%s", problem)
            logging.shutdown()
            os._exit(problem.exit_code)

    def _take_away(self) -> None:
        for level, text in own_mount.take_away(str(self._mountpoint)):
            log.log(level, "%s", text)

    # ---- the end -----------------------------------------------------------------------------

    def _take_signals(self) -> None:
        """Have what a signal asks for done in a thread of its own: it may take long.

        Signals that follow one another at once are one wish: service managers, timeout(1) and
        closing terminals send several.
        """
        counted = -math.inf
        while True:
            number = signal.sigwait(_SIGNALS)
            name = signal.Signals(number).name
            if self._tuning.carries_swap:
                log.info("%s: unmounting", name)
                if self._leaving is None or not self._leaving.is_alive():
                    self._leaving = self._start_thread(self._leave)
                continue
            now = time.monotonic()
            if now - counted <= SAME_SECONDS:
                continue
            counted = now
            self._signals += 1
            if self._signals == 1:
                log.info("%s: unmounting", name)
                self._stopping = True
                if self._mounted:
                    self._leaving = self._start_thread(self._leave)
            elif self._signals == 2:
                self._start_thread(self._give_up)
            else:
                log.warning("%s: ending without a commit", name)
                os._exit(1)

    def _leave(self) -> None:
        """Unmount, wherever the mount is by now. What is in use goes on being served."""
        _notify_service_manager("STOPPING=1")
        if self._device is not None:
            for level, text in own_mount.leave(
                self._device, str(self._store_path), carries_swap=self._tuning.carries_swap
            ):
                log.log(level, "%s", text)

    def _give_up(self) -> None:
        """End soon, for the second signal: commit what has come by now and go."""
        if self._leaving is not None:
            # What the kernel is sending now would be lost.
            self._leaving.join(_WRITE_BACK_SECONDS)
        log.warning("ending although files are open")
        code = 0
        if self._volumes is not None:
            try:
                self._volumes.flush()
            except DifffsError as error:
                log.error("%s", error)
                code = error.exit_code
            except BaseException:  # whatever it is, this process ends
                log.exception("nothing more could be committed")
                code = 1
        os._exit(code)


def _notify_service_manager(state: str) -> None:
    """Tell systemd, if it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.sendall(state.encode())


def mount_in_foreground(store: Path, mountpoint: Path, options: MountOptions) -> None:
    """Mount and serve in this process, with the log on stderr, until unmounted."""
    check_mountpoint(mountpoint, store)
    # libfuse goes to the root directory even in the foreground.
    store, mountpoint = store.absolute(), mountpoint.absolute()
    daemon_log.log_to_terminal()
    Daemon(store, mountpoint, options, lambda: None, lambda: None).run()


def mount_in_background(store: Path, mountpoint: Path, options: MountOptions) -> int:
    """Start a process that mounts and serves; return its id when the mount answers.

    Raises what stopped the process when it comes to no mount.
    """
    check_mountpoint(mountpoint, store)
    receiver, sender = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None: closed when this program was started
            stream.flush()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _become_daemon(store, mountpoint, options, sender)
    os.close(sender)
    try:
        report = _await_mount(receiver)
    except BaseException:  # who asked for the mount wants it no more
        _end(child, mountpoint)
        raise
    finally:
        os.close(receiver)
    if report is None:
        _end(child, mountpoint)
        raise MountProblem(
            f"{mountpoint} was not mounted: its daemon did not answer for {_PARENT_SECONDS:g} s "
            f"and was ended; see {store}/log"
        )
    if "error" in report:
        os.waitpid(child, 0)
        error = DifffsError(report["error"])
        error.exit_code = report["exit_code"]
        raise error
    if "mounted" not in report:
        _, status = os.waitpid(child, 0)
        _take_dead_away(mountpoint)
        raise MountProblem(
            f"{mountpoint} was not mounted: the daemon ended "
            f"(status {os.waitstatus_to_exitcode(status)}); see {store}/log"
        )
    return child


def _await_mount(receiver: int) -> dict[str, Any] | None:
    """Return the daemon's last word on its start, empty when it ended without one.

    Opening a store takes as long as it takes. None when it then does not come to an end.
    """
    end: float | None = None
    text = b""
    ready = select.poll()
    ready.register(receiver, select.POLLIN)
    while True:
        left = None if end is None else max(0.0, end - time.monotonic()) * 1000
        if not ready.poll(left):
            return None
        piece = os.read(receiver, 1 << 16)
        if not piece:
            return {}
        text += piece
        while b"\n" in text:
            line, _, text = text.partition(b"\n")
            report: dict[str, Any] = json.loads(line)
            if "open" not in report:
                return report
            end = time.monotonic() + _PARENT_SECONDS


def _end(child: int, mountpoint: Path) -> None:
    """End a daemon before it has mounted, even one that is stopped; its store is whole."""
    os.kill(child, signal.SIGKILL)
    mount = mount_at(mountpoint)
    if mount is not None and mount.kind == FILE_SYSTEM_TYPE:
        with contextlib.suppress(DifffsError):
            detach(mount.mountpoint, lazy=True)
    os.waitpid(child, 0)


def _take_dead_away(mountpoint: Path) -> None:
    """Free the mount point of a daemon that ended without doing so."""
    mount = mount_at(mountpoint)
    if mount is None or mount.kind != FILE_SYSTEM_TYPE:
        return
    try:
        os.stat(mountpoint)  # somebody else's answers
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            with contextlib.suppress(DifffsError):
                detach(mount.mountpoint, lazy=True)


def _become_daemon(store: Path, mountpoint: Path, options: MountOptions, sender: int) -> NoReturn:
    """Run the daemon in the forked child."""
    code = 1
    answered = False
    complaints = -1
    sender = _beyond_standard_streams(sender)

    def tell(report: dict[str, Any], *, last: bool = True) -> None:
        nonlocal answered
        if not answered:
            with contextlib.suppress(OSError):  # who asked is gone
                os.write(sender, json.dumps(report).encode() + b"\n")
            if last:
                answered = True
                os.close(sender)

    def on_open() -> None:
        daemon_log.log_to_files(store, read_only=options.read_only)
        tell({"open": True}, last=False)

    def on_mounted() -> None:
        # Not earlier: below an automount point that waits for this very mount, all who are not in
        # the process group of mount(8) wait too, even to look at the mount point.
        os.setsid()
        # Nobody reads stderr from here on; everything of interest is logged.
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        os.close(null)
        tell({"mounted": True})

    try:
        store, mountpoint = Path(os.path.realpath(store)), mountpoint.absolute()
        os.chdir("/")
        complaints = _redirect_standard_streams(keep=sender)
        Daemon(store, mountpoint, options, on_open, on_mounted).run()
        code = 0
    except DifffsError as error:
        text = str(error)
        if isinstance(error, MountProblem) and complaints >= 0:
            text = _with_complaints(text, complaints)
        if answered:
            log.error("%s", text)
        tell({"error": text, "exit_code": error.exit_code})
        code = error.exit_code
    except BaseException as error:
        log.exception("the daemon failed")
        tell({"error": f"unexpected: {error!r}; see {store}/log", "exit_code": 1})
        traceback.print_exc()
    finally:
        logging.shutdown()
        os._exit(code)


def _beyond_standard_streams(descriptor: int) -> int:
    """Return the descriptor under a number that is none of the standard streams'.

    It gets one of those when this program was started without them.
    """
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _redirect_standard_streams(keep: int) -> int:
    """Detach from the terminal and close all files but ``keep``.

    Returns the file that collects what libfuse writes to stderr.
    """
    complaints = _beyond_standard_streams(os.memfd_create("stderr"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(complaints, 2)
    # The limit of descriptors may be a thousand million: only those that there are.
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in (keep, complaints):
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(descriptor)
    return complaints


def _with_complaints(text: str, complaints: int) -> str:
    """Add what libfuse wrote to stderr, its own way of giving reasons."""
    size = os.fstat(complaints).st_size
    said = os.pread(complaints, min(size, 2000), 0).decode("utf-8", "replace").strip()
    return f"{text}: {'; '.join(said.split(chr(10)))}" if said else text
