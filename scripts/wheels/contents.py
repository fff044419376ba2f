"""What source distributions and wheels have to have, and what they must not."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from wheels.running import WheelError, run
from wheels.sources import SOURCES

_SOURCE_HAS = (
    *("PKG-INFO", "LICENSE", "README.md", "pyproject.toml", "setup.py"),
    *("native/codec.c", "native/codec.h", "difffs/_kernels.pyx", "difffs/py.typed"),
    *("docs/man/difffs.1", "completion/bash/difffs", "completion/zsh/_difffs"),
    *("completion/fish/difffs.fish", "difffs/cli/main.py"),
)
_SOURCE_MAY_HAVE = (
    *("*.md", "LICENSE*", "PKG-INFO", "setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in"),
    *(
        "difffs/*.py",
        "difffs/*.pyx",
        "difffs/*.pxi",
        "difffs/*.pyi",
        "difffs/py.typed",
        "difffs.egg-info/*",
    ),
    *("native/*.c", "native/*.h", "docs/man/*", "completion/*"),
)
_MODULES = (
    *("difffs/_kernels", "difffs/study/_kernels"),
    *("difffs/mount/_answering", "difffs/refine/_likeness"),
)
_WHEEL_MAY_HAVE = (
    *("difffs/*.py", "difffs/*.pyi", "difffs/py.typed", "difffs/*.abi3.so"),
    *("difffs-*.dist-info/*", "difffs-*.data/data/share/*"),
)
_LIBRARY_NAMES = ("ZSTD_", "ZDICT_", "HUF_", "FSE_", "HIST_", "POOL_", "LZ4_", "XXH", "lzma_")


def _check(what: str, names: Iterable[str], must: Iterable[str], may: Iterable[str]) -> None:
    found = set(names)
    missing = [name for name in must if name not in found]
    strange = [name for name in sorted(found) if not any(fnmatch(name, one) for one in may)]
    if missing or strange:
        told = [*(f"lacks {name}" for name in missing), *(f"has {name}" for name in strange)]
        raise WheelError(f"{what} {', '.join(told)}")


def check_source_distribution(names: Iterable[str]) -> None:
    """Raises WheelError unless these files, below one folder, are what a wheel is made of."""
    inner = [name.partition("/")[2] for name in names]
    _check("the source distribution", inner, _SOURCE_HAS, _SOURCE_MAY_HAVE)


def check_wheel(wheel: Path) -> None:
    """Raises WheelError unless the wheel has all modules, manual, completion, licences; no more."""
    with zipfile.ZipFile(wheel) as content:
        names = [name for name in content.namelist() if not name.endswith("/")]
    (metadata,) = {
        name.partition("/")[0] for name in names if fnmatch(name, "*.dist-info/METADATA")
    }
    share = f"{metadata.removesuffix('.dist-info')}.data/data/share"
    must = [
        *(f"{name}.abi3.so" for name in _MODULES),
        *(f"{metadata}/licenses/LICENSE.{source.name}" for source in SOURCES),
        f"{metadata}/licenses/LICENSE",
        f"{share}/man/man1/difffs.1",
        f"{share}/bash-completion/completions/difffs",
    ]
    _check(wheel.name, names, must, _WHEEL_MAY_HAVE)


def check_modules(wheel: Path, folder: Path) -> None:
    """Raises WheelError when a module shows names of the libraries in it to others."""
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    for name in _MODULES:
        said = run(["nm", "-D", "--defined-only", folder / f"{name}.abi3.so"])
        shown = [word for word in said.split() if word.startswith(_LIBRARY_NAMES)]
        if shown:
            raise WheelError(f"{name} of {wheel.name} shows {', '.join(shown)}")
