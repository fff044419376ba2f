"""What each domain of a store holds and costs."""

from collections import Counter
from typing import Any

from difffs.codec import ROUTE_OF_CODEC
from difffs.page import PAGE_SIZE
from difffs.store.occupancy import Occupancy
from difffs.store.store import Store


def domain_statistics(store: Store, occupancy: Occupancy) -> list[dict[str, Any]]:
    """One entry a domain that has a directory or pages, that of the root first; sizes in bytes.

    Payloads are a domain's own. Of what the files occupy beside them, each has its part: of slack
    by the bytes of its payloads, of metadata by their number. All parts together are the whole.
    O(domains and volumes).
    """
    with store.lock:
        names = store.namespace.domain_names()
        pages: Counter[int] = Counter(dict.fromkeys(names, 0))
        for domain, volume in store.namespace.domain_files():
            pages[domain] += store.mapped_pages(volume)
        held = {domain: store.extents.domain_totals(domain) for domain in pages}
        decoded = [
            total for codec, total in enumerate(store.decode_totals()) if codec in ROUTE_OF_CODEC
        ]
    all_objects = sum(totals[1] for totals in held.values()) or 1
    all_payload = sum(totals[2] for totals in held.values()) or 1
    others = [sum(totals[at] for domain, totals in held.items() if domain) for at in (4, 5)]
    report = []
    for domain in sorted(pages):
        _extents, objects, payload, _dead, count, nanoseconds = held[domain]
        payload = payload * occupancy.payload // all_payload  # without pages gone from groups
        if domain == 0:  # not counted by itself, so that a store without domains has no more work
            count = sum(total[0] for total in decoded) - others[0]
            nanoseconds = sum(total[1] for total in decoded) - others[1]
        slack = occupancy.slack * payload / all_payload
        stored = round(payload + slack + occupancy.metadata * objects / all_objects)
        logical = pages[domain] * PAGE_SIZE
        report.append(
            {
                "domain": domain,
                "directory": names.get(domain),
                "pages": pages[domain],
                "objects": objects,
                "bytes": {"logical": logical, "payload": payload, "stored": stored},
                "factor": logical / stored if stored else 0.0,
                "decode_count": max(0, count),
                "decode_us": max(0, nanoseconds) // 1000,
            }
        )
    return report
