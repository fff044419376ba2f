"""libzstd, liblz4 and liblzma as archives that setup.py links into the modules (DIFFFS_STATIC)."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wheels.running import run
from wheels.sources import LZ4, SOURCES, XXHASH, XZ, ZSTD, fetched, unpacked

# No name of the libraries leaves the module: with their own macros they would be visible.
_ARGUMENTS = (
    *("-O3", "-fPIC", "-ffunction-sections", "-fdata-sections", "-fvisibility=hidden"),
    *("-DZSTDLIB_VISIBLE=", "-DZDICTLIB_VISIBLE=", "-DZSTDERRORLIB_VISIBLE="),
    *("-DLZ4LIB_VISIBILITY=", "-DXXH_NAMESPACE=ZSTD_", "-DZSTD_LEGACY_SUPPORT=0"),
)
_ZSTD_FOLDERS = ("common", "compress", "decompress", "dictBuilder")

# What is called of liblzma: raw LZMA1, encoded and decoded by one thread. No containers, other
# filters, checks or threads.
_LZMA_FILES = (
    *("check/crc32_fast", "common/common", "common/filter_common", "common/filter_decoder"),
    *("common/filter_encoder", "common/filter_buffer_encoder", "lz/lz_decoder", "lz/lz_encoder"),
    *("lz/lz_encoder_mf", "lzma/fastpos_table", "lzma/lzma_decoder", "lzma/lzma_encoder"),
    *("lzma/lzma_encoder_optimum_fast", "lzma/lzma_encoder_optimum_normal"),
    *("lzma/lzma_encoder_presets", "rangecoder/price_table"),
)
_LZMA_INCLUDES = (
    *("liblzma/api", "liblzma/common", "liblzma/check", "liblzma/lz", "liblzma/lzma"),
    *("liblzma/rangecoder", "liblzma/simple", "liblzma/delta", "common"),
)
_LZMA_MATCH_FINDERS = ("HC3", "HC4", "BT2", "BT3", "BT4")
# Instead of its configure: what that finds on Linux with gcc. It would set HAVE_VISIBILITY too,
# by which the names are visible.
_LZMA_ARGUMENTS = (
    *("-DNDEBUG", "-DHAVE_INTTYPES_H", "-DHAVE_STDINT_H", "-DHAVE_STDBOOL_H"),
    *("-DHAVE___BUILTIN_BSWAPXX", "-DHAVE___BUILTIN_ASSUME_ALIGNED"),
    *("-DHAVE_ENCODER_LZMA1", "-DHAVE_DECODER_LZMA1"),
    *(f"-DHAVE_MF_{name}" for name in _LZMA_MATCH_FINDERS),
    *(["-DTUKLIB_FAST_UNALIGNED_ACCESS"] if platform.machine() in ("x86_64", "aarch64") else []),
)


def _archive(
    sources: Sequence[Path], objects: Path, archive: Path, arguments: Sequence[str] = ()
) -> None:
    compiler = os.environ.get("CC", "cc")
    objects.mkdir(parents=True)
    made = [objects / f"{source.stem}.o" for source in sources]

    def compile_one(source: Path, to: Path) -> None:
        run([*compiler.split(), "-c", *_ARGUMENTS, *arguments, source, "-o", to])

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
    zstd, lz4, xz = trees[ZSTD] / "lib", trees[LZ4] / "lib", trees[XZ] / "src"
    for header in (
        *(zstd / "zstd.h", zstd / "zstd_errors.h", zstd / "zdict.h"),
        *(lz4 / "lz4.h", xz / "liblzma/api/lzma.h", trees[XXHASH] / "xxhash.h"),
    ):
        shutil.copy(header, folder / "include")
    shutil.copytree(xz / "liblzma/api/lzma", folder / "include/lzma")
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
    _archive(
        [xz / f"liblzma/{name}.c" for name in _LZMA_FILES],
        folder / "objects/lzma",
        folder / "lib/liblzma.a",
        [*_LZMA_ARGUMENTS, *(f"-I{xz / name}" for name in _LZMA_INCLUDES)],
    )
    return folder
