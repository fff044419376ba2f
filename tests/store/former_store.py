"""A store that the last difffs with format 1 made, and what is in it (version-1/).

It has patches upon patches and of both kinds that recipes make, words, raw pages, lz4, zstd with
and without dictionary, the range coder, an object of 8,000 pages, holes, directories, a link, an
image of two volumes, dead payloads and a rewritten extent.
"""

import json
import lzma
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

from difffs.page import PAGE_SIZE, page_count
from difffs.store import Store

HERE = Path(__file__).parent / "version-1"
IMAGE = "/ram.lime"
CONTENTS: dict[str, Any] = json.loads((HERE / "contents.json").read_text())


def unpack(folder: Path) -> Path:
    """The store, in a folder. Not with tar's -J: a minimal Debian has no xz."""
    packed = (HERE / "store.tar.xz").read_bytes()
    subprocess.run(["tar", "-C", folder, "-xf", "-"], input=lzma.decompress(packed), check=True)
    return folder / "version-1"


def volumes_of(store: Store) -> dict[str, str]:
    """SHA-256 of every volume, by path."""
    found = {}
    for inode in store.namespace:
        if inode.is_volume and inode.nlink:
            digest, pages = sha256(), page_count(inode.size)
            for first in range(0, pages, 256):
                count = min(256, pages - first)
                out = bytearray(count * PAGE_SIZE)
                store.read_pages(inode.number, first, count, out)
                digest.update(out[: inode.size - first * PAGE_SIZE])
            found[store.namespace.path(inode.number)] = digest.hexdigest()
    return found


def expected_volumes() -> dict[str, str]:
    """What volumes_of must tell."""
    return {
        path: facts["sha256"]
        for path, facts in CONTENTS["names"].items()
        if "sha256" in facts and path != IMAGE
    }
