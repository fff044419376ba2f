"""A machine made of a few files, for what the one that runs the tests cannot show."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from difffs.doctor.check import Check, Probe
from difffs.doctor.host import Host

ALL_CAPABILITIES = "000001ffffffffff"
NONE = "0000000000000000"

CGROUP2 = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
CGROUP1 = "31 20 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"

ROOT = {
    "/proc/self/status": f"Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t{ALL_CAPABILITIES}\n",
    "/proc/self/uid_map": "         0          0 4294967295\n",
    "/proc/self/mountinfo": CGROUP2,
    "/proc/self/cgroup": "0::/a/b\n",
    "/proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 1048576              files     \n"
        "Max locked memory         8388608              8388608              bytes     \n"
    ),
    "/proc/sys/kernel/osrelease": "6.12.117-amd64\n",
    "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
}
USER = {
    **ROOT,
    "/proc/self/status": f"Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t{NONE}\n",
}


def made_host(
    folder: Path,
    files: Mapping[str, str] | None = None,
    *,
    base: Mapping[str, str] = ROOT,
    programs: Mapping[str, str] | None = None,
    packages: Mapping[str, str] | None = None,
) -> Host:
    """A host of these files (path -> text), programs (path -> shell script) and Python packages."""
    root = folder / "root"
    for path, text in {**base, **(files or {})}.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path, script in (programs or {}).items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    return Host(
        root,
        {"PATH": "/usr/bin:/bin"},
        package_version=(packages or {}).get,
        checkout=folder / "checkout",
    )


def found(probe: Probe, host: Host) -> Check:
    """What a probe finds; that is one line, and so is its remedy, which findings always have."""
    # What was seen before the files changed is not kept.
    check = probe.check(dataclasses.replace(host))
    assert "\n" not in check.found + check.remedy
    assert check.found
    if check.state in ("missing", "limited"):
        assert check.remedy, check
    if check.state == "ok":
        assert not check.remedy
    return check
