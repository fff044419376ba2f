"""A small migration stream, for tests of what such streams lie in."""

import struct
from collections.abc import Collection, Mapping

from difffs.page import PAGE_SIZE


def small_stream(
    memory: Mapping[str, bytes], *, left_out: Collection[int] = (), devices: bytes = b"devices"
) -> bytes:
    """The stream of a machine with these blocks of memory; pages of the first one by number may be
    left out."""

    def text(name: str) -> bytes:
        return bytes([len(name)]) + name.encode()

    footer = b"\x7e" + struct.pack(">I", 2)
    end = struct.pack(">Q", 0x10) + footer
    total = sum(map(len, memory.values()))
    out = [b"QEVM\0\0\0\3\7", struct.pack(">I", 11), b"pc-q35-10.0"]
    out += [b"\1", struct.pack(">I", 2), text("ram"), struct.pack(">IIQ", 0, 4, total | 4)]
    out += [text(name) + struct.pack(">Q", len(data)) for name, data in memory.items()]
    out += [end, b"\2", struct.pack(">I", 2)]
    for number, (name, data) in enumerate(memory.items()):
        named = False
        for offset in range(0, len(data), PAGE_SIZE):
            if number == 0 and offset // PAGE_SIZE in left_out:
                continue
            page = data[offset : offset + PAGE_SIZE]
            flags = (8 if any(page) else 2) | (0x20 if named else 0)
            out.append(struct.pack(">Q", offset | flags))
            out.append(b"" if named else text(name))
            out.append(page if any(page) else b"\0")
            named = True
    out += [end, b"\3", struct.pack(">I", 2), end]
    out += [b"\4", struct.pack(">I", 5), text("cpu"), struct.pack(">II", 0, 1), devices]
    out += [b"\x7e", struct.pack(">I", 5), b"\0"]
    return b"".join(out)
