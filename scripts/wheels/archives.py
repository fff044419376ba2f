"""libzstd and liblz4 as archives that setup.py links into the modules (DIFFFS_STATIC)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wheels.running import run
from wheels.sources import LZ4, SOURCES, XXHASH, ZSTD, fetched, unpacked

# No name of the libraries leaves the module: with their own macros they would be visible.
_ARGUMENTS = (
    *("-O3", "-fPIC", "-ffunction-sections", "-fdata-sections", "-fvisibility=hidden"),
    *("-DZSTDLIB_VISIBLE=", "-DZDICTLIB_VISIBLE=", "-DZSTDERRORLIB_VISIBLE="),
    *("-DLZ4LIB_VISIBILITY=", "-DXXH_NAMESPACE=ZSTD_", "-DZSTD_LEGACY_SUPPORT=0"),
)
_ZSTD_FOLDERS = ("common", "compress", "decompress", "dictBuilder")


def _archive(sources: Sequence[Path], objects: Path, archive: Path) -> None:
    compiler = os.environ.get("CC", "cc")
    objects.mkdir(parents=True)
    made = [objects / f"{source.stem}.o" for source in sources]

    def compile_one(source: Path, to: Path) -> None:
        run([*compiler.split(), "-c", *_ARGUMENTS, source, "-o", to])

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(compile_one, sources, made))
    run([os.environ.get("AR", "ar"), "rcs", archive, *made])


def build_archives(downloads: Path, folder: Path) -> Path:
    """Make ``folder`` with ``include``, ``lib`` and ``licences``; return it. Raises WheelError."""
    trees = {
        source: unpacked(fetched(source, downloads), folder / "sources" / source.name)
        for source in SOURCES
    }
    for name in ("include", "lib", "licences"):
        (folder / name).mkdir()
    for source, tree in trees.items():
        shutil.copy(tree / source.licence, folder / "licences" / f"LICENSE.{source.name}")
    zstd, lz4 = trees[ZSTD] / "lib", trees[LZ4] / "lib"
    for header in (
        *(zstd / "zstd.h", zstd / "zstd_errors.h", zstd / "zdict.h"),
        *(lz4 / "lz4.h", trees[XXHASH] / "xxhash.h"),
    ):
        shutil.copy(header, folder / "include")
    _archive(
        [
            *(file for name in _ZSTD_FOLDERS for file in sorted((zstd / name).glob("*.c"))),
            # the decoder of Huffman codes for processors with BMI2; empty for other processors
            zstd / "decompress/huf_decompress_amd64.S",
        ],
        folder / "objects/zstd",
        folder / "lib/libzstd.a",
    )
    _archive([lz4 / "lz4.c"], folder / "objects/lz4", folder / "lib/liblz4.a")
    return folder
