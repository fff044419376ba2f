"""Which versions of the libraries are in use: those that the page kernels call, and LMDB."""

import ctypes
import platform


def library_versions() -> dict[str, str]:
    """Return the libraries' versions by name; one that does not tell its own is left out."""
    import lmdb

    from difffs import _kernels

    found = {}
    # The kernels' own handle, so that it is the library that they call, wherever it was found.
    kernels = ctypes.CDLL(_kernels.__file__)
    for name, function in (("libzstd", "ZSTD_versionString"), ("liblz4", "LZ4_versionString")):
        try:
            version = getattr(kernels, function)
        except AttributeError:  # linked into the kernels, and not to be seen from outside
            continue
        version.argtypes, version.restype = (), ctypes.c_char_p
        found[name] = version().decode()
    found["lmdb"] = ".".join(map(str, lmdb.version()))
    found["python"] = platform.python_version()
    return found
