"""What unpacks memory images."""

from pathlib import Path

from difffs.doctor import images
from tests.doctor.made_host import found, made_host


def test_nothing_there(tmp_path: Path) -> None:
    for probe in images.PROBES:
        check = found(probe, made_host(tmp_path))
        rare = probe.name == "images.package.python-lzo"
        assert check.state == ("off" if rare else "missing"), probe.name
        assert check.matters_for == ("images",)


def test_all_there(tmp_path: Path) -> None:
    programs = {f"/bin/{name}": "" for name in ("lzop", "gzip", "bzip2", "xz", "zstd")}
    packages = {"xxhash": "3.4", "zstandard": "0.22.0", "cramjam": "2.8.3", "python-lzo": "1.15"}
    host = made_host(tmp_path, programs=programs, packages=packages)
    for probe in images.PROBES:
        assert found(probe, host).state == "ok", probe.name
