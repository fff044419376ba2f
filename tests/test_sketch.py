"""The names of sketches are those of the native code."""

import re
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import sketch
from difffs.sketch import Sketch
from tests.pages import compressible_page, guest_pages


def test_sketches_have_the_native_numbers() -> None:
    text = (Path(__file__).parents[1] / "native" / "page.h").read_text()
    numbers = {name: int(value) for name, value in re.findall(r"\bSKETCH_(\w+) = (\d+)", text)}
    assert numbers == {kind.name: kind.value for kind in Sketch}


@pytest.mark.parametrize("kind", Sketch)
def test_no_page_has_more_features_than_the_most(kind: Sketch) -> None:
    for page in guest_pages(Random(1), 50):
        assert len(sketch(kind, page)) <= kind.features
    assert len(sketch(kind, compressible_page(Random(1)))) == kind.features
