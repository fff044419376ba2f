"""Statistics in Prometheus's text exposition format, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/. No timestamps: node_exporter's
textfile collector refuses files that have any.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

_ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")


@dataclass(slots=True)
class Metric:
    """A metric, its help and its samples."""

    name: str
    kind: str
    """``gauge``, ``counter``, whose name ends in ``_total``, or ``histogram``."""
    meaning: str
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    """What is appended to the name, labels, value."""

    def lines(self) -> Iterator[str]:
        """The metric as the format has it."""
        yield f"# HELP {self.name} {_escaped(self.meaning)}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self.samples:
            inner = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
            yield f"{self.name}{suffix}{{{inner}}} {_number(value)}"


class Exposition:
    """Metrics in the order in which they were first told."""

    def __init__(self) -> None:
        """Begin without any."""
        self._metrics: dict[str, Metric] = {}

    def gauge(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Tell what may rise and fall."""
        self._metric(f"difffs_{name}", "gauge", meaning).samples.append(("", labels, value))

    def counter(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Tell what only rises, until it begins at 0 again."""
        metric = self._metric(f"difffs_{name}_total", "counter", meaning)
        metric.samples.append(("", labels, value))

    def histogram(
        self,
        name: str,
        meaning: str,
        bounds: Sequence[float],
        counts: Sequence[int],
        total: float,
        **labels: str,
    ) -> None:
        """Tell how many were at most each of the ascending bounds, but above the one before; the
        last of ``counts`` were above all. ``total`` is the sum of what was observed."""
        metric = self._metric(f"difffs_{name}", "histogram", meaning)
        limits = [*map(_number, bounds), "+Inf"]
        for limit, reached in zip(limits, accumulate(counts), strict=True):
            metric.samples.append(("_bucket", {**labels, "le": limit}, reached))
        metric.samples.append(("_sum", labels, total))
        metric.samples.append(("_count", labels, sum(counts)))

    def _metric(self, name: str, kind: str, meaning: str) -> Metric:
        return self._metrics.setdefault(name, Metric(name, kind, meaning))

    def text(self) -> str:
        """Return all of it."""
        return "".join(f"{line}\n" for metric in self._metrics.values() for line in metric.lines())


def exposition(stores: Iterable[Mapping[str, Any]], build: Mapping[str, str]) -> str:
    """Return the statistics of the stores as text; `build` are the labels of what made it.

    A store that comes twice, as itself and as its mount point, is told once: two samples with the
    same labels would spoil the whole file.
    """
    distinct: dict[str, Mapping[str, Any]] = {}
    for statistics in stores:
        distinct.setdefault(os.path.realpath(statistics["store"]), statistics)
    told = Exposition()
    for store, statistics in distinct.items():
        # With the store, so that files for several stores in one directory do not tell the same.
        told.gauge(
            "build_info",
            "The difffs that wrote these metrics, and the libraries that it uses; always 1.",
            1,
            store=store,
            **build,
        )
        _tell_state(told, store, statistics)
        _tell_domains(told, store, statistics)
        _tell_memory(told, store, statistics)
        _tell_work(told, store, statistics)
        _tell_requests(told, store, statistics)
    return told.text()


def _tell_state(told: Exposition, store: str, statistics: Mapping[str, Any]) -> None:
    told.gauge(
        "store_info", "The store's recipe; always 1.", 1, store=store, recipe=statistics["recipe"]
    )
    mounted = "mountpoint" in statistics
    told.gauge("store_mounted", "1 when the store is mounted.", mounted, store=store)
    told.gauge(
        "store_made_timestamp_seconds",
        "When the store was made, in seconds since 1970.",
        statistics["since"],
        store=store,
    )
    for route in _ROUTES:
        told.gauge(
            "pages",
            "Pages of volumes that are no holes, by how they are kept.",
            statistics["pages"][route],
            store=store,
            route=route,
        )
    told.gauge("lost_pages", "Pages that cannot be read any more.", statistics["lost"], store=store)
    told.gauge("objects", "Stored payloads.", statistics["objects"], store=store)
    sizes = statistics["bytes"]
    told.gauge("logical_bytes", "Bytes of all these pages.", sizes["logical"], store=store)
    for part in ("payload", "slack", "metadata"):
        told.gauge(
            "stored_bytes", "What the store's files occupy.", sizes[part], store=store, part=part
        )
    told.gauge(
        "factor",
        "Logical by stored bytes; 0 when nothing is stored.",
        statistics["factor"],
        store=store,
    )


def _tell_domains(told: Exposition, store: str, statistics: Mapping[str, Any]) -> None:
    for domain in statistics.get("domains", ()):
        labels = {
            "store": store,
            "domain": str(domain["domain"]),
            "directory": domain["directory"] or "",  # the root's, or of one that is removed
        }
        told.gauge(
            "domain_pages",
            "Pages of a domain's volumes that are no holes.",
            domain["pages"],
            **labels,
        )
        told.gauge("domain_objects", "Its stored payloads.", domain["objects"], **labels)
        sizes = domain["bytes"]
        told.gauge("domain_logical_bytes", "Bytes of its pages.", sizes["logical"], **labels)
        told.gauge("domain_payload_bytes", "Bytes of its payloads.", sizes["payload"], **labels)
        told.gauge(
            "domain_stored_bytes",
            "Its payloads, and its part of the store's slack and metadata.",
            sizes["stored"],
            **labels,
        )
        told.gauge(
            "domain_factor",
            "Logical by stored bytes of the domain; 0 when nothing is stored.",
            domain["factor"],
            **labels,
        )
        if "mountpoint" in statistics:
            told.counter(
                "domain_decoded_pages",
                "Payloads of the domain decoded since the store was mounted.",
                domain["decode_count"],
                **labels,
            )
            told.counter(
                "domain_decode_seconds",
                "Time that decoding them took, all threads together.",
                domain["decode_us"] / 1e6,
                **labels,
            )
    if "domains" in statistics:
        told.gauge(
            "domains_left_out",
            "The smallest domains, of which a mount with many tells nothing.",
            statistics.get("domains_left_out", 0),
            store=store,
        )


def _tell_memory(told: Exposition, store: str, statistics: Mapping[str, Any]) -> None:
    memory = statistics["memory"]
    told.gauge(
        "page_cache_bytes",
        "The store's files in the page cache.",
        memory["page_cache"],
        store=store,
    )
    if "mountpoint" not in statistics:
        return
    told.gauge(
        "daemon_resident_bytes",
        "Resident memory of the daemon's own, its write buffer included.",
        memory["daemon_rss"],
        store=store,
    )
    told.gauge(
        "write_buffer_bytes", "Written pages not yet stored.", memory["write_buffer"], store=store
    )
    if "write_buffer_limit" in memory:  # not yet in a daemon that runs since an earlier version
        told.gauge(
            "write_buffer_limit_bytes",
            "Bound of the write buffer; writes wait when it is reached.",
            memory["write_buffer_limit"],
            store=store,
        )
    granted: dict[str, bool] = {}
    for entry in statistics.get("kernel_settings", []):
        granted[entry["setting"]] = entry["applied"] and granted.get(entry["setting"], True)
    for setting, applied in granted.items():
        told.gauge(
            "kernel_setting_applied",
            "1 when the kernel granted what a mount asks of it.",
            applied,
            store=store,
            setting=setting,
        )


def _tell_work(told: Exposition, store: str, statistics: Mapping[str, Any]) -> None:
    for route in _ROUTES:
        work = statistics["routes"][route]
        labels = {"store": store, "route": route}
        told.counter(
            "written_pages", "Pages stored since the store was made.", work["count"], **labels
        )
        told.counter("written_bytes", "Their bytes.", work["bytes_in"], **labels)
        told.counter("encoded_bytes", "Bytes of their payloads.", work["bytes_out"], **labels)
        told.counter(
            "encode_seconds",
            "Time that encoding took, all threads together.",
            work["encode_us"] / 1e6,
            **labels,
        )
        if "mountpoint" in statistics:  # else it is the work of this command, none
            told.counter(
                "decoded_pages",
                "Payloads decoded since the store was mounted.",
                work["decode_count"],
                **labels,
            )
            told.counter(
                "decode_seconds",
                "Time that decoding took, all threads together.",
                work["decode_us"] / 1e6,
                **labels,
            )


def _tell_requests(told: Exposition, store: str, statistics: Mapping[str, Any]) -> None:
    """What a mount has of the kernel's requests; not all of it where libfuse is old, or the daemon
    runs since an earlier version."""
    if "write_wait_us" in statistics:
        told.counter(
            "write_wait_seconds",
            "Time that writes waited for room in the write buffer.",
            statistics["write_wait_us"] / 1e6,
            store=store,
        )
    if "writing_stopped" in statistics:
        told.gauge(
            "writing_stopped",
            "1 when an error has stopped all writing.",
            statistics["writing_stopped"],
            store=store,
        )
    times = statistics.get("request_times")
    if times is not None:
        bounds = [bound / 1e6 for bound in times["bounds_us"]]
        for request, counted in times["requests"].items():
            told.histogram(
                "request_seconds",
                "Time from the receipt of a request of the kernel to its answer.",
                bounds,
                counted["counts"],
                counted["us"] / 1e6,
                store=store,
                request=request,
            )
    for error, count in statistics.get("failed_requests", {}).items():
        told.counter(
            "failed_requests",
            "Requests of the kernel answered with an error.",
            count,
            store=store,
            error=error,
        )


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    """A label's value. What is no UTF-8 in a path becomes U+FFFD: the format has nothing else."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _escaped(clean).replace('"', '\\"')
