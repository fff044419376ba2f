"""What this user's processes may: capabilities, memory that stays, open files."""

import re

from difffs.doctor.check import Answer, Probe, Use, limited, missing, ok, probe
from difffs.doctor.host import Host

_LEAST_FILES = 256


def _capability(name: str, needed_for: str, *uses: Use) -> Probe:
    @probe(f"process.{name.lower()}", *uses)
    def look(host: Host) -> Answer:
        if host.has_capability(name) and host.is_in_user_namespace:
            return limited(
                f"{name} holds within a user namespace only, and is needed {needed_for}",
                "run it outside: as the machine's root, not in a rootless container",
            )
        if host.has_capability(name):
            return ok(f"{name} is there")
        remedy = (
            f"in a container: --cap-add {name.removeprefix('CAP_')}"
            if host.is_root
            else "run as root (sudo)"
        )
        return missing(f"{name} is not there, which is needed {needed_for}", remedy)

    return look


def _bytes_or_none(text: str) -> int | None:
    return None if text == "unlimited" else int(text)


def _limit(host: Host, name: str) -> int | None:
    """The soft limit of that name; None where it is unlimited. ``OSError``, ``ValueError``."""
    found = re.search(rf"^{name}\s+(\S+)", host.text("/proc/self/limits"), re.MULTILINE)
    if found is None:
        raise ValueError(f"/proc/self/limits has no {name}")
    return _bytes_or_none(found[1])


@probe("process.locked_memory", "swap")
def locked_memory(host: Host) -> Answer:
    """Whether the daemon can keep all of its memory from being swapped out."""
    most = _limit(host, "Max locked memory")
    found = "unlimited" if most is None else f"{most:,} bytes"
    if host.has_capability("CAP_IPC_LOCK") and not host.is_in_user_namespace:
        return ok(f"{found} (ulimit -l), and CAP_IPC_LOCK takes no notice of it")
    if most is None:
        return ok(found)
    return limited(
        f"{found} may be locked: a daemon that carries swap could be swapped out itself",
        "run as root; or ulimit -l unlimited (LimitMEMLOCK=infinity in a unit)",
    )


@probe("process.open_files", "guests", "swap", "images", "study")
def open_files(host: Host) -> Answer:
    """Whether enough files can be open."""
    most = _limit(host, "Max open files")
    if most is not None and most < _LEAST_FILES:
        return limited(f"{most} open files at most (ulimit -n)", "ulimit -n 1024")
    return ok(f"{'unlimited' if most is None else f'{most:,}'} open files (ulimit -n)")


PROBES = (
    _capability("CAP_SYS_ADMIN", "to mount for swap, and to swap", "swap"),
    _capability(
        "CAP_SYS_RESOURCE",
        "for PR_SET_IO_FLUSHER and oom_score_adj: without, the host may hang under memory pressure",
        "swap",
    ),
    _capability("CAP_IPC_LOCK", "to keep the daemon's memory from being swapped out", "swap"),
    locked_memory,
    open_files,
)
