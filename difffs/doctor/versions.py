"""Versions of what difffs itself stands on: Python, the codecs, the index's library, the kernel."""

import sys

from difffs.doctor.check import Answer, Probe, Use, limited, missing, ok, probe
from difffs.doctor.host import Host
from difffs.doctor.packages import package_probe
from difffs.errors import EnvironmentProblem
from difffs.libraries import installed_version, kernels_versions, lmdb_version

_ALL: tuple[Use, ...] = ("guests", "swap", "images", "study")
_LEAST_PYTHON = (3, 11)


@probe("version.python", *_ALL)
def python(_host: Host) -> Answer:
    """The Python that runs this."""
    found = f"Python {sys.version.split()[0]}"
    if sys.version_info < _LEAST_PYTHON:
        return limited(found, "Python 3.11 or later")
    return ok(found)


@probe("version.kernel")
def kernel(host: Host) -> Answer:
    """The running kernel."""
    return ok(f"Linux {host.text('/proc/sys/kernel/osrelease')}")


def codec_probe(name: str, library: str, package: str) -> Probe:
    """The version of a library of the page kernels: the system's, or one that is part of them."""

    @probe(name, *_ALL)
    def look(_host: Host) -> Answer:
        try:
            return ok(f"{library} {kernels_versions()[library]}")
        except EnvironmentProblem as problem:
            return missing(str(problem), f"apt install {package}")

    return look


@probe("version.lmdb", *_ALL)
def lmdb(_host: Host) -> Answer:
    """The library of the index, which the Python package brings along."""
    try:
        version = lmdb_version()
    except EnvironmentProblem as problem:
        return missing(str(problem), "pip install 'lmdb>=1.6,<3'")
    return ok(f"LMDB {version}, lmdb {installed_version('lmdb')}")


PROBES = (
    python,
    kernel,
    codec_probe("version.libzstd", "libzstd", "libzstd1"),
    codec_probe("version.liblz4", "liblz4", "liblz4-1"),
    codec_probe("version.liblzma", "liblzma", "liblzma5"),
    lmdb,
    package_probe(
        "version.package.lmdb", "lmdb", "no store can be opened", *_ALL, least=(1, 6), below=(3,)
    ),
    package_probe(
        "version.package.mfusepy",
        "mfusepy",
        "nothing can be mounted",
        "guests",
        "swap",
        "study",
        least=(3, 1),
        below=(3, 2),
    ),
)
