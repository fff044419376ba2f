"""What results depend on beside images and parameters: difffs, to the last byte of its modules,
and the libraries that sizes depend on. Workers of a cluster have to have the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import difffs
from difffs.libraries import library_versions

_LIBRARIES = ("libzstd", "liblz4", "liblzma")
_PACKAGES = ("bsdiff4", "numpy")


@cache
def installation() -> Mapping[str, str]:
    """Return names and versions."""
    libraries = library_versions()
    return {
        "difffs": difffs.__version__,
        **{name: libraries[name] for name in _LIBRARIES if name in libraries},
        **{name: metadata.version(name) for name in _PACKAGES},
        "difffs' modules": _digest_of_modules(),
    }


def difference(expected: Mapping[str, str]) -> str:
    """Return in words where this installation is another one; empty when it is the same."""
    found = installation()
    for name, version in expected.items():
        if found.get(name) != version:
            return f"{name} {found.get(name, 'is missing')} and not {version}"
    return ""


def _digest_of_modules() -> str:
    folder = Path(difffs.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
