"""The payload file."""

import os
from pathlib import Path
from random import Random

import pytest

from difffs.store import format as names
from tests.pages import random_page
from tests.stores import OpenStore, scratch


def test_reading_pages_leaves_the_access_time_alone() -> None:
    """A write of the inode for each run of reads would be one of the medium, too."""
    with scratch() as folder:
        opened = OpenStore(folder / "store")
        page = random_page(Random(1))
        volume = opened.new_volume("guest")
        opened.write(volume, 0, page)
        path = folder / "store" / names.PAYLOAD_FILE
        os.utime(path, ns=(0, 10**18))  # older than the last change: `relatime` would renew it
        assert opened.read(volume) == page
        assert path.stat().st_atime_ns == 0
        opened.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_who_does_not_own_the_file_reads_all_the_same(tmp_path: Path) -> None:
    """Only the owner may ask for access times to be left alone."""
    tmp_path.chmod(0o755)
    with scratch() as folder:
        folder.chmod(0o755)
        store = folder / "store"
        page = random_page(Random(1))
        with OpenStore(store) as opened:
            volume = opened.new_volume("guest")
            opened.write(volume, 0, page)
            opened.store.commit()
        for path in (store, *store.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o666)
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                with OpenStore(store) as opened:
                    assert opened.read(volume) == page
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
