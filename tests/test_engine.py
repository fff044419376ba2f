"""The engine's threads: what reads may wait for, and which batch is whose."""

import threading
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import BATCH_PAGES
from difffs.errors import StoreFull
from difffs.store import store as store_module
from tests.pages import PAGE, guest_memory
from tests.stores import OpenStore


def test_a_large_read_does_not_wait_for_what_is_encoded(tmp_path: Path) -> None:
    """It held the store's lock while it waited behind a slice of a batch: 0.7 s with `archive`."""
    opened = OpenStore(tmp_path / "s", workers=2)
    volume = opened.new_volume("a", 300)
    content = guest_memory(1, 300)
    opened.write(volume, 0, content)
    opened.engine.commit()
    end = threading.Event()
    assert opened.engine._pool is not None
    encoding = opened.engine._pool.submit(end.wait, 60)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(opened.read(volume, 0, 300)))
    reader.start()
    reader.join(30)
    assert not encoding.done()
    end.set()
    reader.join()
    assert found == [content]
    opened.close()


def test_other_pages_than_were_announced_are_refused(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s", workers=2)
    first, announced, other = (
        bytearray(Random(seed).randbytes(BATCH_PAGES * PAGE)) for seed in (1, 2, 3)
    )
    # so that the dictionary is trained, which takes the first batches without another ahead
    opened.write(opened.new_volume("a", 4 * BATCH_PAGES), 0, guest_memory(1, 4 * BATCH_PAGES))
    engine = opened.engine
    engine._trainer = None
    engine.route(first, memoryview(announced))
    with pytest.raises(RuntimeError, match="other pages"):
        engine.route(other)
    opened.store.abandon()
    engine.close()


def test_there_are_so_many_extents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number beyond would wrap around in an id, and name another extent's objects."""
    opened = OpenStore(tmp_path / "s", "identical-only")
    volume = opened.new_volume("a", 3000)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "EXTENT_LIMIT", 3)
        with pytest.raises(StoreFull, match="as many extents as there can be"):
            opened.write(volume, 0, Random(1).randbytes(3000 * PAGE))
    opened.engine.commit()
    assert opened.store.extents.count <= 3
    pages = Random(1).randbytes(3000 * PAGE)
    opened.write(volume, 0, pages)
    assert opened.read(volume, 0, 3000) == pages
    assert opened.store.check() == []
    opened.close()
