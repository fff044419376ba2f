"""Swapping to a store: a mount, a volume, a loop device over it, mkswap, swapon; and back.

The kernel does not swap to a FUSE file directly, but to a loop device that reads and writes it
with direct I/O. Freed swap space is discarded and so leaves the store.

Swap areas and loop devices are the machine's, mounts are a mount namespace's: what is active is
asked of the former, and undone in the namespace that has the mount.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from difffs import linux
from difffs.errors import EnvironmentProblem, MountProblem, StoreBusy, VolumeNotFound
from difffs.loop_device import (
    LoopDevice,
    detach,
    inspect,
    is_read_only,
    loop_devices,
    set_writable,
)
from difffs.mount.daemon import mount_in_background
from difffs.mount.kernel_tuning import request_timeouts
from difffs.mount.live import FILE_SYSTEM_TYPE, lock_memory, mountpoints_of, read_statistics
from difffs.mount.options import MountOptions
from difffs.mount.table import (
    MountOfProcess,
    command_of,
    lines_of,
    mount_namespace,
    mounts_everywhere,
    unescape,
)
from difffs.mount.unmount import unmount
from difffs.page import PAGE_SIZE
from difffs.store.format import LOCK_FILE
from difffs.store.lock import StoreUse, is_in_use, use_of
from difffs.swappable import swappable_layer

RUNTIME_DIRECTORY = Path("/run/difffs")
"""Where stores that nobody has mounted get their mount points."""

VOLUME = "swap"
"""Name of the volume that is swapped to."""

DEFAULT_OPTIONS = MountOptions(buffer_bytes=4 << 20)
"""How a store is mounted for swapping: what lies in the buffer has left no memory yet, and a larger
one made no program under a memory limit faster."""

_ZSWAP = Path("/sys/module/zswap/parameters/enabled")

_POLL_SECONDS = 0.05

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class SwapArea:
    """One active area: the loop device and the volume under it."""

    device: str
    volume: Path
    mountpoint: str
    warnings: tuple[str, ...] = ()


def _run(*command: str) -> str:
    """Run a tool of util-linux; return its output. ``EnvironmentProblem`` with its complaint."""
    program = shutil.which(command[0], path=_PATH)
    if program is None:
        raise EnvironmentProblem(
            f"{command[0]} is missing: install util-linux (Debian: apt install util-linux mount)"
        )
    result = subprocess.run(
        [program, *command[1:]],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        env={"PATH": _PATH, "LC_ALL": "C"},
    )
    if result.returncode != 0:
        complaint = result.stderr.strip().replace("\n", "; ") or f"exit code {result.returncode}"
        raise EnvironmentProblem(f"{' '.join(command)} failed: {complaint}")
    return result.stdout


def _require_root() -> None:
    if os.geteuid() != 0:
        raise EnvironmentProblem("swapping needs root: run this with sudo")


def _own_mountpoint(store: Path) -> Path:
    path = os.path.realpath(store)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return RUNTIME_DIRECTORY / f"{os.path.basename(path)}-{digest}"


def active_areas() -> dict[str, int]:
    """Return the priority of each active swap area, a device as ``/dev/NAME``."""
    areas = {}
    for line in lines_of(Path("/proc/swaps").read_bytes())[1:]:
        name, kind, *_, priority = line.split()
        path = unescape(name)
        if kind == b"partition":
            # The kernel shows no more of the path than there is left of the mount namespace in
            # which it was named.
            path = f"/dev/{os.path.basename(path)}"
        areas[path] = int(priority)
    return areas


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is of a store's mount and its swap area, wherever it was made."""

    places: list[MountOfProcess]
    """Where it is mounted, this mount namespace first."""
    loops: list[LoopDevice]
    """The loop devices over its swap volume."""
    use: StoreUse | None
    """Who has it open for writing."""

    @property
    def here(self) -> list[MountOfProcess]:
        """The places in this mount namespace."""
        return [place for place in self.places if place.process == os.getpid()]

    @property
    def active(self) -> list[str]:
        """The loop devices that are swapped to."""
        areas = active_areas()
        return [loop.path for loop in self.loops if loop.path in areas]


