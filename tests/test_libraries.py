"""The versions that difffs names are those that are loaded."""

import ctypes
import ctypes.util

from difffs.libraries import library_versions


def test_versions() -> None:
    found = library_versions()
    assert set(found) <= {"libzstd", "liblz4", "lmdb", "python"}
    assert all(version.split(".")[0].isdigit() for version in found.values())
    name = ctypes.util.find_library("zstd")
    if "libzstd" in found and name:
        library = ctypes.CDLL(name)
        library.ZSTD_versionString.restype = ctypes.c_char_p
        assert found["libzstd"] == library.ZSTD_versionString().decode()
