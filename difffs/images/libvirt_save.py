"""What libvirt writes for ``virsh save``, ``managedsave`` and the memory of external snapshots.

    "LibvirtQemudSave"; "LibvirtQemudPart" as long as the save goes on
    version (2), bytes up to the stream, whether the guest ran, form of the stream, offset of the
        cookie behind this header: 4 bytes each, in the byte order of the host that wrote it
    14 times 4 bytes that are not used
    XML of the domain, XML of the cookie, each ended by a zero byte, zero bytes (room to edit it)
    QEMU's migration stream

Forms are raw, compressed by a program, and sparse (libvirt 11.2 and later), where the stream has
mapped-ram. A compressed stream is unpacked: what is read is the same save in the raw form, which
``virsh restore`` takes as well. (libvirt's src/qemu/qemu_saveimage.c)
"""

import re
import struct
from dataclasses import dataclass

from difffs.images.assembly import LIKE_BYTES, Assembly
from difffs.images.compression import compression_of, unpacked
from difffs.images.format import Format, NotThisFormat
from difffs.images.migration import MAGIC as STREAM_MAGIC
from difffs.images.migration import read_stream
from difffs.images.source import Source

_SAVE = b"LibvirtQemudSave"
_PART = b"LibvirtQemudPart"
_HEADER_BYTES = 92
_FORM_AT = 28
_VERSION = 2

_FORMS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
_RAW = bytes(4)

_MAXIMUM_HEAD = 16 << 20
"""Bytes before the stream: XML of some KiB, and 64 KiB of zeros."""
_XML_LOOKED_AT = 64 << 10

# In the domain's XML these two are the first elements; nothing is decoded but what is harmless.
_NAME = re.compile(rb"<name>([^<>&]{1,200})</name>")
_UUID = re.compile(rb"<uuid>([0-9a-fA-F-]{32,36})</uuid>")


@dataclass(frozen=True, slots=True)
class _Header:
    """The header, in either byte order."""

    finished: bool
    version: int
    length: int
    """Bytes from the header's end to the stream."""
    ran: bool
    form: str

    @property
    def stream(self) -> int:
        """Where the stream begins."""
        return _HEADER_BYTES + self.length

    @classmethod
    def of(cls, source: Source) -> "_Header":
        """What the source begins with. NotThisFormat where it is of no known version or form."""
        data = bytes(source.peek(_HEADER_BYTES))
        if len(data) < _HEADER_BYTES:
            raise source.damaged("it ends within libvirt's header", len(data))
        fields = struct.unpack_from("<5I", data, len(_SAVE))
        if fields[0] > _VERSION:
            fields = struct.unpack_from(">5I", data, len(_SAVE))
        version, length, ran, form, _cookie = fields
        if not 0 < version <= _VERSION:
            raise NotThisFormat(f"a save of libvirt of version {version}, which is not known")
        # Version 1 knew no compression.
        if version == 1:
            form = 0
        if form >= len(_FORMS):
            raise NotThisFormat(f"a save of libvirt in a form that is not known ({form})")
        if not 0 < length <= _MAXIMUM_HEAD:
            raise source.damaged(f"{length:,} bytes of XML are not possible", len(_SAVE) + 4)
        return cls(data.startswith(_SAVE), version, length, ran != 0, _FORMS[form])


def _matches(prefix: memoryview) -> bool:
    return bytes(prefix[: len(_SAVE)]) in (_SAVE, _PART)


def _read(source: Source, assembly: Assembly) -> None:
    header = _Header.of(source)
    head = b"".join(map(bytes, source.pieces(header.stream, "the domain's XML")))
    assembly.details(
        format="libvirt-save",
        version=header.version,
        save_format=header.form,
        was_running=header.ran,
        **_domain(head[_HEADER_BYTES:][:_XML_LOOKED_AT]),
    )
    if header.form not in ("raw", "sparse"):
        like = bytes(source.peek(LIKE_BYTES))
        if compression_of(like) != header.form:
            raise source.damaged(f"its header says {header.form}, which does not begin there")
        replaced = head[_FORM_AT : _FORM_AT + len(_RAW)]
        head = head[:_FORM_AT] + _RAW + head[_FORM_AT + len(_RAW) :]
        source = source.unpack(head, unpacked(header.form, source.rest(), source))
        assembly.packed(header.form, header.stream, [(_FORM_AT, replaced)], like)
    if not header.finished:
        assembly.unusual("libvirt has not finished this save, and would not restore it")
    if source.peek(len(STREAM_MAGIC)) != STREAM_MAGIC:
        raise source.damaged("no migration stream begins behind the domain's XML")
    xml = head.rstrip(b"\0")
    assembly.literal(xml)
    assembly.zeros(len(head) - len(xml))
    read_stream(source, assembly)


def _domain(xml: bytes) -> dict[str, str]:
    """Name and identity of the domain, as far as its XML tells them plainly."""
    facts = {}
    for key, pattern in (("domain", _NAME), ("domain_uuid", _UUID)):
        found = pattern.search(xml)
        if found:
            facts[key] = found.group(1).decode(errors="replace")
    return facts


FORMAT = Format(name="libvirt-save", title="libvirt save", matches=_matches, read=_read)