def _find(store: Path, *, hidden: bool = False) -> _Found:
    """Look for it; with ``hidden`` by the path alone, too, when no store is seen there.

    The store may be visible in the mount namespace only in which it is swapped to, or have been
    moved meanwhile.
    """
    by_path = hidden and not _is_visible(store)
    noted = use_of(store)
    use = noted if is_in_use(store) else None
    everywhere = [one for one in mounts_everywhere() if one.mount.kind == FILE_SYSTEM_TYPE]
    if use is not None and use.device is not None:
        devices = {use.device}
    else:  # its daemon is dead, or has it open to read only
        devices = {
            one.mount.device
            for one in everywhere
            if _is_mount_of(one, store) or (by_path and one.mount.source == os.path.realpath(store))
        }
        taken = {one.mount.device for one in everywhere}
        if not devices and noted.device is not None and noted.device not in taken:
            devices = {noted.device}  # the mount is gone as well, a loop device may still hold it
    places = [one for one in everywhere if one.mount.device in devices]
    if use is not None:  # the daemon's own namespace before copies of it
        places.sort(key=lambda one: (one.process != os.getpid(), not _shares(one, use)))
    volumes = _volumes_at(places)
    names = {os.path.join(one.mount.mountpoint, VOLUME) for one in places}
    if not places and devices:
        # All that the kernel says of a file without a place is its path in the file system.
        names = {f"/{VOLUME}", os.path.join(_own_mountpoint(store), VOLUME)}

    def is_area(loop: LoopDevice) -> bool:
        if loop.file_device is None:
            return use is None and loop.file_name in names
        return loop.file_device in devices and (
            loop.file_inode in volumes
            or loop.file_name in names
            or (not places and os.path.basename(loop.file_name) == VOLUME)
        )

    loops = [loop for loop in loop_devices() if is_area(loop)]
    return _Found(places, loops, use)


def _shares(place: MountOfProcess, use: StoreUse) -> bool:
    try:
        return use.process is not None and (
            mount_namespace(place.process) == mount_namespace(use.process)
        )
    except OSError:
        return False


def _is_mount_of(place: MountOfProcess, store: Path) -> bool:
    """Return whether a mount is of this store, whose path may be another one there."""
    if place.process == os.getpid():
        return place.mount.source == os.path.realpath(store)
    try:
        return os.path.samefile(f"/proc/{place.process}/root{place.mount.source}", store)
    except OSError:
        return False


def _is_visible(store: Path) -> bool:
    return os.path.exists(os.path.join(store, LOCK_FILE))


def _volumes_at(places: list[MountOfProcess]) -> set[int]:
    """Return the inode number of the swap volume; nothing when there is none, or no daemon."""
    found = set()
    for place in places:
        with suppress(OSError):
            folder = f"/proc/{place.process}/root{place.mount.mountpoint}"
            found.add(os.stat(os.path.join(folder, VOLUME)).st_ino)
    return found


def _tune_queue(device: str) -> None:
    """Spare the loop device what only helps disks. Nothing depends on it."""
    queue = Path("/sys/block") / os.path.basename(device) / "queue"
    for setting, value in (("rotational", "0"), ("scheduler", "none"), ("wbt_lat_usec", "0")):
        try:
            (queue / setting).write_text(value)
        except OSError:
            continue  # this kernel has no such setting


