"""The kernel's own ways to save memory: what there is, and what is on."""

from difffs.doctor.check import Answer, off, ok, probe
from difffs.doctor.host import Host

_PAGE_STATES = {"0": "stopped", "1": "at work", "2": "stopped, all unmerged"}


def _chosen(text: str) -> str:
    """The value in brackets, where a setting lists all that there are."""
    return next((word[1:-1] for word in text.split() if word.startswith("[")), text)


@probe("memory.zram")
def zram(host: Host) -> Answer:
    """Compressed block devices in memory."""
    devices = [name for name in host.names("/sys/block") if name.startswith("zram")]
    used = [
        name for name in devices if int(host.text_or_none(f"/sys/block/{name}/disksize") or 0) > 0
    ]
    if used:
        return ok(f"in use: {', '.join(used)}")
    if devices or host.exists("/sys/class/zram-control"):
        return off("the kernel has zram, which is not in use")
    return off("zram is not loaded", "modprobe zram num_devices=0, as root")


@probe("memory.zswap")
def zswap(host: Host) -> Answer:
    """A compressed cache before swap devices; swap.zswap says whether that matters."""
    folder = "/sys/module/zswap/parameters"
    value = host.text_or_none(f"{folder}/enabled")
    if value is None:
        return off("this kernel has no zswap")
    compressor = host.text_or_none(f"{folder}/compressor") or "?"
    if value != "Y":
        return off(f"zswap ({compressor}) is off")
    share = host.text_or_none(f"{folder}/max_pool_percent") or "?"
    return ok(f"zswap ({compressor}) is on, with {share} % of memory at most")


@probe("memory.ksm")
def ksm(host: Host) -> Answer:
    """Merging of equal pages: of anonymous memory only, so never of guests' RAM on a mount."""
    run = host.text_or_none("/sys/kernel/mm/ksm/run")
    if run is None:
        return off("this kernel has no KSM")
    found = f"KSM is {_PAGE_STATES.get(run, run)}; it merges no memory that lies on a mount"
    return ok(found) if run == "1" else off(found)


@probe("memory.huge_pages")
def huge_pages(host: Host) -> Answer:
    """Transparent huge pages: memory mapped from a FUSE file has none."""
    text = host.text_or_none("/sys/kernel/mm/transparent_hugepage/enabled")
    if text is None:
        return off("this kernel has no transparent huge pages")
    value = _chosen(text)
    found = f"transparent huge pages: {value}; memory on a mount has none"
    return off(found) if value == "never" else ok(found)


PROBES = (zram, zswap, ksm, huge_pages)
