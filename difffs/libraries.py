"""Which versions of the libraries are in use.

Only what is asked for is imported: the daemon has not all of it, and no command but ``--version``
has.
"""

import importlib.metadata
import platform
from collections.abc import Iterator

from difffs.errors import EnvironmentProblem

PACKAGES = ("lmdb", "mfusepy", "xxhash", "zstandard")
"""The Python packages that difffs cannot do without."""


def installed_version(package: str) -> str | None:
    """The version of a Python package, or None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def kernels_versions() -> dict[str, str]:
    """Return the versions of the C libraries that the page kernels call, by name.

    EnvironmentProblem when one of them is not there, so that the kernels cannot be loaded.
    """
    try:
        from difffs import _kernels
    except ImportError as error:
        raise EnvironmentProblem(f"the page kernels cannot be loaded: {error}") from error
    return _kernels.library_versions()


def lmdb_version() -> str:
    """Return the version of the LMDB in use. EnvironmentProblem when there is none."""
    try:
        import lmdb
    except ImportError as error:
        raise EnvironmentProblem(f"the Python package lmdb: {error}") from error
    return ".".join(map(str, lmdb.version()))


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that make what a store holds, by name."""
    found = kernels_versions()
    return {
        "libzstd": found["libzstd"],
        "liblz4": found["liblz4"],
        "liblzma": found["liblzma"],
        "lmdb": lmdb_version(),
        "python": platform.python_version(),
    }


def version_lines() -> Iterator[str]:
    """``NAME VERSION`` for each library, or why there is none; Python's packages are indented."""
    try:
        for name, version in kernels_versions().items():
            yield f"{name} {version}"
    except EnvironmentProblem as problem:
        yield str(problem)
    try:
        yield f"LMDB {lmdb_version()}"
    except EnvironmentProblem as problem:
        yield str(problem)
    try:
        from difffs.mount import binding

        yield f"libfuse {binding.package_version()}"
    except EnvironmentProblem as problem:
        yield str(problem)
    except ImportError as error:  # of the mount's own modules
        yield f"libfuse cannot be used: {error}"
    yield f"Python {platform.python_version()}"
    for package in PACKAGES:
        yield f"  {package} {installed_version(package) or 'is not installed'}"
