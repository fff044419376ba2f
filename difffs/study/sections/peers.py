"""7. Peers on the same pages, really run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study.cache import Result
from difffs.study.context import Context, Failure
from difffs.study.importing import timed_imports
from difffs.study.passes import Pass
from difffs.study.peers import btrfs, ksm, squashfs, whole_archive, zram, zswap
from difffs.study.peers.peer import Found, Peer
from difffs.study.result import Cell, Column, Plot, PlotKind, Row, Section, Table, Unit
from difffs.study.wording import capitalised, corpora_of, listed, number, span, where

NUMBER = 7
NAME = "peers"
TITLE = "Peers on the same pages, really run"

FINDERS: tuple[Callable[[], Found], ...] = (
    ksm.find,
    zram.find,
    zswap.find,
    btrfs.find,
    squashfs.find,
    whole_archive.find,
)
"""In the order of the table."""

_OURS = "difffs"
RECIPES_BESIDE = ("default", "fast", "dense", "difference-engine", "identical-only")
"""The recipes that stand beside the peers."""
JUDGED = ("default", "dense")
"""Those of them that are compared with the best of each class."""
_MEMORY, _FILES, _STREAM = "memory", "files", "one stream"
_CLASSES = {
    _MEMORY: "the kernel's stores in memory",
    _FILES: "the file systems that compress",
    _STREAM: "the streams without random access",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One way to keep a corpus, measured."""

    corpus: str
    name: str
    kind: str
    """`difffs`, or a key of _CLASSES."""
    peer: Peer | None
    result: Result
    stored: int
    logical: int
    read: str
    write: str
    place: str

    @property
    def factor(self) -> float:
        return self.logical / max(1, self.stored)


def run(context: Context) -> Section:
    """Give every corpus to every peer that this host can run, and to difffs."""
    entries = _ours(context)
    found = [find() for find in FINDERS]
    absent = list(chain.from_iterable(one.absent for one in found))
    peers = list(chain.from_iterable(one.peers for one in found))
    chosen = [(corpus, peer) for corpus in context.corpora for peer in peers]
    passes = [
        Pass(peer.kind, peer.version, peer.function, corpus.images, peer.parameters, timed=True)
        for corpus, peer in chosen
    ]
    for (corpus, peer), result in zip(chosen, context.attempts("peers", passes), strict=True):
        if isinstance(result, Failure):
            absent.append(f"{peer.name} on {corpus.name}: {result.reason}")
        else:
            entries.append(
                _Entry(
                    corpus.name,
                    peer.name,
                    class_of(peer),
                    peer,
                    result,
                    int(result["stored"]),
                    corpus.bytes,
                    peer.read,
                    peer.write,
                    peer.place,
                )
            )
    order = [corpus.name for corpus in context.corpora]
    entries.sort(key=lambda entry: order.index(entry.corpus))
    verdict = _verdict_table(entries)
    figures = [_figure_table(each, entries) for each in _FIGURES]
    tables = [table for table in (_peer_table(entries), verdict, *figures) if table.rows]
    findings = _findings(order, verdict)
    return Section(NUMBER, NAME, TITLE, tables, _plots(), _conclusion(verdict), findings, absent)


def class_of(peer: Peer) -> str:
    """Which of the three classes a peer is compared in."""
    if peer.place == "memory":
        return _MEMORY
    return _STREAM if peer.read.startswith("all") else _FILES


def _ours(context: Context) -> list[_Entry]:
    entries = []
    for name in RECIPES_BESIDE:
        recipe = RECIPES[name]
        patched = recipe.sketch and recipe.patch_codec
        for corpus, result in timed_imports(context, recipe).items():
            entries.append(
                _Entry(
                    corpus,
                    f"{_OURS} {name}",
                    _OURS,
                    None,
                    result,
                    int(result["bytes"]["stored"]),
                    int(result["bytes"]["logical"]),
                    "a page and its base" if patched else "a page",
                    "a page",
                    "file",
                )
            )
    return entries


