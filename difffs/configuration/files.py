"""Where the configuration is, and in which order its files are read.

As systemd's own files and zram-generator's: of ``difffs.conf``, the first in the order of
:data:`FOLDERS` counts. Then come all of ``difffs.conf.d/*.conf``, by their names, whatever folder
they lie in; of two with the same name the one in the earlier folder counts, so that an empty file,
or a link to /dev/null, takes one of a package away. What is read later replaces single keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from difffs.configuration.syntax import Section, decode, parse
from difffs.errors import ConfigurationProblem

FOLDERS = ("etc", "run", "usr/local/lib", "usr/lib")
"""Below the root directory; the machine's own first, what packages bring last."""

NAME = "difffs.conf"


@dataclass(frozen=True, slots=True)
class Files:
    """What was read: the files, and their sections laid over each other."""

    paths: tuple[Path, ...]
    sections: dict[tuple[str, str], Section]
    """By kind and name, in the order in which they first appear."""


def configuration_files(root: Path = Path("/")) -> list[Path]:
    """Return the files that count, in the order in which they are read."""
    folders = [root / folder for folder in FOLDERS]
    main = next((folder / NAME for folder in folders if _is_there(folder / NAME)), None)
    pieces: dict[str, Path] = {}
    for folder in folders:
        for path in _entries(folder / f"{NAME}.d"):
            if path.suffix == ".conf" and not path.name.startswith("."):
                pieces.setdefault(path.name, path)
    return [*([main] if main is not None else []), *(pieces[name] for name in sorted(pieces))]


def read(paths: Iterable[Path]) -> Files:
    """Read files, each over those before it. ``ConfigurationProblem``."""
    read_paths, sections = [], dict[tuple[str, str], Section]()
    for path in paths:
        read_paths.append(path)
        for section in parse(decode(_content(path), path), path):
            known = sections.setdefault((section.kind, section.name), section)
            if known is not section:
                known.values.update(section.values)
    return Files(tuple(read_paths), sections)


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigurationProblem(
            f"{folder} cannot be read: {error.strerror}; mend its mode, or run this as root"
        ) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationProblem(
            f"{path} cannot be read: {error.strerror}; mend or remove it"
        ) from None
