"""The study: its packages, and what it compares difffs with. What is absent is left out there."""

from difffs.doctor.check import Answer, limited, missing, off, ok, probe
from difffs.doctor.host import Host
from difffs.doctor.packages import package_probe, program_probe

_NO_STUDY = "difffs study does not run"


@probe("study.root", "study")
def root(host: Host) -> Answer:
    """Who compares with the kernel's own."""
    if host.is_root:
        return ok("root")
    return limited("not root: zram, zswap, KSM and btrfs are left out", "run the study as root")


@probe("study.zram", "study")
def zram(host: Host) -> Answer:
    """zram, of which the study adds a device of its own."""
    if host.exists("/sys/class/zram-control"):
        return ok("zram-control")
    if host.has_module("zram"):
        return off("zram is not loaded: the study loads it for as long as it takes")
    return missing("this kernel has no zram: it is left out", "a kernel with CONFIG_ZRAM")


@probe("study.btrfs", "study")
def btrfs(host: Host) -> Answer:
    """btrfs, on a loop device."""
    known = host.text_or_none("/proc/filesystems") or ""
    if "btrfs" in known.split() or host.has_module("btrfs"):
        return ok("the kernel has btrfs")
    return missing("this kernel has no btrfs: it is left out", "a kernel with CONFIG_BTRFS_FS")


@probe("study.zswap", "study")
def zswap(host: Host) -> Answer:
    """zswap, which is measured where nothing is swapped to so far."""
    if not host.exists("/sys/module/zswap/parameters/enabled"):
        return missing("this kernel has no zswap", "a kernel with CONFIG_ZSWAP")
    swaps = host.text_or_none("/proc/swaps") or ""
    if swaps.count("\n"):
        return limited("this host swaps: zswap is left out", "swapoff -a for the length of a study")
    return ok("zswap, and nothing is swapped to")


@probe("study.ksm", "study")
def ksm(host: Host) -> Answer:
    """KSM, which is measured where nobody else uses it."""
    folder = "/sys/kernel/mm/ksm"
    run = host.text_or_none(f"{folder}/run")
    if run is None:
        return missing("this kernel has no KSM", "a kernel with CONFIG_KSM")
    if run != "0" or host.text(f"{folder}/pages_shared") != "0":
        return limited("KSM is at work for others", f"echo 2 > {folder}/run; echo 0 > {folder}/run")
    if "ksm_zero_pages" not in (host.text_or_none("/proc/self/ksm_stat") or ""):
        return limited("this kernel does not tell what KSM merged of whom", "Linux 6.6 or later")
    return ok("KSM, which nobody uses")


PROBES = (
    package_probe("study.package.numpy", "numpy", _NO_STUDY, "study", least=(1, 26)),
    package_probe("study.package.matplotlib", "matplotlib", _NO_STUDY, "study", least=(3, 8)),
    package_probe("study.package.bsdiff4", "bsdiff4", _NO_STUDY, "study", least=(1, 2)),
    package_probe(
        "study.package.distributed",
        "distributed",
        "no study on a cluster",
        "study",
        least=(2024, 8),
        rare=True,
    ),
    program_probe("study.xdelta3", "xdelta3", "xdelta3", "its sizes are left out", "study"),
    program_probe("study.zstd", "zstd", "zstd", "whole archives are left out", "study"),
    program_probe("study.xz", "xz", "xz-utils", "archives by xz are left out", "study"),
    program_probe(
        "study.mksquashfs", "mksquashfs", "squashfs-tools", "squashfs is left out", "study"
    ),
    program_probe("study.mkfs.btrfs", "mkfs.btrfs", "btrfs-progs", "btrfs is left out", "study"),
    root,
    zram,
    btrfs,
    zswap,
    ksm,
)
