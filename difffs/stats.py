"""What a store holds and costs: the object that `stats --json` prints."""

import mmap
import os
from pathlib import Path
from typing import Any

from difffs.codec import ROUTE_OF_CODEC, Codec, Route
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.volume import Volumes

SCHEMA_VERSION = 1


def collect(store: Store, volumes: Volumes | None = None) -> dict[str, Any]:
    """Statistics of an open store, in bytes, pages and microseconds.

    `volumes` adds the write buffer of a live mount.
    """
    counts = store.page_counts()
    occupancy = store.occupancy()
    logical = counts["total"] * PAGE_SIZE
    return {
        "schema_version": SCHEMA_VERSION,
        "store": str(store.path),
        "recipe": store.recipe.name,
        "since": store.since,
        "pages": counts,
        "bytes": {
            "logical": logical,
            "payload": occupancy.payload,
            "slack": occupancy.slack,
            "metadata": occupancy.metadata,
            "stored": occupancy.stored,
        },
        "objects": store.object_count(),
        "factor": logical / occupancy.stored if occupancy.stored else 0.0,
        "routes": _routes(store),
        "memory": {
            "daemon_rss": resident_bytes(),
            "write_buffer": volumes.write_buffer_bytes if volumes is not None else 0,
            "page_cache": cached_bytes(store.path),
        },
    }


def _routes(store: Store) -> dict[str, dict[str, int]]:
    """Work done since the store was made; decode since it was opened."""
    decoded = {route: [0, 0] for route in Route}
    for codec, (count, nanoseconds) in enumerate(store.extents.decode_totals):
        route = ROUTE_OF_CODEC.get(Codec(codec))
        if route is not None:
            decoded[route][0] += count
            decoded[route][1] += nanoseconds
    routes = {}
    for route in Route:
        count, bytes_in, bytes_out, nanoseconds = store.counters[route.name.lower()][:4]
        routes[route.name.lower()] = {
            "count": count,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "encode_us": nanoseconds // 1000,
            "decode_count": decoded[route][0],
            "decode_us": decoded[route][1] // 1000,
        }
    return routes


def resident_bytes() -> int:
    """Resident memory of this process that is its own (not pages of mapped files)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def cached_bytes(store: Path) -> int:
    """Bytes of the store's files that are in the page cache (on tmpfs: all of them)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    total = 0
    for directory, _names, files in os.walk(store):
        for name in files:
            total += _cached_bytes_of(libc, Path(directory) / name)
    return total


def _cached_bytes_of(libc: Any, path: Path) -> int:
    """Asks for the file's data ranges only: the payload file is sparse."""
    import ctypes

    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    total = 0
    try:
        end = os.fstat(file).st_size
        at = 0
        while at < end:
            try:
                start = os.lseek(file, at, os.SEEK_DATA) & ~(mmap.PAGESIZE - 1)
            except OSError:
                break
            at = os.lseek(file, max(start, at), os.SEEK_HOLE)
            length = at - start
            # A private writable mapping is never written; ctypes needs it to take its address.
            with mmap.mmap(file, length, flags=mmap.MAP_PRIVATE, offset=start) as view:
                vector = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
                address = ctypes.addressof(ctypes.c_char.from_buffer(view))
                if libc.mincore(address, length, vector) == 0:
                    total += sum(byte & 1 for byte in vector.raw) * mmap.PAGESIZE
    finally:
        os.close(file)
    return total
