"""Builds the native page kernels; everything else is in pyproject.toml.

DIFFFS_SANITIZE=address,undefined builds them with sanitizers. scripts/build-wheels sets two more:

DIFFFS_STATIC=FOLDER links libzstd, liblz4 and liblzma from FOLDER/lib/*.a (headers:
FOLDER/include) into the modules, with their names hidden: another module's libzstd in the same
process is neither used nor disturbed. Without it they are the system's.

DIFFFS_ABI3=1 keeps to Python's stable ABI: one module for CPython 3.11 and all later ones.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.byteorder != "little":
    sys.exit("difffs keeps its index in little-endian structures and builds on such machines only")

compile_arguments = [
    "-std=gnu11",
    "-O3",
    "-Wall",
    "-Wextra",
    # Cython's generated code compares signs freely and leaves parameters unused.
    "-Wno-sign-compare",
    "-Wno-unused-parameter",
]
link_arguments: list[str] = []
sanitizers = os.environ.get("DIFFFS_SANITIZE")
if sanitizers:
    compile_arguments += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g", "-O1"]
    link_arguments += [f"-fsanitize={sanitizers}"]

include_folders = ["native"]
archives: list[str] = []
static = os.environ.get("DIFFFS_STATIC")
if static:
    include_folders.append(str(Path(static, "include")))
    archives = [str(Path(static, "lib", f"lib{name}.a")) for name in ("zstd", "lz4", "lzma")]
    compile_arguments += ["-ffunction-sections", "-fdata-sections"]
    link_arguments += ["-Wl,--gc-sections"]

stable_abi = os.environ.get("DIFFFS_ABI3") == "1"
LEAST_PYTHON = (3, 11)  # whose stable ABI has buffers
macros: list[tuple[str, str | None]] = []
if stable_abi:
    macros.append(("Py_LIMITED_API", f"0x{LEAST_PYTHON[0]:02x}{LEAST_PYTHON[1]:02x}0000"))
wheel_options = {"py_limited_api": "cp{}{}".format(*LEAST_PYTHON)} if stable_abi else {}


def extension(module: str, sources: list[str], libraries: list[str]) -> Extension:
    """A module in Cython, bound from files of native/."""
    return Extension(
        module,
        sources=[
            f"{module.replace('.', '/')}.pyx",
            *(f"native/{name}.c" for name in sources),
        ],
        depends=[
            "native/binary_coder.h",
            "native/symbol_coder.h",
            "native/data_path.h",
            "difffs/_volume_pages.pxi",
            *(f"native/{name}.h" for name in sources),
        ],
        include_dirs=include_folders,
        define_macros=macros,
        py_limited_api=stable_abi,
        libraries=[*([] if static else libraries), "pthread"],
        extra_objects=archives if libraries else [],
        extra_compile_args=compile_arguments,
        extra_link_args=link_arguments,
    )


codecs = ["page", "codec", "vcdiff", "xbzrle", "page_bsdiff", "bwt", "range_coder"]
pages = ["key_map", "page_tables", "write_buffer", "volume_pages"]
files = ["lmdb_check", "mapped_files"]
groups = ["group_codec", "group_cache"]
compression = ["zstd", "lz4"]
extensions = [
    extension(
        "difffs._kernels",
        [*codecs, *groups, *pages, *files, "tables", "number_set", "extents", "router"],
        [*compression, "lzma"],
    ),
    extension("difffs.refine._likeness", ["likeness", "page_features"], []),
    # what only the study needs, so that the daemon does not carry it
    extension(
        "difffs.study._kernels",
        ["page_features", "feature_index", "overlap", *codecs],
        compression,
    ),
    extension("difffs.mount._answering", ["answering", "request_times"], []),
]
setup(
    ext_modules=cythonize(extensions, compiler_directives={"language_level": "3"}),
    options={"bdist_wheel": wheel_options},
)
