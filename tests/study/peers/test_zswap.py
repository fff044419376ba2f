"""zswap: what the kernel tells, and really swapping to it."""

from pathlib import Path
from random import Random

import pytest

from difffs.page import PAGE_SIZE
from difffs.study.corpus import Corpus, Image
from difffs.study.peers import zswap
from tests.pages import random_page
from tests.study.peers.conftest import make_image, variants

# of Linux 6.18
CRYPTO = """\
name         : lzo-rle
driver       : lzo-rle-scomp
module       : kernel
priority     : 0
refcnt       : 1
selftest     : passed
internal     : no
type         : scomp

name         : crc32c
driver       : crc32c-lib
module       : kernel
priority     : 100
refcnt       : 4
selftest     : passed
internal     : no
type         : shash
blocksize    : 1
digestsize   : 4

name         : lzo
driver       : lzo-scomp
module       : kernel
priority     : 0
refcnt       : 1
selftest     : passed
internal     : no
type         : scomp

"""


def test_compressors_are_told_from_other_algorithms() -> None:
    assert zswap.compressors(CRYPTO) == {"lzo", "lzo-rle"}


def test_figures_with_and_without_units_are_read(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    path.write_text("Name:\tpython\nVmSwap:\t      12 kB\nzswpout 345\nState:\tR (running)\n")
    assert zswap.read_figures(path) == {"VmSwap": 12288, "zswpout": 345}


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_every_compressor_keeps_guests_in_less_room(corpora: list[Corpus], tmp_path: Path) -> None:
    corpus = corpora[0]
    for peer in variants(zswap.find()):
        found = peer.function(corpus.images, tmp_path, peer.parameters)
        assert found["pool"] > 0
        assert corpus.bytes * 0.05 < found["stored"] < corpus.bytes * 0.9


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_what_does_not_compress_is_counted_in_full(tmp_path: Path) -> None:
    random = Random(6)
    noise = make_image(tmp_path / "noise.mem", b"".join(random_page(random) for _ in range(512)))
    peer = variants(zswap.find())[0]
    found = peer.function([noise], tmp_path, peer.parameters)
    assert 0.98 * noise.pages * PAGE_SIZE <= found["stored"] < 1.05 * noise.pages * PAGE_SIZE


@pytest.mark.integration
@pytest.mark.usefixtures("host_as_before")
def test_the_host_no_longer_swaps_when_a_pass_fails(unreadable: Image, tmp_path: Path) -> None:
    peer = variants(zswap.find())[0]
    with pytest.raises(FileNotFoundError):
        peer.function([unreadable], tmp_path, peer.parameters)