def _peer_table(entries: Sequence[_Entry]) -> Table:
    return Table(
        "peers",
        "difffs and its peers",
        [
            Column("corpus", "corpus"),
            Column("peer", "kept by"),
            Column("factor", "factor", Unit.FACTOR),
            Column("stored", "stored MiB", Unit.MEBIBYTES),
            Column("read", "decoded to read a page"),
            Column("write", "written to change one"),
            Column("place", "kept in"),
            Column("seconds", "seconds", Unit.SECONDS),
        ],
        [
            {
                "corpus": entry.corpus,
                "peer": entry.name,
                "factor": entry.factor,
                "stored": entry.stored,
                "read": entry.read,
                "write": entry.write,
                "place": entry.place,
                "seconds": entry.result["seconds"],
            }
            for entry in entries
        ],
        "All images of a corpus given to each, one after the other, nothing else beside it. Stored"
        " is what each tells that it occupies: difffs all blocks of its store, index included;"
        " zram mem_used_total, without its table of pages; zswap its pool and what came to the"
        " device; KSM what its profit leaves, with its own data about each page; file systems and"
        " archives the bytes of their files. Where all has to be written, it is read-only."
        " What KSM and zswap keep varies a"
        " little from run to run. Seconds are those until"
        " all is in: durable in files, for KSM until scans find nothing more.",
    )


