"""btrfs, squashfs and whole archives: really made."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Image
from difffs.study.peers import btrfs, squashfs, whole_archive
from difffs.study.peers.peer import Found
from tests.pages import random_page
from tests.study.peers.conftest import make_image, variants

pytestmark = pytest.mark.integration


@pytest.fixture
def noise(tmp_path: Path) -> Image:
    """An image that nothing makes smaller."""
    random = Random(7)
    return make_image(tmp_path / "noise.mem", b"".join(random_page(random) for _ in range(1024)))


@pytest.fixture
def zeros(tmp_path: Path) -> Image:
    """An image of nothing but zeros."""
    return make_image(tmp_path / "zeros.mem", bytes(1024 * PAGE_SIZE))


@pytest.mark.parametrize(
    "find", [btrfs.find, squashfs.find, whole_archive.find_bounds], ids=["btrfs", "squashfs", "all"]
)
@pytest.mark.usefixtures("host_as_before")
def test_noise_takes_its_room_and_zeros_hardly_any(
    find: Callable[[], Found], noise: Image, zeros: Image, scratch_folder: Path
) -> None:
    for peer in variants(find()):
        size = noise.pages * PAGE_SIZE
        found = peer.function([noise], scratch_folder, peer.parameters)
        assert size <= found["stored"] < size * 1.03
        found = peer.function([zeros], scratch_folder, peer.parameters)
        assert 0 < found["stored"] < size * 0.05
        assert list(scratch_folder.iterdir()) == []


def test_only_an_archive_sees_across_whole_images(tmp_path: Path, scratch_folder: Path) -> None:
    random = Random(8)
    pages = [random_page(random) for _ in range(1024)]
    one = make_image(tmp_path / "one.mem", b"".join(pages))
    random.shuffle(pages)
    two = make_image(tmp_path / "two.mem", b"".join(pages))
    size = one.pages * PAGE_SIZE
    for archive in variants(whole_archive.find_bounds()):
        found = archive.function([one, two], scratch_folder, archive.parameters)
        assert size <= found["stored"] < size * 1.1
    for peer in variants(squashfs.find()):
        found = peer.function([one, two], scratch_folder, peer.parameters)
        assert found["stored"] >= 2 * size


@pytest.mark.usefixtures("host_as_before")
def test_nothing_stays_mounted_when_a_pass_fails(unreadable: Image, scratch_folder: Path) -> None:
    for peer in variants(btrfs.find()):
        with pytest.raises(FileNotFoundError):
            peer.function([unreadable], scratch_folder, peer.parameters)
        assert list(scratch_folder.iterdir()) == []


def test_an_archive_of_what_cannot_be_read_ends_at_once(
    unreadable: Image, scratch_folder: Path
) -> None:
    for peer in variants(whole_archive.find_bounds()):
        with pytest.raises(FileNotFoundError):
            peer.function([unreadable], scratch_folder, peer.parameters)


def test_a_program_that_complains_is_quoted(noise: Image, scratch_folder: Path) -> None:
    for peer in variants(whole_archive.find_bounds()):
        wrong = {**peer.parameters, "preset": "none", "level": "none"}
        with pytest.raises(EnvironmentProblem, match=r"(zstd|xz) exited with 1: \w"):
            peer.function([noise], scratch_folder, wrong)


def test_the_first_bound_is_the_peer() -> None:
    """So that its results are shared."""
    peers = variants(whole_archive.find())
    assert variants(whole_archive.find_bounds())[: len(peers)] == peers
