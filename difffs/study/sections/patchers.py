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
from difffs.study.peers.host import tool_obstacle, version_of
from difffs.study.result import Cell, Column, Plot, PlotKind, Section, Table, Unit

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
    pairs = context.each_corpus(
        "patch pairs",
        patching.PATCH_PASS_VERSION,
        patching.patch_pass,
        timed=True,
        pairs=context.sample,
        seed=context.seed,
    )
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
    conclusion = " ".join(_about_corpus(corpus.name, by_name) for corpus in context.corpora)
    return Section(NUMBER, NAME, TITLE, tables, _plots(), conclusion, absent)


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
        " one thread, the fastest of 5 rounds over all pairs (one where a round takes a second);"
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
            "decode_time": ours["decode_us"] / theirs["decode_us"],
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
            ("bytes", _number(row["bytes"]) > 1),
            ("time", _number(row["time"]) > _GOAL_TIMES),
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


def _about_corpus(corpus: str, tables: Mapping[str, Table]) -> str:
    sentences = []
    if any(row["corpus"] == corpus for row in tables["page_bsdiff_goal"].rows):
        sentences += _about_pairs(corpus, tables["patchers"])
        sentences += _about_goal(corpus, tables["page_bsdiff_goal"])
    if "patch_tool" in tables and any(row["corpus"] == corpus for row in tables["patch_tool"].rows):
        sentences.append(_about_tool(corpus, tables["patch_tool"]))
    sentences += _about_cases(corpus, tables["patch_cases"])
    text = " ".join(sentences)
    return f"On {corpus}: {text[0].lower()}{text[1:]}"


def _about_pairs(corpus: str, table: Table) -> list[str]:
    def text(key: str, patcher: str) -> str:
        return table.text(key, corpus=corpus, patcher=patcher)

    def value(key: str, patcher: str) -> float:
        return _number(table.value(key, corpus=corpus, patcher=patcher))

    smallest = min(patching.PATCHERS, key=lambda patcher: value("mean", patcher))
    fastest = min(patching.PATCHERS, key=lambda patcher: value("encode_us", patcher))
    sentences = [
        f"{_MEASURE} with the base as prefix needs {text('mean', _MEASURE)} bytes a patch and"
        f" {text('encode_us', _MEASURE)} us to encode it."
    ]
    if smallest != _MEASURE:
        sentences.append(
            f"{_beginning(smallest)} makes the smallest patches, {text('mean', smallest)} bytes in"
            f" {text('encode_us', smallest)} us."
        )
    if fastest not in (_MEASURE, smallest):
        sentences.append(
            f"{_beginning(fastest)} is the fastest at {text('encode_us', fastest)} us, with"
            f" {text('mean', fastest)} bytes."
        )
    both = [
        patcher
        for patcher in patching.PATCHERS
        if value("mean", patcher) > value("mean", _MEASURE)
        and value("encode_us", patcher) > value("encode_us", _MEASURE)
    ]
    if both:
        verb = "is" if len(both) == 1 else "are"
        sentences.append(f"{_listed(both)} {verb} both larger and slower than {_MEASURE}.")
    return sentences


def _about_goal(corpus: str, table: Table) -> list[str]:
    def text(key: str) -> str:
        return table.text(key, corpus=corpus)

    return [
        f"The page bsdiff makes {text('bytes')} times the bytes of {_MEASURE} in {text('time')}"
        f" times its encoding time: its goal is {text('goal')}. Its decoding takes"
        f" {text('decode_time')} times as long."
    ]


def _about_tool(corpus: str, table: Table) -> str:
    levels = list(patching.TOOL_LEVELS)
    ratios = [table.text("ratio", corpus=corpus, level=level) for level in levels]
    decoded = _number(table.value("decoded", corpus=corpus))
    decodes = (
        "decodes all of our VCDIFF streams"
        if decoded == 1
        else f"decodes only {table.text('decoded', corpus=corpus)} of our VCDIFF streams"
    )
    return (
        f"The xdelta3 tool {decodes}; they take {ratios[0]} times the bytes of its own at its"
        f" {levels[0]} level and {ratios[1]} times at level {levels[1].lstrip('-')}."
    )


def _about_cases(corpus: str, table: Table) -> list[str]:
    sentences = []
    for case, beginning in (
        ("identical + patch", "With the rest raw"),
        ("all", "With all combined"),
    ):
        factors = {
            patcher: _number(table.value("factor", corpus=corpus, case=case, patcher=patcher))
            for patcher in variants.PATCHERS
        }
        best, worst = max(factors, key=factors.__getitem__), min(factors, key=factors.__getitem__)

        def text(patcher: str, case: str = case) -> str:
            return table.text("factor", corpus=corpus, case=case, patcher=patcher)

        against = "" if best == _MEASURE else f", {text(_MEASURE)} with {_MEASURE}"
        sentences.append(
            f"{beginning}, the engine reaches a factor of {text(best)} with {best}{against} and"
            f" {text(worst)} with {worst}."
        )
    return sentences


def _beginning(name: str) -> str:
    return "The page bsdiff" if name == _OURS else name


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(value: Cell) -> float:
    assert isinstance(value, int | float)
    return value
