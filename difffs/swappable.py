"""Whether what lies in a directory can itself be swapped out, also some layers down.

The pages of an ordinary tmpfs are, and so are those of an overlay whose upper layer lies on one,
and of a loop device whose image does. When the kernel moves a store's own pages to the swap area
that the store holds, the daemon waits for itself, for ever.
"""

import mmap
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from difffs.loop_device import LoopDevice, inspect
from difffs.mount.live import mount_containing
from difffs.mount.table import Mount, mounts

_BLOCK_DEVICES = Path("/sys/dev/block")
_BTRFS = Path("/sys/fs/btrfs")

_TRIAL_BYTES = 8 << 20
"""The kernel counts resident pages for each processor first, and adds up now and then."""

_IN_MEMORY = {"tmpfs", "devtmpfs"}


def swappable_layer(directory: Path) -> tuple[str | None, list[str]]:
    """Find out whether files in ``directory``, which need not exist, can be swapped out.

    Returns what they lie on that can be, or None; and remarks on what cannot be told.
    """
    search = _Search()
    found = search.directory(_existing(directory))
    return found, search.remarks


def _existing(path: Path) -> Path:
    resolved = Path(os.path.realpath(path))
    for candidate in (resolved, *resolved.parents):
        if candidate.is_dir():
            return candidate
    return resolved


class _Search:
    """One walk down the layers."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._file_systems: set[int] = set()
        self._block_devices: set[int] = set()

    def directory(self, directory: Path) -> str | None:
        """Return what a directory's files lie on that can be swapped out."""
        mount = mount_containing(directory)
        if mount is None:
            self._unknown(directory)
            return None
        return self._file_system(mount, directory)

    def _file_system(self, mount: Mount, directory: Path) -> str | None:
        if mount.device in self._file_systems:
            return None
        self._file_systems.add(mount.device)
        if mount.kind == "ramfs" or (mount.kind == "tmpfs" and "noswap" in mount.options):
            return None
        if mount.kind in _IN_MEMORY:
            return f"the {mount.kind} {mount.mountpoint}"
        if _is_kept_in_shared_memory(directory):
            return f"the {mount.kind} {mount.mountpoint}, whose files are kept in a tmpfs"
        if mount.kind == "overlay":
            upper = _upper_directory(mount, directory)
            if upper is not None:
                return self.directory(upper)
        devices = list(_devices_of(mount))
        if not devices:
            self._unknown(directory, mount)
        for device in devices:
            found = self._block_device(device)
            if found is not None:
                return found
        return None

    def _block_device(self, device: int) -> str | None:
        if device in self._block_devices:
            return None
        self._block_devices.add(device)
        folder = _BLOCK_DEVICES / f"{os.major(device)}:{os.minor(device)}"
        if not folder.exists():
            return None
        folder = Path(os.path.realpath(folder))
        if (folder / "partition").exists():
            folder = folder.parent
        if (folder / "loop" / "backing_file").exists():
            return self._loop_device(f"/dev/{folder.name}")
        for slave in sorted((folder / "slaves").glob("*")):
            found = self._block_device(_device_number(slave))
            if found is not None:
                return found
        return None

    def _loop_device(self, path: str) -> str | None:
        try:
            loop = inspect(path)
        except OSError as error:
            self.remarks.append(f"{path} cannot be looked at ({error.strerror})")
            return None
        image = Path(loop.file_name)
        directory = _directory_of(loop)
        if directory is None:
            self.remarks.append(f"where the image {image} of {path} lies cannot be told")
            return None
        found = self.directory(directory)
        return None if found is None else f"{path}, whose image {image} lies on {found}"

    def _unknown(self, directory: Path, mount: Mount | None = None) -> None:
        where = f"{directory}" if mount is None else f"{directory} (on {mount.kind})"
        self.remarks.append(f"what {where} lies on cannot be told")


def _directory_of(loop: LoopDevice) -> Path | None:
    """Return a directory of the file system that the file of a loop device is on."""
    image = Path(loop.file_name)
    with suppress(OSError):
        status = image.stat()
        if (status.st_dev, status.st_ino) == (loop.file_device, loop.file_inode):
            return image.parent
    for mount in mounts():  # the image has no name here, but its file system may
        if mount.device == loop.file_device:
            return Path(mount.mountpoint)
    return None


def _device_number(folder: Path) -> int:
    major, _, minor = (folder / "dev").read_text().strip().partition(":")
    return os.makedev(int(major), int(minor))


def _devices_of(mount: Mount) -> Iterator[int]:
    """Iterate over the block devices under a file system."""
    if os.major(mount.device) != 0:
        yield mount.device
        return
    with suppress(OSError):
        source = os.stat(mount.source)
        if os.path.isabs(mount.source) and source.st_rdev:
            number = f"{os.major(source.st_rdev)}:{os.minor(source.st_rdev)}"
            for file_system in _BTRFS.glob("*/devices"):
                members = [_device_number(member) for member in file_system.iterdir()]
                if source.st_rdev in members:
                    yield from members
                    return
            if (_BLOCK_DEVICES / number).exists():
                yield source.st_rdev


def _upper_directory(mount: Mount, directory: Path) -> Path | None:
    """Return where an overlay's new files really lie, when that has a name here."""
    for option in mount.options:
        name, _, value = option.partition("=")
        if name != "upperdir":
            continue
        inside = os.path.relpath(directory, mount.mountpoint)
        # The path may be one of another mount namespace, or of another current directory.
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=directory, prefix=".difffs") as one:
            upper = Path(os.path.realpath(os.path.join(value, inside)))
            if (upper / os.path.basename(one.name)).exists():
                return upper
    return None


def _is_kept_in_shared_memory(directory: Path) -> bool | None:
    """Return whether the pages of files in a directory are those of a tmpfs, by trying it.

    None when it cannot be tried: no room, read-only, no shared mappings.
    """
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            if file.write(bytes(_TRIAL_BYTES)) < _TRIAL_BYTES:
                return None
            with mmap.mmap(file.fileno(), _TRIAL_BYTES, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                before = _resident_pages()
                for offset in range(0, _TRIAL_BYTES, mmap.PAGESIZE):
                    view[offset]
                after = _resident_pages()
    except OSError:
        return None
    shared, files = (after[key] - before[key] for key in ("RssShmem", "RssFile"))
    if max(shared, files) < _TRIAL_BYTES // 4:
        return None
    return shared > files


def _resident_pages() -> dict[str, int]:
    """Return the bytes of this process's resident memory by their kind."""
    status = Path("/proc/self/status").read_bytes()
    return {
        name.decode(): int(kilobytes) * 1024
        for name, kilobytes in re.findall(rb"^(RssShmem|RssFile):\s+(\d+) kB$", status, re.M)
    }
