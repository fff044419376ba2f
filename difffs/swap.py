"""Swapping to a store: a mount, a volume, a loop device over it, mkswap, swapon; and back.

The kernel does not swap to a FUSE file directly, but to a loop device that reads and writes it
with direct I/O. Freed swap space is discarded and so leaves the store.
"""

import hashlib
import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difffs.errors import DifffsError, EnvironmentProblem, StoreBusy, VolumeNotFound
from difffs.mount.daemon import mount_in_background
from difffs.mount.live import lock_memory, mount_containing, mountpoints_of, read_statistics
from difffs.mount.options import MountOptions
from difffs.mount.unmount import unmount
from difffs.page import PAGE_SIZE

RUNTIME_DIRECTORY = Path("/run/difffs")
"""Where stores that nobody has mounted get their mount points."""

VOLUME = "swap"
"""Name of the volume that is swapped to."""

SMALLEST_SIZE = 10 * PAGE_SIZE
"""mkswap's own lower bound."""

DEFAULT_OPTIONS = MountOptions(buffer_bytes=4 << 20)
"""How a store is mounted for swapping: what lies in the buffer has left no memory yet, and a larger
one made no program under a memory limit faster."""

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
        text=True,
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


def _loop_devices(volume: Path) -> list[str]:
    """Return the loop devices over the volume."""
    output = _run("losetup", "--json", "--list", "--output", "NAME,BACK-FILE")
    if not output.strip():
        return []
    listed: list[dict[str, Any]] = json.loads(output).get("loopdevices", [])
    wanted = {str(volume), f"{volume} (deleted)"}
    return [entry["name"] for entry in listed if entry["back-file"] in wanted]


def _is_swapped_to(device: str) -> bool:
    lines = Path("/proc/swaps").read_text().splitlines()[1:]
    return any(line.split()[0] == device for line in lines)


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


def refuse_swappable_store(store: Path) -> None:
    """Raise ``EnvironmentProblem`` when the store itself could be swapped out.

    The pages of an ordinary tmpfs are. When the kernel moves the store's own pages to the swap
    area that the store holds, the daemon waits for itself, for ever.
    """
    mount = mount_containing(store)
    if mount is not None and mount.kind == "tmpfs" and "noswap" not in mount.options:
        raise EnvironmentProblem(
            f"{store} lies on the tmpfs {mount.mountpoint}, which can be swapped out to the store "
            "itself and then hangs: use a disk, or mount -t tmpfs -o noswap (Linux 6.4 or later)"
        )


def swap_on(
    store: Path, size: int, priority: int | None = None, options: MountOptions | None = None
) -> SwapArea:
    """Swap to ``store``, up to ``size`` bytes; a mount that there is already gets used.

    Either the area is active at the end, or everything is as it was.
    """
    _require_root()
    refuse_swappable_store(store)
    size -= size % PAGE_SIZE
    with ExitStack() as undo:
        mountpoints = mountpoints_of(store)
        if mountpoints:
            mountpoint = mountpoints[0]
            # The mount was not made for this: its daemon gets ready now.
            lock_memory(mountpoint)
        else:
            mountpoint = _mount(store, options or DEFAULT_OPTIONS, undo)
        volume = Path(mountpoint) / VOLUME
        _refuse_second_area(store, volume)
        _make_volume(volume, size)
        undo.callback(volume.unlink, missing_ok=True)
        device = _run(
            "losetup", "--find", "--show", "--direct-io=on", "--sector-size=4096", str(volume)
        ).strip()
        undo.callback(_run, "losetup", "--detach", device)
        _tune_queue(device)
        _run("mkswap", "--label", "difffs", device)
        wish = [] if priority is None else ["--priority", str(priority)]
        _run("swapon", "--discard", *wish, device)
        undo.pop_all()
    return SwapArea(device, volume, mountpoint, _warnings(mountpoint))


def _warnings(mountpoint: str) -> tuple[str, ...]:
    """Return what the daemon could not get and should have to carry swap."""
    settings = read_statistics(mountpoint).get("kernel_settings", [])
    wanted = ("PR_SET_IO_FLUSHER", "mlockall", "oom_score_adj", "memory cgroup")
    return tuple(
        f"{entry['setting']} was not applied ({entry['reason']}): "
        "under memory pressure the host may hang"
        for entry in settings
        if entry["setting"].startswith(wanted) and not entry["applied"]
    )


def _mount(store: Path, options: MountOptions, undo: ExitStack) -> str:
    from dataclasses import replace

    directory = _own_mountpoint(store)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"{directory} cannot be made: {error.strerror}") from None
    undo.callback(_remove_directory, directory)
    mount_in_background(store, directory, replace(options, lock_memory=True, allow_other=False))
    undo.callback(unmount, str(directory))
    return str(directory)


def _remove_directory(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # in use again, or gone already


def _refuse_second_area(store: Path, volume: Path) -> None:
    devices = _loop_devices(volume)
    active = [device for device in devices if _is_swapped_to(device)]
    if active:
        raise StoreBusy(f"{store} is swapped to already ({active[0]}): difffs swapoff {store}")
    for device in devices:  # left over from an attempt that was killed
        _run("losetup", "--detach", device)


def swap_off(store: Path) -> list[str]:
    """Stop swapping to ``store`` and undo all that :func:`swap_on` did.

    Returns the loop devices that were freed. May be repeated after a failure: what is done
    already is passed over. ``VolumeNotFound`` when there is nothing to undo.
    """
    _require_root()
    own = _own_mountpoint(store)
    mountpoints = mountpoints_of(store)
    if not mountpoints:
        existed = own.exists()
        _remove_directory(own)
        if existed:
            return []
        raise VolumeNotFound(f"{store} is not swapped to: see swapon --show")
    freed: list[str] = []
    for mountpoint in mountpoints:
        volume = Path(mountpoint) / VOLUME
        for device in _loop_devices(volume):
            if _is_swapped_to(device):
                _swap_off_device(device)
            _run("losetup", "--detach", device)
            freed.append(device)
        if freed or mountpoint == str(own):
            volume.unlink(missing_ok=True)
    if str(own) in mountpoints:
        unmount(str(own))
        _remove_directory(own)
    elif not freed:
        raise VolumeNotFound(f"{store} is not swapped to: see swapon --show")
    return freed


def _swap_off_device(device: str) -> None:
    try:
        _run("swapoff", device)
    except DifffsError as error:
        if "Cannot allocate memory" in str(error):
            raise EnvironmentProblem(
                f"{device} holds more than fits in memory: end some processes and repeat"
            ) from error
        raise