def _make_volume(volume: Path, size: int) -> None:
    try:
        # What an earlier area left behind goes first.
        file = os.open(volume, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(file, size)
        finally:
            os.close(file)
    except OSError as error:
        raise EnvironmentProblem(
            f"{volume} cannot be made: {error.strerror}; see the log in the store"
        ) from error


def refuse_swappable_store(store: Path) -> list[str]:
    """Raise ``EnvironmentProblem`` when the store itself could be swapped out, to itself.

    Returns a warning for what cannot be told.
    """
    layer, remarks = swappable_layer(store)
    if layer is not None:
        raise EnvironmentProblem(
            f"{store} lies on {layer}: that can be swapped out to the store itself, which then "
            "hangs; use a disk, or mount -t tmpfs -o noswap (Linux 6.4 or later)"
        )
    return [
        f"{remark}: if it can be swapped out, the host may hang; use a disk" for remark in remarks
    ]


def swap_on(
    store: Path, size: int, priority: int | None = None, options: MountOptions | None = None
) -> SwapArea:
    """Swap to ``store``, up to ``size`` bytes; a mount that there is already gets used.

    Either the area is active at the end, or everything is as it was.
    """
    _require_root()
    warnings = refuse_swappable_store(store)
    size -= size % PAGE_SIZE
    _refuse_second_area(store, _find(store))
    with ExitStack() as undo:
        mountpoints = mountpoints_of(store)
        if mountpoints:
            mountpoint = mountpoints[0]
            # The mount was not made for this: its daemon gets ready now.
            try:
                lock_memory(mountpoint)
            except OSError as error:
                raise EnvironmentProblem(
                    f"{mountpoint} does not answer ({error.strerror}): difffs umount {mountpoint}"
                ) from None
        else:
            mountpoint = _mount(store, options or DEFAULT_OPTIONS, undo)
        volume = Path(mountpoint) / VOLUME
        _make_volume(volume, size)
        undo.callback(volume.unlink, missing_ok=True)
        device = _attach(volume, undo)
        _tune_queue(device)
        _run("mkswap", "--label", "difffs", device)
        wish = [] if priority is None else ["--priority", str(priority)]
        _run("swapon", "--discard", *wish, device)
        undo.pop_all()
    warnings += [*_daemon_warnings(mountpoint), *request_timeouts(), *_rival_warnings(device)]
    return SwapArea(device, volume, mountpoint, tuple(warnings))


def daemon_of(store: Path) -> int | None:
    """The process that has a store open for writing; None where there is none."""
    return use_of(store).process if is_in_use(store) else None


def _attach(volume: Path, undo: ExitStack) -> str:
    """Return a loop device over the volume that can be written to."""
    options = ("--direct-io=on", "--sector-size=4096")
    device = _run("losetup", "--find", "--show", *options, str(volume)).strip()
    detaching = undo.enter_context(ExitStack())
    detaching.callback(_run, "losetup", "--detach", device)
    if is_read_only(device):
        # The flag of `blockdev --setro` stays when a device is freed.
        set_writable(device)
        if inspect(device).opened_read_only:
            detaching.close()
            _run("losetup", *options, device, str(volume))
            undo.callback(_run, "losetup", "--detach", device)
    return device


def _daemon_warnings(mountpoint: str) -> list[str]:
    """Return what the daemon could not get and should have to carry swap."""
    settings = read_statistics(mountpoint).get("kernel_settings", [])
    wanted = ("PR_SET_IO_FLUSHER", "mlockall", "oom_score_adj", "memory cgroup")
    return [
        f"{entry['setting']} was not applied ({entry['reason']}): "
        "under memory pressure the host may hang"
        for entry in settings
        if entry["setting"].startswith(wanted) and not entry["applied"]
    ]


def _rival_warnings(device: str) -> list[str]:
    """Return what the kernel swaps to before it swaps to the device."""
    warnings = []
    with suppress(OSError):  # a kernel without it
        if _ZSWAP.read_text().strip() == "Y":
            warnings.append(
                f"zswap is on: pages stay in it, in memory, and hardly any reaches the store; "
                f"echo N > {_ZSWAP}"
            )
    areas = active_areas()
    own = areas.get(device)
    if own is not None:
        for name, priority in areas.items():
            if name != device and priority >= own:
                order = "before" if priority > own else "along with"
                warnings.append(
                    f"{name} has priority {priority} and {device} {own}: it is swapped to {order} "
                    "the store; difffs swapoff, and swapon with a --priority above it"
                )
    return warnings


def _mount(store: Path, options: MountOptions, undo: ExitStack) -> str:
    directory = _own_mountpoint(store)
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass  # left behind, or a mount point in another namespace: not to be removed
    except OSError as error:
        raise EnvironmentProblem(f"{directory} cannot be made: {error.strerror}") from None
    else:
        undo.callback(_remove_directory, directory, store)
    mount_in_background(store, directory, replace(options, lock_memory=True, allow_other=False))
    undo.callback(unmount, str(directory))
    return str(directory)


def _remove_directory(directory: Path, store: Path) -> None:
    """Remove an own mount point, unless the store is in use.

    It may then be a mount point in another namespace, where removing it would take the mount away.
    """
    if is_in_use(store) or _mounted_at(directory):
        return
    try:
        directory.rmdir()
    except OSError:
        return  # in use again, or gone already


def _mounted_at(directory: Path) -> list[MountOfProcess]:
    """Return what is mounted there, in whatever mount namespace."""
    return [one for one in mounts_everywhere() if one.mount.mountpoint == str(directory)]


def _refuse_second_area(store: Path, found: _Found) -> None:
    active = found.active
    if active:
        raise StoreBusy(f"{store} is swapped to already ({active[0]}): difffs swapoff {store}")
    for loop in found.loops:  # left over from an attempt that was killed
        _run("losetup", "--detach", loop.path)


def swap_off(store: Path) -> list[str]:
    """Stop swapping to ``store`` and undo all that :func:`swap_on` did.

    Returns the loop devices that were freed; none of them is swapped to any more. May be repeated
    after a failure: what is done already is passed over. ``VolumeNotFound`` when there is nothing
    to undo, ``EnvironmentProblem`` when it must be undone somewhere else: nothing is changed then.
    """
    _require_root()
    found = _find(store, hidden=True)
    _refuse_several(store, found)
    if found.here:
        return _undo(store, found.here, found.loops)
    if found.places:
        return _undo_elsewhere(store, found)
    if found.active and found.use is not None:
        raise EnvironmentProblem(
            f"{store} is swapped to ({found.active[0]}) from a process namespace that cannot be "
            f"seen here ({found.use.describe()}): there, difffs swapoff {store}"
        )
    if found.loops:  # its daemon is dead, and nobody has the mount any more
        return _free(found.loops)
    _refuse_what_cannot_be_placed(store, found)
    own = _own_mountpoint(store)
    if own.exists() and found.use is None and _is_visible(store):
        _remove_directory(own, store)
        return []
    raise VolumeNotFound(f"{store} is not swapped to: see swapon --show")


def _refuse_several(store: Path, found: _Found) -> None:
    """Raise when the path, all that is known of the store, is that of several."""
    by_device = {place.mount.device: place for place in found.places}
    if len(by_device) > 1 and not _is_visible(store):
        commands = " or ".join(
            f"nsenter -t {place.process} -m difffs swapoff {place.mount.source}"
            for place in by_device.values()
        )
        raise EnvironmentProblem(
            f"{store} is the path of {len(by_device)} mounted stores, none of which can be seen "
            f"from here: {commands}"
        )


def _refuse_what_cannot_be_placed(store: Path, found: _Found) -> None:
    """Raise when a mount or an area may be that of the store, of which nothing else is found.

    Removing the own mount point would take the mount away from the daemon, and with it all that
    tells where the area is.
    """
    own = _own_mountpoint(store)
    for place in _mounted_at(own):
        raise EnvironmentProblem(
            f"{own} is in use for another store of this path, {place.mount.source}, in the mount "
            f"namespace of process {place.process} ({place.command}): nsenter -t {place.process} "
            f"-m difffs swapoff {place.mount.source}"
        )
    areas = active_areas()
    mounted = {one.mount.device for one in mounts_everywhere()}
    names = {str(own / VOLUME)}
    if not _is_visible(store):
        names.add(f"/{VOLUME}")  # all that the kernel tells of a file without a mount point
    for loop in loop_devices():
        if loop.path in areas and loop.file_name in names and loop.file_device not in mounted:
            why = "daemon is dead" if loop.file_device is None else "mount cannot be seen from here"
            raise EnvironmentProblem(
                f"{loop.path} is swapped to, over {loop.file_name}, whose {why}: if that is "
                f"{store}, swapoff {loop.path} && losetup --detach {loop.path}"
            )


def _undo(store: Path, places: list[MountOfProcess], loops: list[LoopDevice]) -> list[str]:
    """Do all the undoing, in the mount namespace that this process is in."""
    own = str(_own_mountpoint(Path(places[0].mount.source)))
    mountpoints = [place.mount.mountpoint for place in places]
    if own not in mountpoints and not loops:
        raise VolumeNotFound(f"{store} is not swapped to: see swapon --show")
    freed = _free(loops)
    with suppress(OSError):  # gone already, or its daemon is
        os.unlink(os.path.join(own if own in mountpoints else mountpoints[0], VOLUME))
    if own in mountpoints:
        unmount(own)  # returns when the store is closed: no namespace has it mounted then
        _remove_directory(Path(own), Path(places[0].mount.source))
    return freed


def _free(loops: list[LoopDevice]) -> list[str]:
    """Stop swapping to the devices and free them."""
    areas = active_areas()
    for loop in loops:
        if loop.path in areas:
            _swap_off_device(loop.path)
        try:
            detach(loop.path)
        except OSError as error:
            raise EnvironmentProblem(
                f"{loop.path} cannot be freed: {error.strerror}; losetup --detach {loop.path}"
            ) from None
    freed = [loop.path for loop in loops]
    still = [path for path in freed if path in active_areas()]
    if still:
        raise EnvironmentProblem(f"{still[0]} is still swapped to: swapoff {still[0]}")
    return freed


def _undo_elsewhere(store: Path, found: _Found) -> list[str]:
    """Do it in the mount namespace that has the mount."""
    first = found.places[0]
    process = first.process
    if found.use is not None and found.use.process is not None and _shares(first, found.use):
        process = found.use.process  # there as long as the mount
    namespace = mount_namespace(first.process)
    places = [place for place in found.places if mount_namespace(place.process) == namespace]
    if not found.loops and not any(_is_own(place) for place in places):
        raise VolumeNotFound(f"{store} is not swapped to: see swapon --show")
    what = f"is swapped to ({found.active[0]})" if found.active else "is mounted"
    problem = (
        f"{store} {what} from the mount namespace of process {process} ({command_of(process)}), "
        f"which cannot be entered ({{}}): nsenter -t {process} {{}} difffs swapoff "
        f"{first.mount.source}"
    )
    with _mount_namespace_of(process, problem):
        try:
            return _undo(store, places, found.loops)
        except MountProblem as error:
            raise MountProblem(
                f"{error}; all that in another mount namespace: nsenter -t {process} -m"
            ) from None


def _is_own(place: MountOfProcess) -> bool:
    return place.mount.mountpoint == str(_own_mountpoint(Path(place.mount.source)))


@contextmanager
def _mount_namespace_of(process: int, problem: str) -> Iterator[None]:
    """Within this, be in the mount namespace of another process. Needs a single thread.

    ``EnvironmentProblem`` when it cannot be entered: ``problem`` with the reason and nsenter's
    options in its gaps.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    current = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            namespace = mount_namespace(process)
            there = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                linux.enter_mount_namespace(there)
            finally:
                os.close(there)
        except OSError as error:
            raise EnvironmentProblem(problem.format(error.strerror, "-m")) from None
        try:
            try:
                inside = mount_namespace(os.getpid()) == namespace
            except OSError:
                inside = False
            if not inside:
                raise EnvironmentProblem(problem.format("its processes are others", "-m -p"))
            yield
        finally:
            linux.enter_mount_namespace(before)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(current)
    finally:
        for descriptor in (root, current, before):
            os.close(descriptor)


def _swap_off_device(device: str) -> None:
    while True:
        try:
            linux.swap_off(device)
            return
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise EnvironmentProblem(
                    f"{device} holds more than fits in memory: end some processes and repeat"
                ) from None
            if error.errno != errno.EINVAL:  # no area any more
                raise EnvironmentProblem(f"swapoff {device} failed: {error.strerror}") from None
        if device not in active_areas():
            return
        # Somebody else is at it, as systemd is for every area that it has seen when the machine
        # shuts down. Should they fail, it is an area again.
        time.sleep(_POLL_SECONDS)
