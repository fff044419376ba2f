"""FUSE: the device, libfuse3, who may mount and who may come in, and the kernel's limits."""

import os
import stat

from difffs.doctor.check import Answer, limited, missing, off, ok, probe
from difffs.doctor.host import Host
from difffs.errors import EnvironmentProblem
from difffs.mount.live import FILE_SYSTEM_TYPE

_SETTINGS = "/proc/sys/fs/fuse"
_ENOUGH_PAGES = 256
"""Of 4 KiB: one request of 1 MiB, which is what a mount asks for."""


@probe("fuse.device", "guests", "swap", "study")
def device(host: Host) -> Answer:
    """Opened only where the kernel has FUSE already: opening would load the module."""
    if not host.exists("/dev/fuse"):
        return missing("there is no /dev/fuse", "modprobe fuse; in a container: --device /dev/fuse")
    known = host.text_or_none("/proc/filesystems")
    if known is not None and "fuse" not in known.split():
        return off(
            "/dev/fuse is there, and the kernel's FUSE is not loaded: the first mount loads it",
            "modprobe fuse",
        )
    try:
        os.close(os.open(host.path("/dev/fuse"), os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return limited(
            f"/dev/fuse cannot be opened: {error.strerror}",
            "chmod 666 /dev/fuse; in a container: --device /dev/fuse",
        )
    return ok("/dev/fuse opens")


@probe("fuse.library", "guests", "swap", "study")
def library(host: Host) -> Answer:
    """libfuse3, as a mount would load it."""
    try:
        from difffs.mount import binding
    except EnvironmentProblem as error:
        text, _, remedy = str(error).rpartition(": ")
        return missing(text, remedy)
    major, minor = binding.VERSION
    return ok(f"libfuse {major}.{minor}")


@probe("fuse.fusermount", "guests", "study")
def fusermount(host: Host) -> Answer:
    """What mounts for users who are not root."""
    remedy = "apt install fuse3"
    path = host.program("fusermount3")
    if host.is_root:
        return ok(f"fusermount3 is {path or 'not installed'}; root mounts without it")
    if path is None:
        return missing("there is no fusermount3, which mounts for this user", remedy)
    status = os.stat(path)
    if not (status.st_mode & stat.S_ISUID and status.st_uid == 0):
        return limited(
            f"{path} is not set-uid root, so that it mounts nothing for this user",
            f"chmod u+s {path}, as root; or {remedy}",
        )
    if not os.path.lexists(host.path("/etc/mtab")):
        return limited(
            "there is no /etc/mtab, which fusermount3 reads to unmount",
            "ln -s ../proc/self/mounts /etc/mtab",
        )
    return ok(path)


@probe("fuse.allow_other", "guests")
def allow_other(host: Host) -> Answer:
    """Whether other users, as libvirt's QEMU is one, can be let in."""
    if host.is_root:
        return ok("mounts of root let others in (option allow_other, on by default)")
    lines = (host.text_or_none("/etc/fuse.conf") or "").split("\n")
    if "user_allow_other" in (line.strip() for line in lines):
        return ok("/etc/fuse.conf has user_allow_other")
    return limited(
        "/etc/fuse.conf has no user_allow_other: guests of other users, as of libvirt, cannot be"
        " let in",
        "echo user_allow_other >> /etc/fuse.conf, as root; or mount as root",
    )


@probe("fuse.max_pages_limit", "guests", "swap", "study")
def max_pages_limit(host: Host) -> Answer:
    """How much one request can carry."""
    text = host.text_or_none(f"{_SETTINGS}/max_pages_limit")
    if text is None:
        return ok("this kernel has no fs.fuse.max_pages_limit: 256 pages a request")
    found = f"fs.fuse.max_pages_limit is {int(text)}"
    if int(text) < _ENOUGH_PAGES:
        return limited(
            f"{found}: requests are smaller than 1 MiB, and more",
            f"sysctl fs.fuse.max_pages_limit={_ENOUGH_PAGES}, and mount again",
        )
    return ok(found)


@probe("fuse.request_timeouts", "guests", "swap", "study")
def request_timeouts(host: Host) -> Answer:
    """Whether the kernel aborts a mount of which one request takes long."""
    names = ("default_request_timeout", "max_request_timeout")
    values = {name: host.text_or_none(f"{_SETTINGS}/{name}") for name in names}
    present = {name: int(text) for name, text in values.items() if text is not None}
    if not present:
        return ok("this kernel has no timeouts of FUSE requests")
    found = ", ".join(f"fs.fuse.{name} is {seconds}" for name, seconds in present.items())
    running = [name for name, seconds in present.items() if seconds > 0]
    if running:
        return limited(
            f"{found}: the kernel aborts a mount that takes longer over one request",
            f"sysctl {' '.join(f'fs.fuse.{name}=0' for name in running)}, and mount again",
        )
    return ok(found)


@probe("fuse.dirty_limits", "guests")
def dirty_limits(host: Host) -> Answer:
    """Whether a guest that writes through a mapping is throttled: of mounts that there are, and
    whether a mount could lift it."""
    for mount in host.mounts:
        if mount.kind != FILE_SYSTEM_TYPE:
            continue
        folder = f"/sys/class/bdi/{os.major(mount.device)}:{os.minor(mount.device)}"
        strict = host.text_or_none(f"{folder}/strict_limit")
        ratio = host.text_or_none(f"{folder}/max_ratio")
        if strict == "1" or (ratio is not None and int(ratio) < 100):
            return limited(
                f"{mount.mountpoint}: strict_limit {strict}, max_ratio {ratio}: a guest that writes"
                " is throttled to a crawl",
                f"echo 0 > {folder}/strict_limit; echo 100 > {folder}/max_ratio, as root",
            )
    if not host.is_root:
        return limited(
            "only root lifts the limits on dirty pages of a mount: a guest that writes is"
            " throttled to a crawl",
            "mount as root; or afterwards, as root, with the numbers that mountpoint -d MOUNTPOINT"
            " says: echo 0 > /sys/class/bdi/MAJOR:MINOR/strict_limit;"
            " echo 100 > /sys/class/bdi/MAJOR:MINOR/max_ratio",
        )
    folders = [f"/sys/class/bdi/{name}" for name in host.names("/sys/class/bdi")]
    if not any(host.exists(f"{folder}/strict_limit") for folder in folders):
        return limited(
            "/sys/class/bdi has no strict_limit: what a guest may have dirty stays limited",
            "Linux 6.2 or later; in a container: mount sysfs",
        )
    if not any(host.may_write(f"{folder}/strict_limit") for folder in folders):
        return limited(
            "/sys/class/bdi cannot be written: a guest that writes is throttled to a crawl",
            "mount -o remount,rw /sys; in a container: mount outside of it, and pass the mount in",
        )
    return ok("strict_limit and max_ratio of mounts can be lifted")


@probe("fuse.mount_helper")
def mount_helper(host: Host) -> Answer:
    """What mount(8) and /etc/fstab need."""
    if os.path.lexists(host.path("/sbin/mount.fuse.difffs")):
        return ok("/sbin/mount.fuse.difffs")
    remedy = "ln -s PATH/OF/difffs /sbin/mount.fuse.difffs"
    for place in ("/usr/local/bin", "/usr/bin", "/bin"):
        if host.exists(f"{place}/difffs") and host.program("mount.fuse"):
            return ok(f"mount.fuse finds {place}/difffs")
    return off("mount -t fuse.difffs and /etc/fstab find no difffs", remedy)


PROBES = (
    device,
    library,
    fusermount,
    allow_other,
    max_pages_limit,
    request_timeouts,
    dirty_limits,
    mount_helper,
)
