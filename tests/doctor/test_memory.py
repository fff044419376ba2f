"""The kernel's own ways to save memory."""

from pathlib import Path

from difffs.doctor import memory
from tests.doctor.made_host import found, made_host


def test_nothing_of_it(tmp_path: Path) -> None:
    for probe in memory.PROBES:
        check = found(probe, made_host(tmp_path))
        assert check.state == "off", probe.name
        assert not check.matters_for


def test_all_of_it(tmp_path: Path) -> None:
    zswap = "/sys/module/zswap/parameters"
    host = made_host(
        tmp_path,
        {
            "/sys/block/zram0/disksize": "1073741824\n",
            "/sys/block/zram1/disksize": "0\n",
            f"{zswap}/enabled": "Y\n",
            f"{zswap}/compressor": "zstd\n",
            f"{zswap}/max_pool_percent": "20\n",
            "/sys/kernel/mm/ksm/run": "1\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        },
    )
    texts = []
    for probe in memory.PROBES:
        check = found(probe, host)
        assert check.state == "ok", probe.name
        texts.append(check.found)
    assert texts[0] == "in use: zram0"
    assert "zstd" in texts[1]
    assert "20 %" in texts[1]
    assert "at work" in texts[2]
    assert "madvise" in texts[3]


def test_there_and_off(tmp_path: Path) -> None:
    host = made_host(
        tmp_path,
        {
            "/sys/block/zram0/disksize": "0\n",
            "/sys/module/zswap/parameters/enabled": "N\n",
            "/sys/kernel/mm/ksm/run": "0\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
        },
    )
    assert [found(probe, host).state for probe in memory.PROBES] == ["off"] * 4
