"""8. What packing pages that rest in groups of like ones is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.refine.tiers import TIERS
from difffs.study import word_transforms
from difffs.study.cache import Result
from difffs.study.context import Context, Failure
from difffs.study.passes import Pass
from difffs.study.peers import whole_archive
from difffs.study.peers.peer import Peer
from difffs.study.refining import AS_STORED, REFINE_PASS_VERSION, refine_pass
from difffs.study.result import Cell, Column, Plot, PlotKind, Row, Section, Table, Unit
from difffs.study.word_transforms import ENCODINGS, PLAIN, SMALLEST, TRANSFORMS
from difffs.study.wording import agreed, corpora_of, listed, number, span, where

NUMBER = 8
NAME = "refining"
TITLE = "What refining is worth"

_RECIPE = "default"
_COLD, _REST = TIERS
_KEPT = {AS_STORED: f"{_RECIPE}, as stored", _COLD: _COLD, _REST: _REST}
"""How the states of a store are called in tables, by tier."""
_TRANSFORMED_OF_SAMPLE = 2
"""One in so many pages of the sample is transformed and encoded: zstd 16 takes a millisecond."""

_Streams = Mapping[str, Sequence[tuple[Peer, Result]]]
"""By corpus; those that could be made."""


def run(context: Context) -> Section:
    """Refine every corpus to every tier, read it, and compress it as one stream."""
    stores = _stores(context)
    streams, absent = _streams(context)
    words = context.each_corpus(
        "word transforms",
        word_transforms.WORD_TRANSFORM_PASS_VERSION,
        word_transforms.word_transform_pass,
        pages=context.sample // _TRANSFORMED_OF_SAMPLE,
        seed=context.seed,
    )
    sizes = _size_table(stores, streams, context)
    tables = [sizes, _saving_table(sizes), _read_table(stores), _word_table(words)]
    tables = [table for table in tables if table.rows]
    by_name = {table.name: table for table in tables}
    findings = [_finding(corpus.name, by_name) for corpus in context.corpora]
    return Section(
        NUMBER, NAME, TITLE, tables, _plots(by_name), _conclusion(by_name), findings, absent
    )


def _stores(context: Context) -> dict[str, dict[str, Result]]:
    """What refine_pass() says, by corpus and tier."""
    passes = [
        Pass(
            "refine",
            REFINE_PASS_VERSION,
            refine_pass,
            corpus.images,
            {
                "recipe": RECIPES[_RECIPE].to_dict(),
                "tier": tier,
                "pages": context.sample,
                "seed": context.seed,
            },
            timed=True,
        )
        for corpus in context.corpora
        for tier in _KEPT
    ]
    results = iter(context.results(passes))
    return {corpus.name: {tier: next(results) for tier in _KEPT} for corpus in context.corpora}


def _streams(context: Context) -> tuple[_Streams, list[str]]:
    """Whole corpora as one stream, and what could not be made, with its reason."""
    found = whole_archive.find_bounds()
    chosen = [(corpus, peer) for corpus in context.corpora for peer in found.peers]
    passes = [
        Pass(peer.kind, peer.version, peer.function, corpus.images, peer.parameters, timed=True)
        for corpus, peer in chosen
    ]
    made: dict[str, list[tuple[Peer, Result]]] = {corpus.name: [] for corpus in context.corpora}
    absent = list(found.absent)
    for (corpus, peer), result in zip(chosen, context.attempts("streams", passes), strict=True):
        if isinstance(result, Failure):
            absent.append(f"{peer.name} on {corpus.name}: {result.reason}")
        else:
            made[corpus.name].append((peer, result))
    return made, absent


# ---------------------------------------------------------------------------------------- tables


def _size_table(
    stores: Mapping[str, Mapping[str, Result]], streams: _Streams, context: Context
) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus in context.corpora:
        for tier, result in stores[corpus.name].items():
            rows.append({"corpus": corpus.name, "kept": _KEPT[tier], **_size_cells(tier, result)})
        for peer, result in streams[corpus.name]:
            rows.append(
                {
                    "corpus": corpus.name,
                    "kept": peer.name,
                    "factor": corpus.bytes / max(1, result["stored"]),
                    "stored": result["stored"],
                    "seconds": result["seconds"],
                    **dict.fromkeys(_STORE_ONLY),
                }
            )
    return Table(
        "refining",
        "Stores as imported and refined, and whole corpora as one stream",
        [
            Column("corpus", "corpus"),
            Column("kept", "kept as"),
            Column("factor", "factor", Unit.FACTOR),
            Column("stored", "stored MiB", Unit.MEBIBYTES),
            Column("payload", "payloads MiB", Unit.MEBIBYTES),
            Column("metadata", "metadata MiB", Unit.MEBIBYTES),
            Column("slack", "slack MiB", Unit.MEBIBYTES),
            Column("members", "pages in groups", Unit.COUNT),
            Column("members_share", "of stored pages", Unit.SHARE),
            Column("groups", "groups", Unit.COUNT),
            Column("seconds", "seconds", Unit.SECONDS),
            Column("rate", "pages/s", Unit.RATE),
        ],
        rows,
        f"All images of a corpus in one store of the recipe {_RECIPE}; {_COLD} and {_REST} are each"
        " refined from a store as imported. The factor counts all bytes that a closed store"
        " occupies. A page that is shared is one stored page; those of one repeated word are never"
        " in groups. Seconds are those of the processor, for the import and for refining alone, and"
        " pages/s the pages that are looked at in them; for streams, one thread's by the clock. Of"
        " a stream no page can be read without all before it: it bounds what can be had.",
    )


_STORE_ONLY = ("payload", "metadata", "slack", "members", "members_share", "groups", "rate")
"""Columns that streams have nothing for."""


def _size_cells(tier: str, result: Result) -> dict[str, Cell]:
    sizes, of_tiers = result["bytes"], [result["tiers"][name] for name in TIERS]
    members = sum(each["objects"] for each in of_tiers)
    pages = result["refined"] if tier else sizes["logical"] // PAGE_SIZE
    return {
        "factor": result["factor"],
        **{key: sizes[key] for key in ("stored", "payload", "metadata", "slack")},
        "members": members,
        "members_share": members / max(1, result["stored"]),
        "groups": sum(each["groups"] for each in of_tiers),
        "seconds": result["seconds"],
        "rate": pages / max(1e-9, result["seconds"]),
    }


def _saving_table(sizes: Table) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus in corpora_of(sizes):
        plain, cold, rest = (sizes.select(corpus=corpus, kept=kept)[0] for kept in _KEPT.values())
        streams = [row for row in sizes.select(corpus=corpus) if row["kept"] not in _KEPT.values()]
        before = number(plain["stored"])
        rows.append(
            {
                "corpus": corpus,
                "plain": plain["factor"],
                "cold": cold["factor"],
                "rest": rest["factor"],
                "by_cold": 1 - number(cold["stored"]) / before,
                "by_rest": 1 - number(rest["stored"]) / before,
                **_densest(streams, number(rest["factor"])),
            }
        )
    return Table(
        "refining_saving",
        "What refining saves, and what the densest stream reaches",
        [
            Column("corpus", "corpus"),
            Column("plain", "as stored", Unit.FACTOR),
            Column("cold", _COLD, Unit.FACTOR),
            Column("rest", _REST, Unit.FACTOR),
            Column("by_cold", f"stored bytes saved by {_COLD}", Unit.SHARE),
            Column("by_rest", f"by {_REST}", Unit.SHARE),
            Column("stream", "densest stream"),
            Column("stream_factor", "its factor", Unit.FACTOR),
            Column("over", f"{_REST} / stream", Unit.FACTOR),
        ],
        rows,
        "Everything counted, as in the table before, which has the figures that these come from.",
    )


def _densest(streams: Sequence[Row], rest_factor: float) -> dict[str, Cell]:
    """The cells about the stream of the greatest factor, all None where there is no stream."""
    if not streams:
        return dict.fromkeys(("stream", "stream_factor", "over"))
    stream = max(streams, key=lambda row: number(row["factor"]))
    factor = number(stream["factor"])
    return {"stream": stream["kept"], "stream_factor": factor, "over": rest_factor / factor}


def _read_table(stores: Mapping[str, Mapping[str, Result]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in stores.items():
        for tier, result in results.items():
            times, in_order = result["decode_us"], result["in_order"]
            if times:
                rows.append(
                    {
                        "corpus": corpus,
                        "kept": _KEPT[tier],
                        "factor": result["factor"],
                        "pages": len(times),
                        "mean": mean(times),
                        "p99": times[int(len(times) * 0.99)],
                        "bytes_per_second": in_order["pages"] * PAGE_SIZE / in_order["seconds"],
                        "decoded": in_order["decoded"] / in_order["asked"]
                        if in_order["asked"]
                        else None,
                    }
                )
    return Table(
        "refining_reads",
        "Reading what was refined",
        [
            Column("corpus", "corpus"),
            Column("kept", "kept as"),
            Column("factor", "factor", Unit.FACTOR),
            Column("pages", "pages read by chance", Unit.COUNT),
            Column("mean", "mean us", Unit.MICROSECONDS),
            Column("p99", "99 of 100 within us", Unit.MICROSECONDS),
            Column("bytes_per_second", "in order MiB/s", Unit.MEBIBYTES_PER_SECOND),
            Column("decoded", "decoded for each in a group", Unit.FACTOR),
        ],
        rows,
        "By the store itself, without a mount, in one thread, whose processor time is told; the"
        " store in memory and opened anew. First pages that are not zeros, drawn at random from all"
        " images, one at a time, then the first image in order, 256 pages at a time, with the pages"
        " that were decoded for each that is in a group. What was read was compared with the"
        " images.",
    )


def _word_table(words: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in words.items():
        pages = result["pages"]
        for name in (*TRANSFORMS, SMALLEST) if pages else ():
            sizes = {key: result["bytes"][key][name] / pages for key in ENCODINGS}
            rows.append({"corpus": corpus, "transform": name, "pages": pages, **sizes})
    return Table(
        "refining_words",
        "Words transformed before compression: bytes a page",
        [
            Column("corpus", "corpus"),
            Column("transform", "pages as"),
            Column("pages", "pages", Unit.COUNT),
            *(Column(key, key, Unit.MEAN_BYTES) for key in ENCODINGS),
        ],
        rows,
        "The same pages in all rows: groups of 16 successive pages drawn at random, without pages"
        " of one repeated word and all but the first of equal ones. Byte planes are the first bytes"
        " of all words, then the second ones, and so on; differences and XOR are those with the"
        " word before. zstd without a dictionary, as if it cost nothing to note what was chosen.",
    )


def _plots(tables: Mapping[str, Table]) -> list[Plot]:
    plots = [
        Plot(
            "refining",
            "What refining is worth: logical by stored bytes",
            PlotKind.BARS,
            "refining",
            x="kept",
            y="factor",
            panel="corpus",
        ),
        Plot(
            "refining_reads",
            "Factor against the time to read a page by chance",
            PlotKind.POINTS,
            "refining_reads",
            x="mean",
            y="factor",
            series="kept",
            panel="corpus",
            logarithmic=True,
        ),
        Plot(
            "refining_words",
            "Bytes a page, words transformed before compression",
            PlotKind.BARS,
            "refining_words",
            x="transform",
            y=next(iter(ENCODINGS)),
            panel="corpus",
        ),
    ]
    return [plot for plot in plots if plot.table in tables]


# ----------------------------------------------------------------------------------------- words


def _conclusion(tables: Mapping[str, Table]) -> str:
    saving = tables["refining_saving"]
    sentences = [_about_saving(saving)]
    if reads := tables.get("refining_reads"):
        sentences.append(_about_reads(reads))
    if any(row["stream"] for row in saving.rows):
        sentences.append(_about_streams(saving))
    if words := tables.get("refining_words"):
        sentences.append(_about_words(words))
    return " ".join(sentences)


def _about_saving(saving: Table) -> str:
    def over(key: str) -> str:
        return span(saving, key, saving.rows)

    return (
        f"Refining to {_COLD} takes {over('by_cold')} off the stored bytes, to {_REST}"
        f" {over('by_rest')}: a factor of {over('plain')} as stored becomes {over('cold')} and"
        f" {over('rest')}."
    )


def _about_reads(reads: Table) -> str:
    def over(key: str, tier: str) -> str:
        return span(reads, key, reads.select(kept=_KEPT[tier]))

    return (
        f"A page by chance then takes {over('mean', _COLD)} us ({_COLD}) and"
        f" {over('mean', _REST)} us ({_REST}) instead of {over('mean', AS_STORED)}; in order,"
        f" {over('bytes_per_second', _COLD)} and {over('bytes_per_second', _REST)} MiB/s are read"
        f" instead of {over('bytes_per_second', AS_STORED)}."
    )


def _about_streams(saving: Table) -> str:
    streams = {str(row["corpus"]): str(row["stream"]) for row in saving.rows if row["stream"]}
    return (
        f"One stream without random access ({agreed(streams)}) reaches"
        f" {span(saving, 'stream_factor', saving.rows)}, {_REST}"
        f" {span(saving, 'over', saving.rows)} times that."
    )


def _about_words(words: Table) -> str:
    """Whether any transform makes pages smaller than they are without one."""
    encoding = next(iter(ENCODINGS))
    corpora = corpora_of(words)
    smaller = [corpus for corpus in corpora if _transforms_that_pay(words, corpus)]
    verdict = (
        f"make pages smaller{where(smaller, corpora)}" if smaller else "do not make pages smaller"
    )
    transformed = [row for row in words.rows if row["transform"] not in (PLAIN, SMALLEST)]
    chosen, plain = words.select(transform=SMALLEST), words.select(transform=PLAIN)
    return (
        "Byte planes, differences and XOR of words before compression"
        f" {verdict}: a page {encoding} takes {span(words, encoding, transformed)} bytes against"
        f" {span(words, encoding, plain)} plain, and {span(words, encoding, chosen)} with the best"
        " of all for each."
    )


def _transforms_that_pay(words: Table, corpus: str) -> list[str]:
    """The transforms that make the corpus's pages smaller, with any of the encodings."""
    (plain,) = words.select(corpus=corpus, transform=PLAIN)
    return [
        str(row["transform"])
        for row in words.select(corpus=corpus)
        if row["transform"] not in (PLAIN, SMALLEST)
        and any(number(row[encoding]) < number(plain[encoding]) for encoding in ENCODINGS)
    ]


