"""Writes saves as libvirt does, from the published structure of the format."""

import bz2
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable, Mapping

FORMS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")

XML = """<domain type='qemu'>
  <name>guest 7</name>
  <uuid>23482b7f-0b86-46c6-b8bd-6ba9a468fd22</uuid>
  <memory unit='KiB'>8192</memory>
  <name>not this one</name>
</domain>
"""


def _zstd(data: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdCompressor(write_checksum=True).compress(data))


def _lzop(data: bytes) -> bytes:
    return subprocess.run(["lzop", "-c"], input=data, capture_output=True, check=True).stdout


PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzop": _lzop,
    "zstd": _zstd,
    "sparse": bytes,
}


def libvirt_save(
    stream: bytes,
    form: str | int = "raw",
    *,
    byte_order: str = "<",
    version: int = 2,
    finished: bool = True,
    ran: bool = False,
    xml: str = XML,
    cookie: str | None = "<qemusavecookie/>",
    padding: int = 64 << 10,
    length: int | None = None,
    packed: bytes | None = None,
) -> bytes:
    """A save of that stream. What is not as libvirt does it: a `length` that lies, other `packed`
    bytes, a form by its number."""
    text = xml.encode() + b"\0"
    cookie_at = 0
    if cookie is not None:
        cookie_at = len(text)
        text += cookie.encode() + b"\0"
    text += bytes(padding)
    number = form if isinstance(form, int) else FORMS.index(form)
    fields = (version, len(text) if length is None else length, ran, number, cookie_at)
    header = b"LibvirtQemudSave" if finished else b"LibvirtQemudPart"
    header += struct.pack(f"{byte_order}5I", *fields) + bytes(4 * 14)
    if packed is None:
        packed = PACKERS[form](stream) if isinstance(form, str) else stream
    return header + text + packed
