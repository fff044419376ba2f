"""Versions of what difffs itself stands on: Python, the codecs, the index's library, the kernel."""

import ctypes
import sys

from difffs.doctor.check import Answer, Probe, Use, limited, missing, ok, probe, unknown
from difffs.doctor.host import Host
from difffs.doctor.packages import package_probe

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


def codec_probe(name: str, library: str, function: str, package: str) -> Probe:
    """Load a library; ask a function of it, which returns text, for its version."""

    @probe(name, *_ALL)
    def look(_host: Host) -> Answer:
        try:
            loaded = ctypes.CDLL(library)
        except OSError:
            return missing(f"{library} cannot be loaded", f"apt install {package}")
        try:
            version = getattr(loaded, function)
        except AttributeError:
            return unknown(f"{library} does not tell its version")
        version.restype = ctypes.c_char_p
        return ok(f"{library} {version().decode()}")

    return look


@probe("version.lmdb", *_ALL)
def lmdb(_host: Host) -> Answer:
    """The library of the index, which the Python package brings along."""
    try:
        import lmdb as module
    except ImportError as error:
        return missing(f"the Python package lmdb: {error}", "pip install 'lmdb>=1.6,<3'")
    return ok(f"LMDB {'.'.join(map(str, module.version()))}, lmdb {module.__version__}")


PROBES = (
    python,
    kernel,
    codec_probe("version.libzstd", "libzstd.so.1", "ZSTD_versionString", "libzstd1"),
    codec_probe("version.liblz4", "liblz4.so.1", "LZ4_versionString", "liblz4-1"),
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
