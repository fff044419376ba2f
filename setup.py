"""Builds the native page kernels; everything else is in pyproject.toml.

DIFFFS_SANITIZE=address,undefined builds them with sanitizers.
"""

import os
import sys

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


def extension(module: str, sources: list[str]) -> Extension:
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
        include_dirs=["native"],
        libraries=["zstd", "lz4", "pthread"],
        extra_compile_args=compile_arguments,
        extra_link_args=link_arguments,
    )


codecs = ["page", "codec", "vcdiff", "xbzrle", "page_bsdiff", "bwt", "range_coder"]
pages = ["key_map", "page_tables", "write_buffer", "volume_pages"]
extensions = [
    extension(
        "difffs._kernels",
        [*codecs, *pages, "tables", "extents", "router"],
    ),
    # what only the study needs, so that the daemon does not carry it
    extension("difffs.study._kernels", ["page_features", "feature_index", "overlap", *codecs]),
    extension("difffs.mount._answering", ["answering", "request_times"]),
]
setup(ext_modules=cythonize(extensions, compiler_directives={"language_level": "3"}))
