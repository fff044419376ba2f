"""The daemon: one store, mounted until somebody unmounts it.

Threads (docs/concurrency.md): the main thread answers the kernel; ``volumes`` has its own; one
thread waits for signals; a short-lived one finishes the start once the kernel has greeted.
"""

import contextlib
import errno
import gc
import json
import logging
import os
import signal
import socket
import stat
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from difffs import stats
from difffs.engine import Engine
from difffs.errors import DifffsError, EnvironmentProblem, MountProblem
from difffs.mount import daemon_log
from difffs.mount.caller import Caller
from difffs.mount.kernel_tuning import KernelTuning
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at
from difffs.mount.options import MountOptions
from difffs.mount.unmount import detach, write_back
from difffs.store import Store
from difffs.volume import Volumes

log = logging.getLogger("difffs.mount")

_SWITCH_SECONDS = 0.0002
"""Longest time that the thread which answers the kernel waits for another to leave the interpreter;
Python's own 5 ms are 50 requests."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
    if mountpoint.resolve().is_relative_to(store.resolve()):
        raise MountProblem(f"{mountpoint} lies in the store {store}: choose another mount point")
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


def open_store(path: Path, options: MountOptions) -> Store:
    """Open the store, or make it when there is nothing but an empty directory or nothing."""
    if options.read_only:
        return Store.open(path, options.recipe, read_only=True)
    return Store.open_or_create(path, options.recipe, change_recipe=options.change_recipe)


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
        self._store_path = store
        self._mountpoint = mountpoint.resolve()
        self._options = options
        self._on_open = on_open
        self._on_mounted = on_mounted
        self._tuning = KernelTuning(options.read_ahead_bytes)
        self._mounted = False
        self._stopping = False
        self._volumes: Volumes | None = None
        self._caller: Caller | None = None

    def run(self) -> None:
        """Mount, serve, and return when unmounted and everything is committed.

        To be called in the main thread of a process without other threads.
        """
        from difffs.mount import binding
        from difffs.mount.operations import VolumeOperations

        self._caller = Caller(binding.request_context)
        # Blocked here and thereby in all threads to come: one thread takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._tuning.apply_to_process(lock_memory=self._options.lock_memory)
        with open_store(self._store_path, self._options) as store:
            self._on_open()
            if not store.read_only:
                store.set_lock_note(f"process {os.getpid()}\nmounted on {self._mountpoint}")
            engine = Engine(store, workers=self._options.workers)
            volumes = Volumes(engine, buffer_bytes=self._options.buffer_bytes)
            self._volumes = volumes

            def collect() -> dict[str, Any]:
                report = stats.collect(store, volumes)
                report["mountpoint"] = str(self._mountpoint)
                report["kernel_settings"] = self._tuning.report()
                return report

            operations = VolumeOperations(
                volumes, self._caller, self._tuning, collect, self._finish_start_soon
            )
            threading.Thread(target=self._take_signals, name="signals", daemon=True).start()
            # What exists now stays: no need to look at it at every collection.
            gc.freeze()
            sys.setswitchinterval(_SWITCH_SECONDS)
            try:
                binding.serve(operations, str(self._mountpoint), self._libfuse_options())
            finally:
                self._mounted = False
                with contextlib.suppress(DifffsError):  # volumes.close() tells what is wrong
                    operations.close()
                volumes.close()
        log.info("unmounted %s from %s", self._store_path, self._mountpoint)

    def _libfuse_options(self) -> dict[str, str | bool]:
        source = str(self._store_path.resolve()).replace("\\", "\\\\").replace(",", "\\,")
        options: dict[str, str | bool] = {
            "fsname": source,
            "subtype": FILE_SYSTEM_TYPE.partition(".")[2],
            "default_permissions": True,
            "allow_other": self._options.allow_other,
            "ro": self._options.read_only,
        }
        options.update(dict.fromkeys(self._options.kernel_flags, True))
        return options

    # ---- the start ---------------------------------------------------------------------------

    def _finish_start_soon(self) -> None:
        threading.Thread(target=self._finish_start, name="start", daemon=True).start()

    def _finish_start(self) -> None:
        """Wait for the mount's first answer, tune what exists only now, and tell."""
        try:
            device = os.stat(self._mountpoint).st_dev
            if self._caller is not None:
                self._caller.set_device(device)
            self._tuning.apply_to_mount(device)
        except OSError as error:
            log.error("%s does not answer: %s", self._mountpoint, error)
            return
        self._mounted = True
        log.info("mounted %s on %s", self._store_path, self._mountpoint)
        _notify_service_manager("READY=1")
        self._on_mounted()
        if self._stopping:
            self._leave()

    # ---- the end -----------------------------------------------------------------------------

    def _take_signals(self) -> None:
        while True:
            number = signal.sigwait(_SIGNALS)
            log.info("%s: unmounting", signal.Signals(number).name)
            if not self._mounted:
                self._stopping = True
            elif not self._stopping or self._tuning.carries_swap:
                self._stopping = True
                self._leave()
            else:
                self._give_up()

    def _leave(self) -> None:
        """Unmount. What is in use goes on being served, without a place in the tree."""
        _notify_service_manager("STOPPING=1")
        mountpoint = str(self._mountpoint)
        with contextlib.suppress(OSError):
            write_back(mountpoint)
        try:
            detach(mountpoint)
        except DifffsError as error:
            if self._tuning.carries_swap:
                # Without a place in the tree nobody could swap off any more, and ending would
                # take swapped memory away from its processes.
                log.warning("%s; if it carries swap: difffs swapoff %s", error, self._store_path)
                return
            log.warning(
                "%s; detached it, and serving goes on until the last file is closed "
                "(a second signal ends it at once)",
                error,
            )
            try:
                detach(mountpoint, lazy=True)
            except DifffsError as lazy_error:
                log.error("%s", lazy_error)

    def _give_up(self) -> None:
        """End at once, for the second signal: commit what is here and go."""
        log.warning("ending although files are open")
        code = 0
        if self._volumes is not None:
            try:
                self._volumes.flush()
            except DifffsError as error:
                log.error("%s", error)
                code = error.exit_code
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
    daemon_log.log_to_terminal()
    Daemon(store, mountpoint, options, lambda: None, lambda: None).run()