def _verdict_table(entries: Sequence[_Entry]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus in dict.fromkeys(entry.corpus for entry in entries):
        here = [entry for entry in entries if entry.corpus == corpus]
        ours = {entry.name: entry for entry in here if entry.kind == _OURS}
        for kind, title in _CLASSES.items():
            peers = [entry for entry in here if entry.kind == kind]
            for name in JUDGED if peers else ():
                peer = max(peers, key=lambda entry: entry.factor)
                own = ours[f"{_OURS} {name}"]
                rows.append(
                    {
                        "corpus": corpus,
                        "class": title,
                        "peer": peer.name,
                        "factor": peer.factor,
                        "seconds": peer.result["seconds"],
                        "recipe": own.name,
                        "own_factor": own.factor,
                        "own_seconds": own.result["seconds"],
                        "over": own.factor / peer.factor,
                    }
                )
    return Table(
        "peer_classes",
        "Where difffs stands against the best of each class",
        [
            Column("corpus", "corpus"),
            Column("class", "class"),
            Column("peer", "its best"),
            Column("factor", "factor", Unit.FACTOR),
            Column("seconds", "seconds", Unit.SECONDS),
            Column("recipe", "difffs"),
            Column("own_factor", "factor", Unit.FACTOR),
            Column("own_seconds", "seconds", Unit.SECONDS),
            Column("over", "difffs / peer", Unit.FACTOR),
        ],
        rows,
        "The first two classes read and, unless read-only, change single pages or small blocks, as"
        " difffs does; the last has to be decoded from its beginning, and bounds what can be had.",
    )


@dataclass(frozen=True, slots=True)
class _Figures:
    """Figures that one kind of peer has and the others have not."""

    kind: str
    title: str
    columns: Sequence[Column]
    note: str


_FIGURES = (
    _Figures(
        "ksm",
        "KSM's figures",
        [
            Column("pages_shared", "pages_shared", Unit.COUNT),
            Column("pages_sharing", "pages_sharing", Unit.COUNT),
            Column("pages_unshared", "pages_unshared", Unit.COUNT),
            Column("ksm_zero_pages", "ksm_zero_pages", Unit.COUNT),
            Column("profit", "general_profit MiB", Unit.MEBIBYTES),
            Column("own_data", "its own data MiB", Unit.MEBIBYTES),
        ],
        "One page of pages_shared stands for all of pages_sharing that are the same; zero pages are"
        " the kernel's one. The profit is what was merged away less KSM's own data.",
    ),
    _Figures(
        "zram",
        "zram's mm_stat",
        [
            Column("orig_data_size", "orig_data_size MiB", Unit.MEBIBYTES),
            Column("compr_data_size", "compr_data_size MiB", Unit.MEBIBYTES),
            Column("mem_used_total", "mem_used_total MiB", Unit.MEBIBYTES),
            Column("fragmentation", "lost to the allocator", Unit.SHARE),
            Column("same_pages", "same_pages", Unit.COUNT),
            Column("huge_pages", "huge_pages", Unit.COUNT),
        ],
        "Same pages repeat one word and take nothing; huge ones are kept as they are.",
    ),
    _Figures(
        "zswap",
        "zswap's figures",
        [
            Column("pool", "pool MiB", Unit.MEBIBYTES),
            Column("on_device", "on the swap device MiB", Unit.MEBIBYTES),
            Column("resident", "not swapped MiB", Unit.MEBIBYTES),
        ],
        "What does not compress goes to the device; what the kernel would not swap stays.",
    ),
    _Figures(
        "btrfs",
        "btrfs' allocation",
        [
            Column("data", "data MiB", Unit.MEBIBYTES),
            Column("metadata", "metadata MiB", Unit.MEBIBYTES),
            Column("system", "system MiB", Unit.MEBIBYTES),
        ],
        "What the images added to each kind of its block groups.",
    ),
)


def _figure_table(figures: _Figures, entries: Sequence[_Entry]) -> Table:
    rows: list[dict[str, Cell]] = []
    for entry in entries:
        if entry.peer is not None and entry.peer.kind == figures.kind:
            found = {**entry.result, **_derived(figures.kind, entry.result)}
            rows.append(
                {
                    "corpus": entry.corpus,
                    "peer": entry.name,
                    **{column.key: found[column.key] for column in figures.columns},
                }
            )
    return Table(
        f"{figures.kind}_figures",
        figures.title,
        [Column("corpus", "corpus"), Column("peer", "peer"), *figures.columns],
        rows,
        figures.note,
    )


def _derived(kind: str, result: Mapping[str, float]) -> Mapping[str, float]:
    """What follows from a peer's own figures."""
    if kind == "ksm":
        merged = (result["pages_sharing"] + result["ksm_zero_pages"]) * PAGE_SIZE
        return {"own_data": merged - result["profit"]}
    if kind == "zram":
        used = result["mem_used_total"]
        return {"fragmentation": 1 - result["compr_data_size"] / used if used else 0.0}
    return {}


def _plots() -> list[Plot]:
    return [
        Plot(
            "peers",
            "difffs and its peers: logical by stored bytes",
            PlotKind.BARS,
            "peers",
            x="peer",
            y="factor",
            panel="corpus",
        )
    ]


def _conclusion(verdict: Table) -> str:
    if not verdict.rows:
        return "None of the peers could be run on this host."
    reached: list[str] = []
    for recipe in dict.fromkeys(str(row["recipe"]) for row in verdict.rows):
        rows = verdict.select(recipe=recipe)
        of = f"{recipe} " if reached else f"{recipe} reaches a factor of "
        factor, seconds = (span(verdict, key, rows) for key in ("own_factor", "own_seconds"))
        reached.append(f"{of}{factor} in {seconds} s")
    classes = [
        title for title in _CLASSES.values() if any(row["class"] == title for row in verdict.rows)
    ]
    against = [_about_class(verdict, title) for title in classes]
    return f"{listed(reached)}. {capitalised('; '.join(against))}."


def _about_class(verdict: Table, title: str) -> str:
    """The recipes against the best peer of a class; what holds for all of them is said once."""
    times: list[str] = []
    stands = []
    rows = [row for row in verdict.rows if row["class"] == title]
    for recipe in dict.fromkeys(str(row["recipe"]) for row in rows):
        of_recipe = [row for row in rows if row["recipe"] == recipe]
        corpora = [str(row["corpus"]) for row in of_recipe]
        ahead = [str(row["corpus"]) for row in of_recipe if number(row["over"]) > 1]
        short, over = recipe.removeprefix(f"{_OURS} "), span(verdict, "over", of_recipe)
        times.append(f"{short} {over} times" if times else f"{short} has {over} times the factor")
        stands.append(f"ahead{where(ahead, corpora)}" if ahead else "not ahead")
    if len(set(stands)) == 1:
        told = f"{listed(times)}: {stands[0]}"
    else:
        told = listed([f"{of} ({stand})" for of, stand in zip(times, stands, strict=True)])
    return f"against the best of {title}, {told}"


def _findings(corpora: Sequence[str], verdict: Table) -> list[str]:
    if not verdict.rows:
        return []
    there = corpora_of(verdict)
    return [
        _finding(corpus, verdict)
        if corpus in there
        else f"On {corpus}, none of the peers could be run."
        for corpus in corpora
    ]


def _finding(corpus: str, verdict: Table) -> str:
    """The best of each class, and what difffs makes of the same images."""

    def text(key: str, row: Row) -> str:
        return verdict.text(key, corpus=corpus, recipe=row["recipe"], **{"class": row["class"]})

    every = verdict.select(corpus=corpus)
    ours = [
        f"{row['recipe']} reaches a factor of {text('own_factor', row)} in"
        f" {text('own_seconds', row)} s"
        for row in every
        if row["class"] == every[0]["class"]
    ]
    best = [
        f"of {row['class']} it is {row['peer']} ({text('factor', row)} in {text('seconds', row)} s)"
        for row in every
        if row["recipe"] == every[0]["recipe"]
    ]
    best[0] = best[0].replace(" it is ", " the best is ", 1)
    return f"On {corpus}, {listed(ours)}; {'; '.join(best)}."
