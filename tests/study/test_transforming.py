"""What the passes over transformed pages count, against counting by hand."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import Context as CodecContext
from difffs._kernels import same_word, sketch
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.sketch import Sketch
from difffs.study import _kernels, transforming
from difffs.study.corpus import Corpus, Image
from difffs.study.pairs import sample_pairs
from tests.pages import compressible_page, same_filled_page


def pages_of(images: Sequence[Image]) -> list[bytes]:
    """All pages that are not one repeated word, equal ones once, in order."""
    found: dict[bytes, None] = {}
    for image in images:
        content = image.path.read_bytes()
        for offset in range(0, len(content), PAGE_SIZE):
            page = content[offset : offset + PAGE_SIZE]
            if same_word(page) is None:
                found[page] = None
    return list(found)


def split(content: bytes, size: int) -> list[bytes]:
    return [content[i : i + size] for i in range(0, len(content), size)]


# ------------------------------------------------------------------------------------- the sample


def test_groups_are_neighbours_of_the_corpus(corpora: list[Corpus]) -> None:
    for corpus in corpora:
        everything = pages_of(corpus.images)
        groups = {b"".join(everything[i : i + 16]) for i in range(0, len(everything), 16)}
        sample = transforming.sample_groups(corpus.images, 100, 5)
        chosen = split(sample, 16 * PAGE_SIZE)
        assert len(chosen) == len(set(chosen)) == 6
        assert set(chosen) <= groups
        assert sample == transforming.sample_groups(corpus.images, 100, 5)
        assert sample != transforming.sample_groups(corpus.images, 100, 6)


def test_a_sample_of_everything_is_everything_in_order(corpora: list[Corpus]) -> None:
    everything = pages_of(corpora[0].images)
    whole = len(everything) // 16 * 16
    assert transforming.sample_groups(corpora[0].images, 10**6, 1) == b"".join(everything[:whole])


def test_an_image_without_sixteen_pages_to_look_at_has_no_sample(tmp_path: Path) -> None:
    random = Random(1)
    path = tmp_path / "small.mem"
    pages = [compressible_page(random) for _ in range(15)]
    pages += [same_filled_page(random) for _ in range(9)] + pages
    path.write_bytes(b"".join(pages))
    images = [Image.of(path)]
    assert transforming.sample_groups(images, 100, 1) == b""
    assert transforming.block_pass(images, tmp_path, {"pages": 100, "seed": 1})["pages"] == 0


# ------------------------------------------------------------------------------------ sizes, times


def test_pages_are_as_long_as_the_store_would_have_them(
    corpora: list[Corpus], tmp_path: Path
) -> None:
    images = corpora[0].images
    result = transforming.block_pass(images, tmp_path, {"pages": 64, "seed": 2})
    sample = transforming.sample_groups(images, 64, 2)
    assert result["pages"] == len(sample) // PAGE_SIZE == 64
    context = CodecContext()
    for name, codec, level in (
        ("zstd 1", Codec.ZSTD, 1),
        ("zstd 3", Codec.ZSTD, 3),
        ("zstd 19", Codec.ZSTD, 19),
        ("BWT + MTF, zstd 1", Codec.BWT_ZSTD, 1),
        ("BWT + MTF, range coder", Codec.BWT_RANGE, 1),
    ):
        lengths = [
            len(context.encode(codec, page, None, level) or page)
            for page in split(sample, PAGE_SIZE)
        ]
        assert result["page"]["bytes"][name] == sum(lengths), name


def test_groups_are_encoded_as_one_block(corpora: list[Corpus], tmp_path: Path) -> None:
    images = corpora[1].images
    result = transforming.block_pass(images, tmp_path, {"pages": 32, "seed": 2})["group"]
    groups = split(transforming.sample_groups(images, 32, 2), 16 * PAGE_SIZE)
    codes = []
    for group in groups:
        ranks, _rows = _kernels.transform(group, len(group))
        codes.append(_kernels.range_encode(ranks, len(ranks))[0])
    assert result["bytes"]["BWT + MTF, range coder"] == sum(2 + len(code) for code in codes)
    frames = [_kernels.zstd_encode(group, len(group), 3)[0] for group in groups]
    assert result["bytes"]["zstd 3"] == sum(map(len, frames))


def test_every_codec_has_its_steps_and_times(corpora: list[Corpus], tmp_path: Path) -> None:
    result = transforming.block_pass(corpora[0].images, tmp_path, {"pages": 16, "seed": 2})
    for unit in ("page", "group"):
        assert set(result[unit]["bytes"]) == set(transforming.STEPS)
        steps = {step for of_codec in transforming.STEPS.values() for step in of_codec}
        assert set(result[unit]["steps"]) == steps
        assert all(time > 0 for times in result[unit]["steps"].values() for time in times)


# ----------------------------------------------------------------------------------------- pairs


def test_pairs_are_patched_and_judged_as_the_router_does(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    images = corpora[0].images
    for name in ("theirs", "ours"):
        (scratch_folder / name).mkdir()
    parameters = {"pairs": 50, "seed": 4}
    result = transforming.pair_pass(images, scratch_folder / "theirs", parameters)
    pairs, found = sample_pairs(images, scratch_folder / "ours", 50, 4)
    assert (result["pairs"], result["found"]) == (len(pairs), found)
    assert found > len(pairs) == 50
    context = CodecContext()
    ratio = RECIPES["default"].patch_ratio / 256
    for kind, patch_codec, codec in (
        ("plain pages", Codec.ZSTD_PREFIX, Codec.ZSTD),
        ("transformed pages", Codec.BWT_PREFIX, Codec.BWT_RANGE),
    ):
        patches = [4 + len(context.encode(patch_codec, p.page, p.base) or p.page) for p in pairs]
        alone = [len(context.encode(codec, p.page) or p.page) for p in pairs]
        taken = [patch < ratio * size for patch, size in zip(patches, alone, strict=True)]
        assert any(taken)
        counted = result[kind]
        assert counted["patch"] == sum(min(size, PAGE_SIZE) for size in patches)
        assert counted["alone"] == sum(alone)
        assert counted["taken"] == sum(taken)
        assert counted["kept"] == sum(
            patch if take else size for patch, size, take in zip(patches, alone, taken, strict=True)
        )
        assert counted["encode_us"] > 0
        assert counted["decode_us"] > 0


# ------------------------------------------------------------------------------------------ keys


def silent_keys() -> list[set[int]]:
    """The keys of blocks of one repeated byte."""
    each = [sketch(Sketch.FIXED_BLOCKS, bytes([value]) * PAGE_SIZE) for value in range(256)]
    return [{keys[which] for keys in each} for which in range(2)]


@pytest.mark.parametrize(
    ("kind", "which_sketch"),
    [
        ("plain pages", Sketch.FIXED_BLOCKS),
        ("transformed pages", Sketch.TRANSFORMED_BLOCKS),
    ],
)
def test_coverage_is_that_of_a_walk_over_the_pages(
    corpora: list[Corpus], tmp_path: Path, kind: str, which_sketch: Sketch
) -> None:
    silent = silent_keys()
    for corpus in corpora:
        results = [transforming.key_pass([image], tmp_path, {}) for image in corpus.images]
        coverage = transforming.merge_keys(results)[kind]
        seen: list[set[int]] = [set(), set()]
        found = both = telling = 0
        pages = pages_of(corpus.images)
        for page in pages:
            keys = sketch(which_sketch, page)
            common = [keys[which] in seen[which] for which in range(2)]
            found += any(common)
            both += all(common)
            telling += any(common[which] and keys[which] not in silent[which] for which in range(2))
            for which in range(2):
                seen[which].add(keys[which])
        assert coverage == transforming.KeyCoverage(len(pages), found, both, telling)
        assert coverage.found > 0


def test_an_image_twice_is_covered_no_more_than_once(corpora: list[Corpus], tmp_path: Path) -> None:
    """Equal pages are not similar ones."""
    result = transforming.key_pass(corpora[0].images[:1], tmp_path, {})
    assert transforming.merge_keys([result, result]) == transforming.merge_keys([result])


def test_an_image_of_zeros_has_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(4 * PAGE_SIZE))
    result = transforming.key_pass([Image.of(path)], tmp_path, {})
    for coverage in transforming.merge_keys([result]).values():
        assert coverage == transforming.KeyCoverage(0, 0, 0, 0)
