"""zram: what it tells, and really writing to it."""

from pathlib import Path
from random import Random

import pytest

from difffs.study.corpus import Image
from difffs.study.peers import zram
from tests.pages import random_page, same_filled_page
from tests.study.peers.conftest import make_image, variants


@pytest.mark.parametrize(
    "text",
    [
        # Linux 6.18, a guest of 768 MiB written with lzo-rle; Linux 5.4 has no ninth figure
        "805306368 300491478 307171328        0 307171328    32017        0    14725    14725\n",
        "805306368 300491478 307171328        0 307171328    32017        0    14725\n",
    ],
)
def test_figures_are_read_in_their_order(text: str) -> None:
    stat = zram.parse_mm_stat(text)
    assert stat.mem_used_total == 307171328
    assert stat.same_pages == 32017
    assert stat.huge_pages == 14725


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_every_algorithm_keeps_what_cannot_be_compressed_and_nothing_of_the_same(
    tmp_path: Path,
) -> None:
    random = Random(5)
    noise = make_image(tmp_path / "noise.mem", b"".join(random_page(random) for _ in range(512)))
    same = make_image(tmp_path / "same.mem", b"".join(same_filled_page(random) for _ in range(512)))
    for peer in variants(zram.find()):
        found = peer.function([noise, same], tmp_path, peer.parameters)
        assert found["same_pages"] == same.pages
        assert found["huge_pages"] == noise.pages
        size = noise.path.stat().st_size
        assert size <= found["stored"] < size * 1.05


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_the_device_goes_when_a_pass_fails(unreadable: Image, tmp_path: Path) -> None:
    for peer in variants(zram.find()):
        with pytest.raises(FileNotFoundError):
            peer.function([unreadable], tmp_path, peer.parameters)
