"""Small synthetic corpora for the study's sections, made once for all of their tests."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from difffs.study.cache import Cache
from difffs.study.context import Context
from difffs.study.corpus import Corpus, Image, group_by_folder
from difffs.study.executors.processes import Processes
from tests.pages import compressible_page, guest_pages, similar_page
from tests.stores import scratch

PAGES = 768
"""Of each image: 3 MiB."""
SAMPLE = 60


def clone(pages: list[bytes], random: Random) -> list[bytes]:
    """What another guest of the same installation holds: the same, similar and other pages."""
    made = []
    for page in pages:
        chance = random.random()
        if chance < 0.5:
            made.append(page)
        elif chance < 0.8:
            made.append(similar_page(page, random, random.randint(1, 40)))
        else:
            made.append(compressible_page(random))
    random.shuffle(made)
    return made


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folders `alike` (two clones) and `different` of *.mem files."""
    folder = tmp_path_factory.mktemp("images")
    first = guest_pages(Random(1), PAGES)
    images = {
        "alike/one": first,
        "alike/two": clone(first, Random(2)),
        "different/one": guest_pages(Random(3), PAGES),
        "different/two": guest_pages(Random(4), PAGES),
    }
    for name, pages in images.items():
        path = folder / f"{name}.mem"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(pages))
    return folder


@pytest.fixture(scope="session")
def corpora(image_folder: Path) -> list[Corpus]:
    """The corpora `alike` and `different`, two images of 3 MiB each."""
    return group_by_folder([Image.of(path) for path in sorted(image_folder.rglob("*.mem"))])


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of passes over the corpora, kept for all tests of a session: each is made once."""
    return tmp_path_factory.mktemp("study-cache")


@pytest.fixture
def scratch_folder() -> Iterator[Path]:
    """An empty folder, in memory where possible: what files occupy on disk can vary a little."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def context(corpora: list[Corpus], shared_cache: Path, scratch_folder: Path) -> Context:
    """Both corpora, two workers, small samples, and the cache of the session."""
    return Context(corpora, Cache(shared_cache), scratch_folder, Processes(2), sample=SAMPLE)
