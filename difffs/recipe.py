"""Recipes: named choices of routes, sketch, codecs and limits.

A store remembers the recipe that routes its new pages. Payloads name their codec, so pages that
an earlier recipe stored stay readable whatever the recipe is now.
"""

from dataclasses import asdict, dataclass, replace

from difffs.codec import Codec
from difffs.errors import UsageError
from difffs.sketch import Sketch

_FORMER_FIELDS = {"single_vote_gain"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How pages are routed."""

    name: str
    description: str
    share: bool = True
    """Pages with the same bytes are stored once."""
    sketch: Sketch = Sketch.MIN_HASH
    candidates: int = 1
    """Bases tried for a page: 1 or 2."""
    minimum_votes: int = 1
    """Features that a stored base must share with a page to be tried."""
    single_vote_run: int = 192
    """Bytes in a row that a page and a base with one shared feature must have in common around it,
    else the try, which takes as long as a compression, is left out. 0: always try."""
    patch_codec: Codec = Codec.ZSTD_PREFIX
    """NONE: pages are not patched."""
    patch_level: int = 1
    patch_limit: int = 4096 - 64
    """A patch of this many bytes or more is refused."""
    patch_ratio: int = 210
    """A patch is taken below this many 256ths of the bytes that the page compresses to; 0 takes
    every patch below patch_limit (as the paper does)."""
    patch_sure_ratio: int = 160
    """A patch below this many 256ths of its base's own payload is taken without compressing the
    page for comparison: similar pages compress to similar sizes."""
    maximum_depth: int = 1
    """Patches between a page and its last base."""
    compress_codec: Codec = Codec.ZSTD
    """NONE: what is neither shared nor patched is kept raw."""
    compress_level: int = 1
    dictionary_bytes: int = 4096
    """Size of the dictionary that a store trains from its first pages for zstd: it spares each
    page its own entropy tables, a sixth of the time for one per cent of the size. 0: none."""

    def to_dict(self) -> dict[str, object]:
        """Plain values, as stored and shown."""
        return {key: int(v) if isinstance(v, int) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> "Recipe":
        """The inverse of to_dict; TypeError or ValueError when the values are no recipe.

        What recipes of earlier stores said and none says any more is passed over: it only chose
        how new pages were routed.
        """
        values = {key: value for key, value in values.items() if key not in _FORMER_FIELDS}
        recipe = cls(**values)  # type: ignore[arg-type]
        return replace(
            recipe,
            share=bool(recipe.share),
            sketch=Sketch(recipe.sketch),
            patch_codec=Codec(recipe.patch_codec),
            compress_codec=Codec(recipe.compress_codec),
        )


_ALL = (
    Recipe(
        "default",
        "identical, patch with zstd (base as prefix), compress with zstd 1",
    ),
    Recipe(
        "fast",
        "identical, patch with zstd -1 where two features agree, lz4 for the rest",
        patch_level=-1,
        minimum_votes=2,
        compress_codec=Codec.LZ4,
    ),
    Recipe(
        "dense",
        "identical, the better of two bases patched by the bsdiff for pages, zstd 9 for the rest",
        candidates=2,
        single_vote_run=0,
        patch_codec=Codec.PAGE_BSDIFF,
        compress_level=9,
        dictionary_bytes=64 << 10,
    ),
    Recipe(
        "archive",
        "as dense, with Burrows-Wheeler, move-to-front and a range coder for the rest: for images "
        "that are seldom read",
        candidates=2,
        single_vote_run=0,
        patch_codec=Codec.PAGE_BSDIFF,
        compress_codec=Codec.BWT_RANGE,
    ),
    Recipe(
        "difference-engine",
        "the paper's: identical, VCDIFF patches below 2 KiB found by two keys, lz4 for the rest",
        sketch=Sketch.FIXED_BLOCKS,
        patch_codec=Codec.VCDIFF,
        patch_limit=2048,
        patch_ratio=0,
        candidates=2,
        single_vote_run=0,
        compress_codec=Codec.LZ4,
    ),
    Recipe(
        "identical-only",
        "identical pages are shared, the rest is kept raw",
        sketch=Sketch.NONE,
        patch_codec=Codec.NONE,
        compress_codec=Codec.NONE,
    ),
    Recipe(
        "patch-only",
        "identical pages are shared, similar ones patched, the rest is kept raw",
        single_vote_run=0,
        compress_codec=Codec.NONE,
    ),
    Recipe(
        "compress-only",
        "every page is compressed as in default; nothing is shared or patched",
        share=False,
        sketch=Sketch.NONE,
        patch_codec=Codec.NONE,
    ),
    Recipe(
        "bwt-mtf",
        "pages transformed by Burrows-Wheeler and move-to-front: two keys and patches of that, "
        "range coder for the rest",
        sketch=Sketch.TRANSFORMED_BLOCKS,
        patch_codec=Codec.BWT_PREFIX,
        candidates=2,
        single_vote_run=0,
        compress_codec=Codec.BWT_RANGE,
    ),
)

RECIPES = {recipe.name: recipe for recipe in _ALL}
DEFAULT_RECIPE = "default"


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; UsageError lists the names when there is none."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}") from None
