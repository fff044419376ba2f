"""Control groups: what limits a guest's resident memory, so that cold pages go to the store."""

from __future__ import annotations

import errno

from difffs.cgroup.finding import memory_group
from difffs.doctor.check import Answer, limited, missing, off, ok, probe
from difffs.doctor.host import Host


@probe("cgroup.memory", "guests")
def memory(host: Host) -> Answer:
    """Whether there is a memory controller."""
    group = memory_group(host)
    if group is None:
        return missing(
            "no control groups with the memory controller are mounted",
            "mount -t cgroup2 none /sys/fs/cgroup; where its cgroup.controllers has no memory:"
            " boot with cgroup_enable=memory",
        )
    return ok(f"version {group.version} with the memory controller, own group {group.folder}")


@probe("cgroup.delegation", "guests")
def delegation(host: Host) -> Answer:
    """Whether this user may make groups and limit them."""
    group = memory_group(host)
    if group is None:
        return missing("no memory controller", "see cgroup.memory")
    if host.is_root:
        if host.may_write(group.hierarchy) or host.may_write(group.folder):
            return ok(f"groups can be made in {group.hierarchy}")
        return limited(
            f"{group.hierarchy} is read-only here",
            f"mount -o remount,rw {group.hierarchy}; in a container: --cgroupns=private, and"
            " delegate its group",
        )
    remedy = (
        "systemd-run --user --scope -p Delegate=yes difffs doctor, and the guest likewise;"
        " or as root"
        if group.version == 2
        else f"as root: mkdir {group.folder}/guests; chown -R USER {group.folder}/guests"
    )
    if not (host.may_write(group.folder) and host.may_write(f"{group.folder}/cgroup.procs")):
        return limited(f"{group.folder} does not belong to this user", remedy)
    if group.version == 2:
        controllers = host.text(f"{group.folder}/cgroup.controllers").split()
        if "memory" not in controllers:
            return limited(f"{group.folder} has not been given the memory controller", remedy)
    return ok(f"groups can be made in {group.folder}")


@probe("cgroup.reclaim", "guests")
def reclaim(host: Host) -> Answer:
    """Whether cold pages can be moved out at once, without a limit."""
    group = memory_group(host)
    if group is None:
        return missing("no memory controller", "see cgroup.memory")
    name = "memory.reclaim" if group.version == 2 else "memory.force_empty"
    # The uppermost group need not have it: any other will do.
    folders = [group.folder, *(f"{group.folder}/{each}" for each in host.names(group.folder))]
    if any(host.exists(f"{folder}/{name}") for folder in folders):
        return ok(f"groups have {name}")
    if group.folder == group.hierarchy:
        return off(f"no group has been made, in which {name} could be looked for")
    return off(
        f"no {name}: cold pages leave only by a limit",
        "Linux 5.19 or later" if group.version == 2 else "",
    )


@probe("cgroup.swap_limit", "swap")
def swap_limit(host: Host) -> Answer:
    """Whether the own group may swap at all."""
    group = memory_group(host)
    if group is None:
        return ok("no memory controller, so no limit")
    if group.version == 1:
        return ok("version 1: no limit on swap alone")
    text = host.text_or_none(f"{group.folder}/memory.swap.max")
    if text == "0":
        return limited(
            f"{group.folder}/memory.swap.max is 0: what runs in this group is never swapped out",
            f"echo max > {group.folder}/memory.swap.max",
        )
    return ok(f"memory.swap.max is {text}" if text else "no limit on swap")


@probe("kernel.pressure", "guests", "swap")
def pressure(host: Host) -> Answer:
    """Whether the kernel tells how much work waits for memory (PSI)."""
    remedy = "boot with psi=1 (a kernel with CONFIG_PSI)"
    try:
        text = host.text_or_none("/proc/pressure/memory")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        text = None
    if text is None:
        return off("there is no /proc/pressure: waiting for memory is not measured", remedy)
    group = memory_group(host)
    apart = group is not None and host.exists(f"{group.folder}/memory.pressure")
    return ok(f"/proc/pressure/memory{', and memory.pressure of groups' if apart else ''}")


PROBES = (memory, delegation, reclaim, swap_limit, pressure)
