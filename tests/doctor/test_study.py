"""What the study compares difffs with."""

from pathlib import Path

from difffs.doctor import study
from tests.doctor.made_host import ROOT, USER, found, made_host

KSM = {
    "/sys/kernel/mm/ksm/run": "0\n",
    "/sys/kernel/mm/ksm/pages_shared": "0\n",
    "/proc/self/ksm_stat": "ksm_rmap_items 0\nksm_zero_pages 0\n",
}

RARE = "study.package.distributed"
"""Who studies on one machine lacks nothing."""


def test_nothing_there(tmp_path: Path) -> None:
    for probe in study.PROBES:
        check = found(probe, made_host(tmp_path, base=USER))
        expected = ("off",) if check.name == RARE else ("missing", "limited")
        assert check.state in expected, probe.name
        assert check.matters_for == ("study",)


def test_all_there(tmp_path: Path) -> None:
    host = made_host(
        tmp_path,
        {
            **KSM,
            "/sys/class/zram-control/hot_add": "",
            "/sys/module/zswap/parameters/enabled": "N\n",
            "/proc/filesystems": "nodev\tsysfs\n\tbtrfs\n",
        },
        programs={
            f"/bin/{name}": "" for name in ("xdelta3", "zstd", "xz", "mksquashfs", "mkfs.btrfs")
        },
        packages={
            "numpy": "1.26.0",
            "matplotlib": "3.8.0",
            "bsdiff4": "1.2.0",
            "distributed": "2024.8.0",
        },
    )
    for probe in study.PROBES:
        assert found(probe, host).state == "ok", probe.name


def test_zram_that_can_be_loaded(tmp_path: Path) -> None:
    listed = "kernel/drivers/block/zram/zram.ko.xz:\n"
    host = made_host(tmp_path, {"/lib/modules/6.12.117-amd64/modules.dep": listed})
    assert found(study.zram, host).state == "off"


def test_in_use_by_others(tmp_path: Path) -> None:
    swaps = ROOT["/proc/swaps"] + "/dev/sda2 partition 4 0 -2\n"
    host = made_host(
        tmp_path,
        {
            **KSM,
            "/sys/kernel/mm/ksm/run": "1\n",
            "/sys/module/zswap/parameters/enabled": "N\n",
            "/proc/swaps": swaps,
        },
    )
    assert found(study.ksm, host).state == "limited"
    assert found(study.zswap, host).state == "limited"


def test_ksm_of_an_older_kernel(tmp_path: Path) -> None:
    files = {**KSM, "/proc/self/ksm_stat": "ksm_rmap_items 0\n"}
    assert found(study.ksm, made_host(tmp_path, files)).state == "limited"
