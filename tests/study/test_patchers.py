"""Every patcher gives back the page."""

from random import Random

import bsdiff4
import pytest

from difffs._kernels import Context
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study.patchers import PATCHERS, Patcher, make_patchers
from tests.pages import compressible_page, random_page, shifted_page, similar_page


def patcher(name: str) -> Patcher:
    (found,) = [each for each in make_patchers() if each.name == name]
    return found


def test_all_of_them_are_made_in_order() -> None:
    assert tuple(each.name for each in make_patchers()) == PATCHERS


@pytest.mark.parametrize("name", PATCHERS)
def test_the_page_comes_back(name: str) -> None:
    random = Random(3)
    base = compressible_page(random)
    one = patcher(name)
    for page in (similar_page(base, random), shifted_page(base, random), base, bytes(PAGE_SIZE)):
        patch = one.encode(page, base)
        assert patch is not None
        assert one.decode(patch, base) == page
        assert one.length(patch) == len(patch) <= PAGE_SIZE
    near = one.encode(similar_page(base, random), base)
    assert near is not None
    assert len(near) < 1000


@pytest.mark.parametrize("name", PATCHERS)
def test_what_gets_no_shorter_has_no_patch(name: str) -> None:
    one = patcher(name)
    page, base = random_page(Random(1)), random_page(Random(2))
    patch = one.encode(page, base)
    assert patch is None or one.decode(patch, base) == page
    assert one.length(patch) >= PAGE_SIZE * 0.99
    assert one.length(patch) <= PAGE_SIZE
    assert one.length(None) == PAGE_SIZE


def test_levels_and_packages_are_those_named() -> None:
    random = Random(9)
    base = compressible_page(random)
    page = shifted_page(similar_page(base, random, 60), random)
    context = Context()
    for level in (-1, 1, 3, 19):
        expected = context.encode(Codec.ZSTD_PREFIX, page, base, level)
        assert patcher(f"zstd {level}").encode(page, base) == expected
    assert bsdiff4.patch(base, patcher("bsdiff4").encode(page, base)) == page
    alone, packed = (patcher(name).encode(page, base) for name in ("XBZRLE", "XBZRLE + zstd 1"))
    assert alone is not None
    assert packed is not None
    assert len(packed) < len(alone)
