"""Control groups: what limits a guest's resident memory, so that cold pages go to the store."""

from __future__ import annotations

import errno

from difffs.cgroup.finding import MemoryGroup, memory_group
from difffs.doctor.check import Answer, limited, missing, off, ok, probe
from difffs.doctor.host import Host

NOT_SWAPPED = ("init.scope", "difffs.slice")
"""What has no need of a limit: systemd itself, and daemons."""


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


@probe("cgroup.others", "swap")
def others(host: Host) -> Answer:
    """Whether all that is swapped out is kept from taking the last of the memory."""
    group = memory_group(host)
    remedy = (
        "systemctl set-property system.slice MemoryMax=60%, and what else has processes likewise,"
        " so that they leave some: docs/operations.md, memory for the daemon"
    )
    if group is None:
        return limited(
            "no memory controller: nothing keeps memory for a daemon that carries swap",
            "see cgroup.memory",
        )
    limits = {
        name: _limit(host, f"{group.hierarchy}/{name}", group.version)
        for name in host.names(group.hierarchy)
        if name not in NOT_SWAPPED and _has_processes(host, f"{group.hierarchy}/{name}", group)
    }
    free = [name for name, limit in limits.items() if limit is None]
    if not limits or _has_programs(host, group.hierarchy):  # the uppermost group has no limit
        free.append(group.hierarchy)
    if free:
        return limited(
            f"{', '.join(free)} may take all memory, and a daemon that carries swap then waits for"
            " some for ever",
            remedy,
        )
    total = host.memory_bytes
    taken = sum(limit for limit in limits.values() if limit is not None)
    if taken >= total:
        return limited(f"the groups may take {taken >> 20} MiB, of {total >> 20} in all", remedy)
    return ok(f"{(total - taken) >> 20} MiB of memory are kept from {', '.join(limits)}")


def _has_processes(host: Host, folder: str, group: MemoryGroup) -> bool:
    """Whether there are any in it, or in groups of it; in version 1, in itself."""
    if group.version == 2:
        return "populated 1" in (host.text_or_none(f"{folder}/cgroup.events") or "")
    return bool(host.text_or_none(f"{folder}/cgroup.procs"))


def _has_programs(host: Host, folder: str) -> bool:
    """Whether there are processes in it that are neither the kernel's nor difffs's."""
    for process in (host.text_or_none(f"{folder}/cgroup.procs") or "").split():
        command = host.text_or_none(f"/proc/{process}/cmdline") or ""
        if command and "difffs" not in command:
            return True
    return False


def _limit(host: Host, folder: str, version: int) -> int | None:
    """Bytes that a group may have; None where there is no limit."""
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    text = host.text_or_none(f"{folder}/{name}") or "max"
    limit = None if text == "max" else int(text)
    # version 1 shows "no limit" as a number just below 2**63
    return None if limit is None or limit >= 1 << 60 else limit


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


PROBES = (memory, delegation, reclaim, swap_limit, others, pressure)