def _finding(corpus: str, tables: Mapping[str, Table]) -> str:
    sizes, saving = tables["refining"], tables["refining_saving"]

    def size(key: str, tier: str) -> str:
        return sizes.text(key, corpus=corpus, kept=_KEPT[tier])

    sentences = [
        f"On {corpus}, the factor of {size('factor', AS_STORED)} as stored becomes"
        f" {size('factor', _COLD)} with {_COLD} ({size('members_share', _COLD)} of the stored pages"
        f" are in groups) and {size('factor', _REST)} with {_REST}"
        f" ({size('members_share', _REST)}), at {size('rate', _COLD)} and {size('rate', _REST)}"
        " pages/s."
    ]
    reads = tables.get("refining_reads")
    if reads and reads.select(corpus=corpus):
        sentences.append(_read_finding(corpus, reads))
    if saving.value("stream", corpus=corpus):
        sentences.append(
            f"The densest stream ({saving.text('stream', corpus=corpus)}) reaches"
            f" {saving.text('stream_factor', corpus=corpus)}."
        )
    return " ".join(sentences)


def _read_finding(corpus: str, reads: Table) -> str:
    def text(key: str, tier: str) -> str:
        return reads.text(key, corpus=corpus, kept=_KEPT[tier])

    within = listed([text("p99", tier) for tier in _KEPT])
    told = f"99 of 100 pages by chance are read within {within} us"
    if all(
        reads.value("decoded", corpus=corpus, kept=_KEPT[tier]) is not None
        for tier in (_COLD, _REST)
    ):
        told += (
            f"; in order, {text('decoded', _COLD)} and {text('decoded', _REST)} pages are decoded"
            " for each in a group"
        )
    return f"{told}."
