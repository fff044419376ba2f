"""What a store holds and costs: the object that `stats --json` prints."""

from pathlib import Path
from typing import Any

from difffs.codec import ROUTE_OF_CODEC, Route
from difffs.page import PAGE_SIZE
from difffs.page_cache import cached_bytes_of
from difffs.refine.tiers import TIERS
from difffs.store import Store
from difffs.store.domains import domain_statistics
from difffs.store.format import DIGEST_FILE, INDEX_DIRECTORY, PAYLOAD_FILE, SKETCH_FILE
from difffs.volume import Volumes

SCHEMA_VERSION = 1


def collect(store: Store, volumes: Volumes | None = None) -> dict[str, Any]:
    """Statistics of an open store, in bytes, pages and microseconds.

    `volumes` adds the write buffer of a live mount, and what has held up or stopped writing.
    """
    counts = store.page_counts()
    occupancy = store.occupancy()
    logical = counts["total"] * PAGE_SIZE
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "store": str(store.path),
        "recipe": store.recipe.name,
        "since": store.since,
        "pages": counts,
        "lost": store.lost_pages,
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
            "daemon_rss": own_bytes(volumes),
            "write_buffer": volumes.write_buffer_bytes if volumes is not None else 0,
            "page_cache": cached_bytes(store.path),
        },
    }
    report["tiers"] = _tiers(store)
    if store.has_domains:
        report["domains"] = domain_statistics(store, occupancy)
    if volumes is not None:
        report["memory"]["write_buffer_resident"] = volumes.resident_buffer_bytes
        report["memory"]["write_buffer_limit"] = volumes.buffer_bytes
        report["write_wait_us"] = volumes.waited_ns // 1000
        report["writing_stopped"] = volumes.failed is not None
    return report


def _tiers(store: Store) -> dict[str, dict[str, int]]:
    """What refining has packed how densely, and what reading that has taken since the store was
    opened: pages decoded for pages asked."""
    counts = store.group_counts
    tiers = {
        name: [sum(total) for total in zip(*(counts[codec] for codec in tier.codecs), strict=True)]
        for name, tier in TIERS.items()
    }
    members = sum(each[2] for each in tiers.values())
    plain = store.object_count() - members - sum(each[0] for each in tiers.values())
    payload = store.extents.live_bytes() - sum(each[1] for each in tiers.values())
    asked, decoded = store.extents.members_read
    report: dict[str, dict[str, int]] = {"none": {"objects": plain, "bytes": payload}}
    for name, (groups, size, alive, gone) in tiers.items():
        report[name] = {"objects": alive, "bytes": size, "groups": groups, "gone": gone}
    return {**report, "reads": {"pages": asked, "decoded": decoded}}


def _routes(store: Store) -> dict[str, dict[str, int]]:
    """Work done since the store was made; decode since it was opened."""
    decoded = {route: [0, 0] for route in Route}
    for codec, (count, nanoseconds) in enumerate(store.decode_totals()):
        route = ROUTE_OF_CODEC.get(codec)
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


def own_bytes(volumes: "Volumes | None" = None) -> int:
    """Resident memory that is this process's own, the volumes' write buffer included. Mapped files
    of a store are not, nor on a tmpfs, where the kernel counts them as shared memory, as it does
    the buffer."""
    buffer = 0 if volumes is None else volumes.resident_buffer_bytes
    for line in Path("/proc/self/status").read_bytes().split(b"\n"):
        if line.startswith(b"RssAnon:"):
            return int(line.split()[1]) * 1024 + buffer
    raise RuntimeError("/proc/self/status tells no RssAnon")


def cached_bytes(store: Path) -> int:
    """Bytes of the store's large files that are in the page cache (on tmpfs: all of them)."""
    paths = [store / name for name in (PAYLOAD_FILE, DIGEST_FILE, SKETCH_FILE)]
    # Not the lock files: closing one of them would drop the locks that this process has on it.
    return sum(cached_bytes_of(path) for path in [*paths, store / INDEX_DIRECTORY / "data.mdb"])
