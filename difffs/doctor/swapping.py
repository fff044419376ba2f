"""Swap: loop devices, the tools, and what the kernel does before it swaps to a store."""

import os

from difffs.doctor.check import Answer, limited, missing, off, ok, probe
from difffs.doctor.host import Host
from difffs.mount.live import FILE_SYSTEM_TYPE
from difffs.mount.table import lines_of, unescape

_TOOLS = {"losetup": "mount", "mkswap": "util-linux", "swapon": "mount"}
"""Program -> Debian's package."""

_HIGHEST_PRIORITY = 32767


@probe("swap.kernel", "swap")
def kernel(host: Host) -> Answer:
    """Whether the kernel swaps at all."""
    if host.exists("/proc/swaps"):
        return ok("/proc/swaps")
    return missing("this kernel cannot swap (no /proc/swaps)", "a kernel with CONFIG_SWAP")


@probe("swap.tools", "swap")
def tools(host: Host) -> Answer:
    """What makes loop devices and swap areas."""
    absent = [name for name in _TOOLS if host.program(name) is None]
    if absent:
        packages = sorted({_TOOLS[name] for name in absent})
        return missing(f"no {', '.join(absent)}", f"apt install {' '.join(packages)}")
    return ok(", ".join(_TOOLS))


@probe("swap.loop", "swap", "study")
def loop(host: Host) -> Answer:
    """Loop devices: a volume is swapped to through one."""
    container = "in a container: --device /dev/loop-control, and --device of each /dev/loopN"
    if not host.exists("/dev/loop-control"):
        return missing("there is no /dev/loop-control", f"modprobe loop; {container}")
    in_use = [each for each in host.names("/sys/block") if each.startswith("loop")]
    if not in_use and not host.exists("/sys/module/loop"):
        return off("the kernel's loop devices are not loaded: losetup loads them", "modprobe loop")
    if host.is_root and not host.may_write("/dev/loop-control"):
        return limited("/dev/loop-control cannot be written", container)
    if in_use and not any(host.exists(f"/dev/{each}") for each in in_use):
        return limited(f"there is no node of {in_use[0]} in /dev", container)
    free = sum(not host.exists(f"/sys/block/{each}/loop/backing_file") for each in in_use)
    return ok(f"/dev/loop-control, {free} free of {len(in_use)}, more are made as needed")


@probe("swap.zswap", "swap")
def zswap(host: Host) -> Answer:
    """What holds pages in memory that the store was to have."""
    setting = "/sys/module/zswap/parameters/enabled"
    value = host.text_or_none(setting)
    if value is None:
        return ok("this kernel has no zswap")
    if value == "Y":
        return limited(
            "zswap is on: pages stay in it, in memory, and hardly any reaches the store",
            f"echo N > {setting}, as root",
        )
    return ok("zswap is off")


@probe("swap.other_areas", "swap")
def other_areas(host: Host) -> Answer:
    """What is swapped to before a store is."""
    areas = _areas(host)
    own = {device for device in areas if _is_of_difffs(host, device)}
    others = {device: areas[device] for device in areas if device not in own}
    found = ", ".join(f"{device} has priority {order}" for device, order in others.items())
    if not others:
        return ok("nothing else is swapped to")
    if own and max(others.values()) < min(areas[device] for device in own):
        return ok(f"{found}, below that of difffs")
    highest = max(others.values())
    if highest == _HIGHEST_PRIORITY:
        return limited(
            f"{found}: it is swapped to before a store, or along with it",
            f"swapoff {max(others, key=lambda device: others[device])}",
        )
    return limited(
        f"{found}: it is swapped to before a store that is given no priority",
        f"{'difffs swapoff STORE; ' if own else ''}"
        f"difffs swapon --priority {max(highest + 1, 1)} STORE",
    )


def _areas(host: Host) -> dict[str, int]:
    areas = {}
    for line in lines_of(host.path("/proc/swaps").read_bytes())[1:]:
        name, *_, priority = line.split()
        areas[unescape(name)] = int(priority)
    return areas


def _is_of_difffs(host: Host, device: str) -> bool:
    image = host.text_or_none(f"/sys/block/{os.path.basename(device)}/loop/backing_file")
    places = [mount.mountpoint for mount in host.mounts if mount.kind == FILE_SYSTEM_TYPE]
    return image is not None and os.path.dirname(image) in places


@probe("swap.swappiness", "swap")
def swappiness(host: Host) -> Answer:
    """Whether the kernel swaps before it must."""
    value = int(host.text("/proc/sys/vm/swappiness"))
    if value == 0:
        return limited(
            "vm.swappiness is 0: nothing is swapped out until memory has run out",
            "sysctl vm.swappiness=60",
        )
    return ok(f"vm.swappiness is {value}")


@probe("swap.read_ahead", "swap")
def read_ahead(host: Host) -> Answer:
    """How much comes back at once."""
    value = int(host.text("/proc/sys/vm/page-cluster"))
    if value == 0:
        return limited(
            "vm.page-cluster is 0: memory comes back a page at a time, in order some four times as"
            " slowly",
            "sysctl vm.page-cluster=3",
        )
    if not 0 < value < 32:
        raise ValueError(f"vm.page-cluster is {value}")
    return ok(f"vm.page-cluster is {value}: {4 << value} KiB at once")


@probe("swap.panic_on_oom", "swap")
def panic_on_oom(host: Host) -> Answer:
    """Whether the host ends where memory does."""
    value = int(host.text("/proc/sys/vm/panic_on_oom"))
    if value:
        return limited(
            f"vm.panic_on_oom is {value}: where swap is full, the host ends, not a process",
            "sysctl vm.panic_on_oom=0",
        )
    return ok("vm.panic_on_oom is 0")


@probe("swap.tmpfs_without_swap", "swap")
def tmpfs_without_swap(host: Host) -> Answer:
    """Whether a store that carries swap may lie in memory."""
    if host.kernel >= (6, 4):
        return ok("mount -t tmpfs -o noswap (Linux 6.4 or later)")
    return off(
        "this kernel's tmpfs knows no noswap: a store that carries swap needs a disk",
        "Linux 6.4 or later",
    )


PROBES = (
    kernel,
    tools,
    loop,
    zswap,
    other_areas,
    swappiness,
    read_ahead,
    panic_on_oom,
    tmpfs_without_swap,
)