def mount_in_background(store: Path, mountpoint: Path, options: MountOptions) -> int:
    """Start a process that mounts and serves; return its id when the mount answers.

    Raises what stopped the process when it comes to no mount.
    """
    check_mountpoint(mountpoint, store)
    receiver, sender = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _become_daemon(store, mountpoint, options, sender)
    os.close(sender)
    with open(receiver, encoding="utf-8") as channel:
        answer = channel.read()
    if not answer:
        _, status = os.waitpid(child, 0)
        raise MountProblem(
            f"{mountpoint} was not mounted: the daemon ended "
            f"(status {os.waitstatus_to_exitcode(status)}); see {store}/log"
        )
    report: dict[str, Any] = json.loads(answer)
    if "error" in report:
        os.waitpid(child, 0)
        error = DifffsError(report["error"])
        error.exit_code = report["exit_code"]
        raise error
    return child


def _become_daemon(store: Path, mountpoint: Path, options: MountOptions, sender: int) -> None:
    """Run the daemon in the forked child; never returns."""
    code = 1
    answered = False

    def answer(report: dict[str, Any]) -> None:
        nonlocal answered
        if not answered:
            answered = True
            os.write(sender, json.dumps(report).encode())
            os.close(sender)

    try:
        os.setsid()
        store, mountpoint = store.absolute(), mountpoint.absolute()
        os.chdir("/")
        complaints = _redirect_standard_streams(keep=sender)

        def on_mounted() -> None:
            # Nobody reads stderr from here on; everything of interest is logged.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 2)
            os.close(null)
            answer({"mounted": True})

        log_to_files = partial(daemon_log.log_to_files, store, read_only=options.read_only)
        Daemon(store, mountpoint, options, log_to_files, on_mounted).run()
        code = 0
    except DifffsError as error:
        text = str(error)
        if isinstance(error, MountProblem):
            text = _with_complaints(text, complaints)
        if answered:
            log.error("%s", text)
        answer({"error": text, "exit_code": error.exit_code})
        code = error.exit_code
    except BaseException as error:
        log.exception("the daemon failed")
        answer({"error": f"unexpected: {error!r}; see {store}/log", "exit_code": 1})
        traceback.print_exc()
    finally:
        logging.shutdown()
        os._exit(code)


def _redirect_standard_streams(keep: int) -> int:
    """Detach from the terminal; return the file that collects what libfuse writes to stderr."""
    complaints = os.memfd_create("stderr")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(complaints, 2)
    os.closerange(3, min(keep, complaints))
    highest = os.sysconf("SC_OPEN_MAX")
    low, high = sorted((keep, complaints))
    os.closerange(low + 1, high)
    os.closerange(high + 1, highest)
    return complaints


def _with_complaints(text: str, complaints: int) -> str:
    """Add what libfuse wrote to stderr, its own way of giving reasons."""
    size = os.fstat(complaints).st_size
    said = os.pread(complaints, min(size, 2000), 0).decode("utf-8", "replace").strip()
    return f"{text}: {'; '.join(said.splitlines())}" if said else text
