"""The C libraries that are built into wheels: where their sources are, and that they are these.

Debian keeps what the authors have released under ``.orig.tar``; all of its mirrors have the files,
and the names change with the version only.
"""

from __future__ import annotations

import hashlib
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from collection.releases import MIRROR

from wheels.running import WheelError

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Source:
    """A released version of a library."""

    name: str
    version: str
    pool: str
    """Below ``pool/`` of a Debian mirror."""
    sha256: str
    licence: str
    """The file of the archive with the terms of what is taken from it."""


ZSTD = Source(
    "libzstd",
    "1.5.7",
    "main/libz/libzstd/libzstd_1.5.7+dfsg.orig.tar.xz",
    "0c092ef267edce57ba7f3f2645c861f72eaf5e76273c6c3632869423464b90a5",
    "LICENSE",
)
LZ4 = Source(
    "liblz4",
    "1.10.0",
    "main/l/lz4/lz4_1.10.0.orig.tar.gz",
    "537512904744b35e232912055ccf8ec66d768639ff3abe5788d90d792ec5f48b",
    "lib/LICENSE",
)
XZ = Source(
    "liblzma",
    "5.8.1",
    "main/x/xz-utils/xz-utils_5.8.1.orig.tar.xz",
    "0b54f79df85912504de0b14aec7971e3f964491af1812d83447005807513cd9e",
    "COPYING.0BSD",
)
XXHASH = Source(  # a header; the code is inlined
    "xxHash",
    "0.8.3",
    "main/x/xxhash/xxhash_0.8.3.orig.tar.gz",
    "aae608dfe8213dfd05d909a57718ef82f30722c392344583d3f39050c7f29a80",
    "LICENSE",
)
SOURCES = (ZSTD, LZ4, XZ, XXHASH)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def fetched(source: Source, folder: Path, mirror: str = MIRROR) -> Path:
    """Return the archive in ``folder``; downloads it unless it is there. Raises WheelError."""
    archive = folder / source.pool.rpartition("/")[2]
    if archive.exists() and _sha256(archive) == source.sha256:
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    address = f"{mirror}/pool/{source.pool}"
    coming = archive.with_name(f"{archive.name}.part")
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            coming.write_bytes(answer.read())
    except OSError as error:
        raise WheelError(f"cannot download {address}: {error}") from None
    if (found := _sha256(coming)) != source.sha256:
        coming.unlink()
        raise WheelError(f"{address} is not {source.name} {source.version}: its SHA-256 is {found}")
    coming.rename(archive)
    return archive


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a source archive; return the one folder that it has. Raises WheelError."""
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive) as content:
            # Python 3.11.4 and later have it, 3.14 as the default
            content.extraction_filter = getattr(tarfile, "data_filter", None)
            content.extractall(folder)
    except tarfile.TarError as error:
        raise WheelError(f"{archive}: {error}") from None
    (top,) = folder.iterdir()
    return top
