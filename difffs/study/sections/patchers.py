"""2. Which patcher makes the smallest patches, at which cost, alone and in the product."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES, Recipe
from difffs.study import patching, variants
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.importing import import_pass
from difffs.study.patchers import PATCHERS
from difffs.study.peers.host import tool_obstacle, version_of
from difffs.study.result import Cell, Column, Plot, PlotKind, Row, Section, Table, Unit
from difffs.study.wording import agreed, capitalised, corpora_of, listed, number, span

NUMBER = 2
NAME = "patchers"
TITLE = "Patching algorithms"

_MEASURE = "zstd 1"
"""What the others are compared with: the patcher of default."""
_OURS = "page bsdiff"
_GOAL_TIMES = 5
"""The page bsdiff may take so many times as long to encode as _MEASURE, for no more bytes."""
_TOOL_PAIRS_OF_SAMPLE = 3
"""One in so many pairs of the sample is given to the xdelta3 tool: a process each takes longer."""

_BASE_ID_BYTES = 4
_QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
_SMALL = {"below_64": 64, "below_256": 256, "below_1024": 1024}
_CURVE_STEP = 128
_CURVES = (
    *("zstd 1", "zstd 19", "lz4", "VCDIFF", "page bsdiff", "XBZRLE", "XBZRLE + zstd 1"),
    *("XOR + zstd 1", "bsdiff4"),
)
"""Patchers whose sizes are drawn: other levels of zstd would lie between."""

_CASES = {"identical + patch": "patch-only", "all": "default"}
"""Case -> the recipe that has each patcher put in."""


def pair_results(context: Context) -> dict[str, Result]:
    """Return what patch_pass() tells of each corpus."""
    return context.each_corpus(
        "patch pairs",
        patching.PATCH_PASS_VERSION,
        patching.patch_pass,
        timed=True,
        pairs=context.sample,
        seed=context.seed,
    )


def run(context: Context) -> Section:
    """Patch real pairs with every patcher, and import every corpus with those of the product."""
    recipes = {
        (case, patcher): variants.with_patcher(RECIPES[name], patcher)
        for case, name in _CASES.items()
        for patcher in variants.PATCHERS
    }
    passes = [
        import_pass(corpus.images, recipe)
        for corpus in context.corpora
        for recipe in recipes.values()
    ]
    results = iter(context.results(passes))
    imports = {corpus.name: {key: next(results) for key in recipes} for corpus in context.corpora}
    pairs = pair_results(context)
    absent = []
    tables = [_patcher_table(pairs), _size_table(pairs), _goal_table(pairs)]
    obstacle = tool_obstacle(patching.TOOL, "xdelta3")
    if obstacle:
        absent.append(f"sizes of the xdelta3 tool: {obstacle}")
    else:
        version = version_of(patching.TOOL, "-V").partition(",")[0]
        compared = context.each_corpus(
            "xdelta3 pairs",
            patching.TOOL_PASS_VERSION,
            patching.tool_pass,
            pairs=max(1, context.sample // _TOOL_PAIRS_OF_SAMPLE),
            seed=context.seed,
            tool=version,
        )
        tables.append(_tool_table(compared, version))
    tables += [_case_table(imports, recipes), _curve_table(pairs)]
    by_name = {table.name: table for table in tables}
    findings = [_finding(corpus.name, by_name) for corpus in context.corpora]
    return Section(
        NUMBER, NAME, TITLE, tables, _plots(), _conclusion(by_name), findings, absent=absent
    )


# ---------------------------------------------------------------------------------------- tables


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers)


def _quantile(ascending: Sequence[float], share: float) -> float:
    """The least number that this share of all does not exceed."""
    return ascending[math.ceil(share * len(ascending)) - 1]


def _taken(lengths: Sequence[int], alone: Sequence[int]) -> float:
    """The share of patches that the router of default would take."""
    ratio = RECIPES["default"].patch_ratio
    taken = sum(
        (_BASE_ID_BYTES + length) * 256 < size * ratio
        for length, size in zip(lengths, alone, strict=True)
    )
    return taken / len(lengths)


def _patcher_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        for patcher, measured in result["patchers"].items():
            lengths = measured["lengths"]
            of_measure = result["patchers"][_MEASURE]
            rows.append(
                {
                    "corpus": corpus,
                    "patcher": patcher,
                    "pairs": result["pairs"],
                    "mean": _mean(lengths),
                    "to_measure": _mean(lengths) / _mean(of_measure["lengths"]),
                    "taken": _taken(lengths, result["alone"]),
                    "encode_us": measured["encode_us"],
                    "decode_us": measured["decode_us"],
                    "encoder_bytes": measured["encoder_bytes"],
                    "decoder_bytes": measured["decoder_bytes"],
                }
            )
        if result["pairs"]:
            rows.append(
                {
                    "corpus": corpus,
                    "patcher": "no patch: the page by zstd 1",
                    "pairs": result["pairs"],
                    "mean": _mean(result["alone"]),
                    "to_measure": _mean(result["alone"]) / _mean(of_measure["lengths"]),
                    **dict.fromkeys(
                        ("taken", "encode_us", "decode_us", "encoder_bytes", "decoder_bytes")
                    ),
                }
            )
    return Table(
        "patchers",
        "Patches of the same real pairs: bytes, time and memory",
        [
            Column("corpus", "corpus"),
            Column("patcher", "patcher"),
            Column("pairs", "pairs", Unit.COUNT),
            Column("mean", "bytes a patch", Unit.MEAN_BYTES),
            Column("to_measure", f"by {_MEASURE}'s", Unit.FACTOR),
            Column("taken", "patches taken", Unit.SHARE),
            Column("encode_us", "encode us", Unit.MICROSECONDS),
            Column("decode_us", "decode us", Unit.MICROSECONDS),
            Column("encoder_bytes", "encoder's memory", Unit.BYTES),
            Column("decoder_bytes", "decoder's memory", Unit.BYTES),
        ],
        rows,
        "Pairs that the product's sketch proposes while it imports the corpus with patch-only, a"
        " sample of all. zstd and lz4 have the base as prefix; XBZRLE is QEMU's; VCDIFF is RFC 3284"
        " without what is the same in every patch; XOR + zstd 1 compresses page xor base; bsdiff4"
        f" is the Python package. A patch longer than the page's {PAGE_SIZE:,} bytes counts as the"
        " page. The 4 bytes of the base's number, which all patches have, are left out, but"
        " not where it is judged whether default would take a patch: when it is clearly smaller"
        " than the page by zstd 1. Every patch was decoded and compared. Time is processor time of"
        f" one thread, the fastest of {patching.ROUNDS} rounds over all pairs (one where a round"
        " takes a second);"
        " native code gets all pairs in one call, bsdiff4 a call each, of which Python takes about"
        " a microsecond. Memory is what coder and decoder keep beside page, base and patch, as"
        " they tell themselves: contexts, tables, work space; no stack. Of bsdiff4 it is the peak"
        " that Python's allocator saw; its decompressor allocates elsewhere.",
    )


def _size_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        for patcher, measured in result["patchers"].items():
            ascending = sorted(measured["lengths"])
            count = len(ascending)
            rows.append(
                {
                    "corpus": corpus,
                    "patcher": patcher,
                    **{key: _quantile(ascending, share) for key, share in _QUANTILES.items()},
                    **{
                        key: sum(length < limit for length in ascending) / count
                        for key, limit in _SMALL.items()
                    },
                    "none": sum(length == PAGE_SIZE for length in ascending) / count,
                }
            )
    return Table(
        "patch_sizes",
        "How the sizes of patches are distributed",
        [
            Column("corpus", "corpus"),
            Column("patcher", "patcher"),
            *(Column(key, key, Unit.BYTES) for key in _QUANTILES),
            *(Column(key, f"below {limit:,}", Unit.SHARE) for key, limit in _SMALL.items()),
            Column("none", "no patch", Unit.SHARE),
        ],
        rows,
        "p5: bytes that 5 % of the patches do not exceed, and so on to p95; then the share of"
        " patches of fewer bytes. No patch: it would not be smaller than the page.",
    )


def _goal_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        if not result["pairs"]:
            continue
        ours, theirs = result["patchers"][_OURS], result["patchers"][_MEASURE]
        by_pair = zip(ours["lengths"], theirs["lengths"], strict=True)
        row: dict[str, Cell] = {
            "corpus": corpus,
            "ours": _mean(ours["lengths"]),
            "theirs": _mean(theirs["lengths"]),
            "bytes": _mean(ours["lengths"]) / _mean(theirs["lengths"]),
            "no_larger": sum(a <= b for a, b in by_pair) / result["pairs"],
            "time": ours["encode_us"] / theirs["encode_us"],
            "decode_time": ours["decode_us"] / theirs["decode_us"]
            if ours["decode_us"] and theirs["decode_us"]
            else None,
        }
        rows.append({**row, "goal": _goal(row)})
    return Table(
        "page_bsdiff_goal",
        f"The page bsdiff against its goal: no more bytes than {_MEASURE}, at no more than"
        f" {_GOAL_TIMES} times its encoding time",
        [
            Column("corpus", "corpus"),
            Column("ours", f"bytes of {_OURS}", Unit.MEAN_BYTES),
            Column("theirs", f"bytes of {_MEASURE}", Unit.MEAN_BYTES),
            Column("bytes", "bytes, times", Unit.FACTOR),
            Column("no_larger", "pairs no larger", Unit.SHARE),
            Column("time", "encoding time, times", Unit.FACTOR),
            Column("decode_time", "decoding time, times", Unit.FACTOR),
            Column("goal", "goal"),
        ],
        rows,
        "From the first table. Decoding time is no part of the goal.",
    )


def _goal(row: Mapping[str, Cell]) -> str:
    missed = [
        name
        for name, is_missed in (
            ("bytes", number(row["bytes"]) > 1),
            ("time", number(row["time"]) > _GOAL_TIMES),
        )
        if is_missed
    ]
    return f"missed in {' and '.join(missed)}" if missed else "reached"


def _tool_table(compared: Mapping[str, Result], version: str) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in compared.items():
        streams = result["streams"]
        for level, theirs in result["tool"].items():
            if not streams:
                continue
            ratios = sorted(a / b for a, b in zip(streams, theirs, strict=True))
            rows.append(
                {
                    "corpus": corpus,
                    "level": level,
                    "pairs": len(streams),
                    "decoded": result["decoded"] / len(streams),
                    "patch": _mean(result["patches"]),
                    "stream": _mean(streams),
                    "tool": _mean(theirs),
                    "ratio": sum(streams) / sum(theirs),
                    **{key: _quantile(ratios, _QUANTILES[key]) for key in ("p5", "p50", "p95")},
                }
            )
    return Table(
        "patch_tool",
        "VCDIFF: our patches beside those of the xdelta3 tool",
        [
            Column("corpus", "corpus"),
            Column("level", "level of the tool"),
            Column("pairs", "pairs", Unit.COUNT),
            Column("decoded", "ours decoded by the tool", Unit.SHARE),
            Column("patch", "our patch", Unit.MEAN_BYTES),
            Column("stream", "our stream", Unit.MEAN_BYTES),
            Column("tool", "the tool's", Unit.MEAN_BYTES),
            Column("ratio", "ours / tool's", Unit.FACTOR),
            *(Column(key, key, Unit.FACTOR) for key in ("p5", "p50", "p95")),
        ],
        rows,
        f"{version}, without secondary compression, checksum and application header (-S none -n"
        " -A). Streams are compared: our patch with the header and the window's fields put in"
        " front that RFC 3284 wants and that say the same for every pair of pages. Ours index"
        " every position of the base, the tool a selection by level. p5, p50, p95: ours / tool's"
        " that so many per cent of the pairs do not exceed. Pairs without a patch of ours are left"
        " out.",
    )


def _case_table(
    imports: Mapping[str, Mapping[tuple[str, str], Result]],
    recipes: Mapping[tuple[str, str], Recipe],
) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in imports.items():
        for (case, patcher), result in results.items():
            assert recipes[case, patcher].patch_codec is not Codec.NONE
            sizes, patched = result["bytes"], result["routes"]["patch"]
            rows.append(
                {
                    "corpus": corpus,
                    "case": case,
                    "patcher": patcher,
                    "factor": result["factor"],
                    "to_measure": sizes["stored"] / results[case, _MEASURE]["bytes"]["stored"],
                    "stored": sizes["stored"],
                    "payload": sizes["payload"],
                    "metadata": sizes["metadata"],
                    "slack": sizes["slack"],
                    "patched": patched["bytes_in"] / max(1, sizes["logical"]),
                    "patch": patched["bytes_out"] / patched["count"] if patched["count"] else None,
                }
            )
    return Table(
        "patch_cases",
        "The patchers in the product's engine, everything counted",
        [
            Column("corpus", "corpus"),
            Column("case", "case"),
            Column("patcher", "patcher"),
            Column("factor", "factor", Unit.FACTOR),
            Column("to_measure", f"stored by {_MEASURE}'s", Unit.FACTOR),
            Column("stored", "stored MiB", Unit.MEBIBYTES),
            Column("payload", "payloads MiB", Unit.MEBIBYTES),
            Column("metadata", "metadata MiB", Unit.MEBIBYTES),
            Column("slack", "slack MiB", Unit.MEBIBYTES),
            Column("patched", "patched pages", Unit.SHARE),
            Column("patch", "bytes a patch", Unit.MEAN_BYTES),
        ],
        rows,
        "Imports of the whole corpus into a new store. Identical + patch is the recipe patch-only:"
        " what is neither shared nor patched stays raw. All is default: the rest by zstd 1 with a"
        " dictionary. Only patches that are taken count, with their base's number, so that a worse"
        " patcher has fewer of them. Patchers that are no codec of the product, and zstd 19 for"
        " its time, are not here.",
    )


def _curve_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        for patcher in _CURVES if result["pairs"] else ():
            lengths = result["patchers"][patcher]["lengths"]
            rows += [
                {
                    "corpus": corpus,
                    "patcher": patcher,
                    "bytes": limit,
                    "share": sum(length <= limit for length in lengths) / len(lengths),
                }
                for limit in range(0, PAGE_SIZE + 1, _CURVE_STEP)
            ]
    return Table(
        "patch_curves",
        "Share of patches of at most so many bytes",
        [
            Column("corpus", "corpus"),
            Column("patcher", "patcher"),
            Column("bytes", "bytes of a patch", Unit.BYTES),
            Column("share", "patches of at most that", Unit.SHARE),
        ],
        rows,
        detail=True,
    )


def _plots() -> list[Plot]:
    return [
        Plot(
            "patchers",
            "Bytes a patch against the time to encode it",
            PlotKind.POINTS,
            "patchers",
            x="encode_us",
            y="mean",
            series="patcher",
            panel="corpus",
            logarithmic=True,
        ),
        Plot(
            "patch_curves",
            "How many patches are how small",
            PlotKind.LINES,
            "patch_curves",
            x="bytes",
            y="share",
            series="patcher",
            panel="corpus",
        ),
        Plot(
            "patch_cases",
            "Factor by patcher, with the rest raw and with all combined",
            PlotKind.BARS,
            "patch_cases",
            x="patcher",
            y="factor",
            series="case",
            panel="corpus",
        ),
    ]


# ------------------------------------------------------------------------------------ conclusion


def _conclusion(tables: Mapping[str, Table]) -> str:
    table, cases = tables["patchers"], tables["patch_cases"]
    corpora = corpora_of(tables["page_bsdiff_goal"])
    if not corpora:
        return (
            "These images have no pages that are similar enough to be patched, so that no patcher"
            " serves better than another: in the product, with all combined, they all reach a"
            f" factor of {span(cases, 'factor', cases.select(case='all'))}."
        )
    smallest = {corpus: _first(table, "mean", corpus) for corpus in corpora}
    fastest = {corpus: _first(table, "encode_us", corpus) for corpus in corpora}
    best = {corpus: _extreme_cases(cases, corpus)[0] for corpus in corpora}
    worst = {corpus: _extreme_cases(cases, corpus)[1] for corpus in corpora}
    measure = table.select(patcher=_MEASURE)
    least = _chosen(table, smallest)
    if smallest == fastest:
        sentences = [
            f"One patcher serves best, the smallest and the fastest at once: {agreed(smallest)},"
            f" {span(table, 'mean', least)} bytes a patch in {span(table, 'encode_us', least)} us."
        ]
    else:
        quickest = _chosen(table, fastest)
        sentences = [
            "Which patcher serves best depends on what counts. The smallest patches are those of"
            f" {agreed(_named(smallest))}, {span(table, 'mean', least)} bytes in"
            f" {span(table, 'encode_us', least)} us; the fastest to encode is"
            f" {agreed(_named(fastest))}, {span(table, 'mean', quickest)} bytes in"
            f" {span(table, 'encode_us', quickest)} us."
        ]
    sentences.append(
        f"{_MEASURE}, the patcher of default, takes {span(table, 'mean', measure)} bytes and"
        f" {span(table, 'encode_us', measure)} us, and {_about_measure(table, corpora)}."
    )
    factors = [
        f"{span(cases, 'factor', _chosen_cases(cases, of))} with {agreed(_named(of))} ({rank})"
        for of, rank in ((best, "best"), (worst, "worst"))
    ]
    if _MEASURE not in {*best.values(), *worst.values()}:
        usual = cases.select(case="all", patcher=_MEASURE)
        factors.insert(1, f"{span(cases, 'factor', usual)} with {_MEASURE}")
    sentences.append(f"In the product, with all combined, the factor is {listed(factors)}.")
    return " ".join(sentences)


def _about_measure(table: Table, corpora: Sequence[str]) -> str:
    """Which patchers are better than the measure in both, on some of the corpora at least."""
    better = {
        corpus: listed([p for p in PATCHERS if _beats(table, corpus, p, _MEASURE)])
        for corpus in corpora
    }
    if not any(better.values()):
        return "no other is both smaller and faster"
    found = {corpus: names or "none" for corpus, names in better.items()}
    return f"both smaller and faster: {agreed(found)}"


def _beats(table: Table, corpus: str, one: str, other: str) -> bool:
    """Whether a patcher is both smaller and faster than the other."""
    return all(
        number(table.value(key, corpus=corpus, patcher=one))
        < number(table.value(key, corpus=corpus, patcher=other))
        for key in ("mean", "encode_us")
    )


def _first(table: Table, key: str, corpus: str) -> str:
    """The patcher with the least of these cells."""
    return min(
        PATCHERS,
        key=lambda patcher: number(table.value(key, corpus=corpus, patcher=patcher)),
    )


def _chosen(table: Table, patcher_of: Mapping[str, str]) -> list[Row]:
    """The rows of one patcher for each corpus."""
    return [
        row
        for corpus, patcher in patcher_of.items()
        for row in table.select(corpus=corpus, patcher=patcher)
    ]


def _chosen_cases(cases: Table, patcher_of: Mapping[str, str]) -> list[Row]:
    return [row for row in _chosen(cases, patcher_of) if row["case"] == "all"]


def _extreme_cases(cases: Table, corpus: str) -> tuple[str, str]:
    """The patchers with which the engine reaches the largest and the smallest factor."""
    ranked = sorted(cases.select(corpus=corpus, case="all"), key=lambda row: -number(row["factor"]))
    return str(ranked[0]["patcher"]), str(ranked[-1]["patcher"])


def _named(patcher_of: Mapping[str, str]) -> dict[str, str]:
    """How patchers read in a sentence."""
    return {c: "the page bsdiff" if name == _OURS else name for c, name in patcher_of.items()}


def _finding(corpus: str, tables: Mapping[str, Table]) -> str:
    sentences = []
    if tables["page_bsdiff_goal"].select(corpus=corpus):
        sentences += _about_goal(corpus, tables["page_bsdiff_goal"])
        worse = [p for p in PATCHERS if _beats(tables["patchers"], corpus, _MEASURE, p)]
        if worse:
            verb = "is" if len(worse) == 1 else "are"
            sentences.append(f"{listed(worse)} {verb} larger and slower than {_MEASURE}.")
    if "patch_tool" in tables and tables["patch_tool"].select(corpus=corpus):
        sentences.append(_about_tool(corpus, tables["patch_tool"]))
    if not sentences:
        cases = tables["patch_cases"].select(corpus=corpus, case="all")
        factor = span(tables["patch_cases"], "factor", cases)
        sentences.append(f"no pages are similar, and the factor is {factor} with every patcher.")
    return f"On {corpus}, {' '.join([sentences[0], *map(capitalised, sentences[1:])])}"


def _about_goal(corpus: str, table: Table) -> list[str]:
    def text(key: str) -> str:
        return table.text(key, corpus=corpus)

    return [
        f"the page bsdiff makes {text('bytes')} times the bytes of {_MEASURE} in {text('time')}"
        f" times its encoding time and {text('decode_time')} times its decoding time: its goal is"
        f" {text('goal')}."
    ]


def _about_tool(corpus: str, table: Table) -> str:
    levels = list(patching.TOOL_LEVELS)
    ratios = [table.text("ratio", corpus=corpus, level=level) for level in levels]
    decoded = number(table.value("decoded", corpus=corpus))
    decodes = (
        "decodes all of our VCDIFF streams"
        if decoded == 1
        else f"decodes only {table.text('decoded', corpus=corpus)} of our VCDIFF streams"
    )
    return (
        f"the xdelta3 tool {decodes}, which have {ratios[0]} times the bytes of its own"
        f" ({ratios[1]} at level {levels[1].lstrip('-')})."
    )
