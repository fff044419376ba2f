"""4. Are pages better transformed by Burrows-Wheeler and move-to-front first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES, Recipe
from difffs.sketch import Sketch
from difffs.study import transforming
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.excerpt import EXCERPT_PASS_VERSION, excerpt_pass
from difffs.study.passes import Pass
from difffs.study.result import Cell, Column, Plot, PlotKind, Section, Table, Unit
from difffs.study.wording import capitalised, corpora_of, number, span, where

NUMBER = 4
NAME = "transforms"
TITLE = "Burrows-Wheeler and move-to-front"

_BLOCKS_OF_SAMPLE = 2
"""One in so many pages of the sample is encoded by every codec: zstd 19 takes a millisecond."""
_EXCERPT_OF_SAMPLE = 6
"""Pages imported for each page of the sample."""

_UNITS = {"page": "page", "group": "16 pages"}
_PLAIN, _TRANSFORMED = transforming.KEY_KINDS
_RANGE_CODER, _ZSTD = "BWT + MTF, range coder", "BWT + MTF, zstd 1"


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """A recipe, described by what its parts look at."""

    name: str
    keys: str
    patches: str
    rest: str
    recipe: Recipe


def _pipelines() -> list[_Pipeline]:
    """The proposed pipeline, and what becomes of it when its parts look at plain pages."""
    proposed = RECIPES["bwt-mtf"]
    plain_keys = {"sketch": Sketch.FIXED_BLOCKS}
    plain_patches = {"patch_codec": Codec.ZSTD_PREFIX}
    plain_rest = {"compress_codec": Codec.ZSTD, "dictionary_bytes": 0}
    changes: list[tuple[str, Mapping[str, object]]] = [
        ("all plain", {**plain_keys, **plain_patches, **plain_rest}),
        ("all transformed, zstd 1", {"compress_codec": Codec.BWT_ZSTD}),
        ("all transformed, range coder", {}),
        ("plain keys", plain_keys),
        ("plain patches", plain_patches),
        ("plain keys and patches", {**plain_keys, **plain_patches}),
    ]
    variants = [
        (name, replace(proposed, name=f"transforms: {name}", **change))  # type: ignore[arg-type]
        for name, change in changes
    ]
    default = RECIPES["default"]
    variants += [
        ("default", default),
        (
            "default, range coder",
            replace(default, name="transforms: default", compress_codec=Codec.BWT_RANGE),
        ),
    ]
    return [_described(name, recipe) for name, recipe in variants]


def _described(name: str, recipe: Recipe) -> _Pipeline:
    keys = {
        Sketch.FIXED_BLOCKS: "two, plain",
        Sketch.TRANSFORMED_BLOCKS: "two, transformed",
        Sketch.MIN_HASH: "min-hash, plain",
    }
    rest = {
        Codec.ZSTD: "zstd 1" + (" with dictionary" if recipe.dictionary_bytes else ""),
        Codec.BWT_ZSTD: _ZSTD,
        Codec.BWT_RANGE: _RANGE_CODER,
    }
    patches = "transformed" if recipe.patch_codec is Codec.BWT_PREFIX else "plain"
    return _Pipeline(name, keys[recipe.sketch], patches, rest[recipe.compress_codec], recipe)


def run(context: Context) -> Section:
    """Encode samples, look for keys in everything, import an excerpt by every pipeline."""
    pipelines = _pipelines()
    passes = [
        Pass(
            "excerpt",
            EXCERPT_PASS_VERSION,
            excerpt_pass,
            corpus.images,
            {
                "recipe": pipeline.recipe.to_dict(),
                "pages": _EXCERPT_OF_SAMPLE * context.sample,
                "seed": context.seed,
            },
        )
        for corpus in context.corpora
        for pipeline in pipelines
    ]
    results = iter(context.results(passes))
    imports = {
        corpus.name: [(pipeline, next(results)) for pipeline in pipelines]
        for corpus in context.corpora
    }
    found = context.each_image(
        "transform keys", transforming.KEY_PASS_VERSION, transforming.key_pass
    )
    keys = {corpus: transforming.merge_keys(of_images) for corpus, of_images in found.items()}
    blocks = context.each_corpus(
        "transform blocks",
        transforming.BLOCK_PASS_VERSION,
        transforming.block_pass,
        timed=True,
        pages=context.sample // _BLOCKS_OF_SAMPLE,
        seed=context.seed,
    )
    pairs = context.each_corpus(
        "transform pairs",
        transforming.PAIR_PASS_VERSION,
        transforming.pair_pass,
        timed=True,
        pairs=context.sample,
        seed=context.seed,
    )
    tables = [
        _size_table(blocks),
        _step_table(blocks),
        _key_table(keys),
        _patch_table(pairs),
        _pipeline_table(imports),
    ]
    by_name = {table.name: table for table in tables}
    findings = [_finding(corpus.name, by_name) for corpus in context.corpora]
    return Section(NUMBER, NAME, TITLE, tables, _plots(), _conclusion(by_name), findings)


def _size_table(blocks: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in blocks.items():
        for unit, title in _UNITS.items():
            sizes, steps = result[unit]["bytes"], result[unit]["steps"]
            for codec, of_codec in transforming.STEPS.items():
                if result["pages"]:
                    rows.append(
                        {
                            "corpus": corpus,
                            "unit": title,
                            "codec": codec,
                            "pages": result["pages"],
                            "mean": sizes[codec] / result["pages"],
                            "factor": result["pages"] * PAGE_SIZE / sizes[codec],
                            "less": 1 - sizes[codec] / sizes["zstd 1"],
                            "encode_us": sum(steps[step][0] for step in of_codec),
                            "decode_us": sum(steps[step][1] for step in of_codec),
                        }
                    )
    return Table(
        "transform_sizes",
        "Pages alone and in groups of 16, plain and transformed",
        [
            Column("corpus", "corpus"),
            Column("unit", "encoded together"),
            Column("codec", "codec"),
            Column("pages", "pages", Unit.COUNT),
            Column("mean", "bytes a page", Unit.MEAN_BYTES),
            Column("factor", "factor", Unit.FACTOR),
            Column("less", "less than zstd 1", Unit.SHARE),
            Column("encode_us", "encode us a page", Unit.MICROSECONDS),
            Column("decode_us", "decode us a page", Unit.MICROSECONDS),
        ],
        rows,
        "The same pages in all rows: groups of 16 successive pages drawn at random, without pages"
        " of one repeated word and all but the first of equal ones. To read one page of a group,"
        " all 16 are decoded.",
    )


def _step_table(blocks: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "corpus": corpus,
            "unit": title,
            "step": step,
            "forward_us": forward,
            "backward_us": backward,
        }
        for corpus, result in blocks.items()
        for unit, title in _UNITS.items()
        for step, (forward, backward) in result[unit]["steps"].items()
        if result["pages"]
    ]
    return Table(
        "transform_steps",
        "What each step costs",
        [
            Column("corpus", "corpus"),
            Column("unit", "encoded together"),
            Column("step", "step"),
            Column("forward_us", "encoding, us a page", Unit.MICROSECONDS),
            Column("backward_us", "decoding, us a page", Unit.MICROSECONDS),
        ],
        rows,
        "One thread, native code over the whole sample at once, the fastest of 3 rounds (zstd 19:"
        " one). Transform is Burrows-Wheeler and move-to-front; ranks are what it leaves.",
    )


def _key_table(keys: Mapping[str, Mapping[str, transforming.KeyCoverage]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, coverage in keys.items():
        for kind, found in coverage.items():
            pages = max(1, found.pages)
            rows.append(
                {
                    "corpus": corpus,
                    "kind": kind,
                    "pages": found.pages,
                    "found": found.found / pages,
                    "both": found.both / pages,
                    "telling": found.telling / pages,
                }
            )
    return Table(
        "transform_keys",
        "Two keys of fixed blocks: how often an earlier page has them",
        [
            Column("corpus", "corpus"),
            Column("kind", "keys of"),
            Column("pages", "distinct pages", Unit.COUNT),
            Column("found", "a key in common", Unit.SHARE),
            Column("both", "both keys", Unit.SHARE),
            Column("telling", "a telling key", Unit.SHARE),
        ],
        rows,
        "All pages of all images in order. A key is telling when its block of 64 bytes is not one"
        " repeated byte: zeros in common do not make pages alike, and ranks are mostly zeros.",
    )


def _patch_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        count = result["pairs"]
        for kind in transforming.PAIR_CODECS:
            if count:
                sizes = result[kind]
                rows.append(
                    {
                        "corpus": corpus,
                        "kind": kind,
                        "pairs": count,
                        "patch": sizes["patch"] / count,
                        "alone": sizes["alone"] / count,
                        "taken": sizes["taken"] / count,
                        "kept": sizes["kept"] / count,
                        "encode_us": sizes["encode_us"],
                        "decode_us": sizes["decode_us"],
                    }
                )
    return Table(
        "transform_patches",
        "Patches of the same real pairs, plain and transformed",
        [
            Column("corpus", "corpus"),
            Column("kind", "patches of"),
            Column("pairs", "pairs", Unit.COUNT),
            Column("patch", "bytes a patch", Unit.MEAN_BYTES),
            Column("alone", "bytes alone", Unit.MEAN_BYTES),
            Column("taken", "patches taken", Unit.SHARE),
            Column("kept", "bytes kept", Unit.MEAN_BYTES),
            Column("encode_us", "encode us", Unit.MICROSECONDS),
            Column("decode_us", "decode us", Unit.MICROSECONDS),
        ],
        rows,
        "Patches are zstd 1 with the base as prefix, both page and base transformed in the second"
        " rows; alone, a page takes zstd 1 or the range coder. A patch is taken when it is clearly"
        " smaller than that, as in default. A patch counts with its base's number.",
    )


def _pipeline_table(imports: Mapping[str, Sequence[tuple[_Pipeline, Result]]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in imports.items():
        for pipeline, result in results:
            pages = result["pages"]
            rows.append(
                {
                    "corpus": corpus,
                    "pipeline": pipeline.name,
                    "keys": pipeline.keys,
                    "patches": pipeline.patches,
                    "rest": pipeline.rest,
                    "pages": pages["total"],
                    "patched": pages["patch"] / max(1, pages["total"]),
                    "stored": result["bytes"]["stored"],
                    "factor": result["factor"],
                }
            )
    return Table(
        "transform_pipelines",
        "The whole pipeline, and with parts that look at plain pages",
        [
            Column("corpus", "corpus"),
            Column("pipeline", "pipeline"),
            Column("keys", "keys"),
            Column("patches", "patches"),
            Column("rest", "the rest"),
            Column("pages", "pages", Unit.COUNT),
            Column("patched", "patched", Unit.SHARE),
            Column("stored", "stored MiB", Unit.MEBIBYTES),
            Column("factor", "factor", Unit.FACTOR),
        ],
        rows,
        "Imports with the product's engine, identical pages shared, everything counted; all"
        " transformed with the range coder is the recipe bwt-mtf. Of large corpora only an excerpt:"
        " runs of 512 pages, at the same random places in every image, so that the factors compare"
        " with each other and not with those of whole images.",
    )


def _plots() -> list[Plot]:
    return [
        Plot(
            "transform_pipelines",
            "Factor of the proposed pipeline and of its variants",
            PlotKind.BARS,
            "transform_pipelines",
            x="pipeline",
            y="factor",
            panel="corpus",
        ),
        Plot(
            "transform_sizes",
            "Bytes a page, alone and in groups",
            PlotKind.BARS,
            "transform_sizes",
            x="codec",
            y="mean",
            series="unit",
            panel="corpus",
        ),
        Plot(
            "transform_times",
            "Bytes a page against the time to encode it",
            PlotKind.POINTS,
            "transform_sizes",
            x="encode_us",
            y="mean",
            series="codec",
            panel="corpus",
            logarithmic=True,
            where={"unit": _UNITS["page"]},
        ),
    ]


_PROPOSED, _PLAIN_PARTS = "all transformed, range coder", "plain keys and patches"
_DEFAULT, _DEFAULT_RANGE_CODER = "default", "default, range coder"


def _conclusion(tables: Mapping[str, Table]) -> str:
    sizes, keys, patches, whole = (
        tables[f"transform_{name}"] for name in ("sizes", "keys", "patches", "pipelines")
    )
    sentences = [_about_likeness(keys, patches)]
    if sizes.rows:
        sentences.append(_about_sizes(sizes))
    sentences.append(_about_pipelines(whole))
    return " ".join(sentences)


def _about_likeness(keys: Table, patches: Table) -> str:
    """Whether transformed pages are more alike, judged by patches; by keys where there are none."""
    table, key, better = (patches, "patch", -1) if patches.rows else (keys, "telling", 1)
    corpora = corpora_of(table)
    alike = [
        corpus
        for corpus in corpora
        if better * number(table.value(key, corpus=corpus, kind=_TRANSFORMED))
        > better * number(table.value(key, corpus=corpus, kind=_PLAIN))
    ]
    if alike:
        verdict = f"make pages more alike{where(alike, corpora)}"
    else:
        verdict = "do not make pages more alike"

    def over(of: Table, key: str, kind: str, named_by: str = "") -> str:
        return span(of, key, of.select(kind=kind), named_by)

    telling = {kind: over(keys, "telling", kind, "corpus") for kind in (_PLAIN, _TRANSFORMED)}
    found = (
        f"an earlier page is found by a telling key for {telling[_TRANSFORMED]} of transformed"
        f" pages and {telling[_PLAIN]} of plain ones"
    )
    if not patches.rows:
        return f"Burrows-Wheeler and move-to-front {verdict}: {found}."
    return (
        f"Burrows-Wheeler and move-to-front {verdict}: patches of the same pairs take"
        f" {over(patches, 'patch', _TRANSFORMED)} bytes transformed and"
        f" {over(patches, 'patch', _PLAIN)} plain, and {found}."
    )


def _about_sizes(sizes: Table) -> str:
    corpora = corpora_of(sizes)

    def over(key: str, codec: str) -> str:
        return span(sizes, key, sizes.select(codec=codec, unit=_UNITS["page"]))

    smaller = [
        corpus
        for corpus in corpora
        if _mean(sizes, corpus, _RANGE_CODER) < _mean(sizes, corpus, "zstd 1")
    ]
    if smaller:
        verdict = f"make single pages smaller{where(smaller, corpora)}"
    else:
        verdict = "do not make single pages smaller either"
    link = "They do" if smaller and len(smaller) == len(corpora) else "They"
    return (
        f"{link} {verdict}: with a range coder behind them {over('mean', _RANGE_CODER)} bytes"
        f" against {over('mean', 'zstd 1')} of zstd 1, but {over('encode_us', _RANGE_CODER)} us to"
        f" encode instead of {over('encode_us', 'zstd 1')}."
    )


def _about_pipelines(whole: Table) -> str:
    def over(pipeline: str) -> str:
        return span(whole, "factor", whole.select(pipeline=pipeline))

    return (
        f"The proposed pipeline reaches a factor of {over(_PROPOSED)}, with keys and patches of"
        f" plain pages {over(_PLAIN_PARTS)}; default reaches {over(_DEFAULT)}, and with the range"
        f" coder in place of zstd {over(_DEFAULT_RANGE_CODER)}."
    )


def _mean(sizes: Table, corpus: str, codec: str) -> float:
    return number(sizes.value("mean", corpus=corpus, codec=codec, unit=_UNITS["page"]))


def _finding(corpus: str, tables: Mapping[str, Table]) -> str:
    sizes, whole = tables["transform_sizes"], tables["transform_pipelines"]
    sentences = _size_finding(corpus, sizes) if sizes.select(corpus=corpus) else []

    def text(pipeline: str) -> str:
        return whole.text("factor", corpus=corpus, pipeline=pipeline)

    def factor(pipeline: str) -> float:
        return number(whole.value("factor", corpus=corpus, pipeline=pipeline))

    stored = "less" if factor(_PROPOSED) > factor("all plain") else "no less"
    better = "better" if factor(_PLAIN_PARTS) > factor(_PROPOSED) else "no better"
    sentences += [
        f"the pipeline as proposed stores {stored} than the same on plain pages (a factor of"
        f" {text(_PROPOSED)} against {text('all plain')}), and keys and patches are {better} off"
        f" plain ({text(_PLAIN_PARTS)})."
    ]
    return f"On {corpus}, {' '.join([sentences[0], *map(capitalised, sentences[1:])])}"


def _size_finding(corpus: str, sizes: Table) -> list[str]:
    def text(key: str, codec: str, unit: str = "page") -> str:
        return sizes.text(key, corpus=corpus, codec=codec, unit=_UNITS[unit])

    slow = (
        "fewer"
        if _mean(sizes, corpus, _RANGE_CODER) < _mean(sizes, corpus, "zstd 19")
        else "no fewer"
    )
    return [
        f"a transformed page takes {text('mean', _RANGE_CODER)} bytes by the range coder, {slow}"
        f" than the {text('mean', 'zstd 19')} of zstd 19 on the plain page, and"
        f" {text('mean', _ZSTD)} by zstd 1.",
        f"In groups of 16 pages it takes {text('mean', _RANGE_CODER, 'group')}, by plain zstd 1"
        f" {text('mean', 'zstd 1', 'group')}.",
    ]
