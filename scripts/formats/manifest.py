"""``manifest.json``: what was written, by which program, and which raw memory belongs to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file with a guest's memory."""

    file: str
    """Relative to the manifest's folder."""
    format: str
    """``raw`` or the name of a format in ``formats.plan``; ``save-FORMAT`` for libvirt's."""
    program: str
    """``QEMU`` or ``libvirt``."""
    version: str
    guest: str
    """Files with the same word here are of one boot of one guest."""
    pause: int
    """1 or 2: the guest worked in between."""
    raw: str
    """The raw memory of the same pause, relative to the manifest's folder."""
    bytes: int
    """Length of the file; a sparse one takes less room."""
    sha256: str
    seconds: float
    """That writing took."""


class ManifestError(Exception):
    """A folder has a manifest that cannot be added to; the text says why."""


class Manifest:
    """The records of a folder, by file name; written anew after every file."""

    def __init__(self, folder: Path, about: Mapping[str, object]) -> None:
        """Read ``manifest.json`` of ``folder`` where it is there.

        ``about`` holds for all files of a folder: ManifestError when those that are there were made
        otherwise, or when the manifest is damaged.
        """
        self._folder = folder
        self._about = dict(about)
        self._records: dict[str, FileRecord] = {}
        path = folder / FILE_NAME
        try:
            text = path.read_text()
        except FileNotFoundError:
            return
        try:
            content = json.loads(text)
            there = {key: content[key] for key in ("schema_version", *self._about)}
            names = [field.name for field in fields(FileRecord)]
            for values in content["files"]:
                self._put(FileRecord(**{name: values[name] for name in names}))
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{path} is damaged ({error!r}): remove it") from None
        wanted = {"schema_version": SCHEMA_VERSION, **self._about}
        if there != wanted:
            raise ManifestError(f"{path} is about {there}, not {wanted}: use another folder")

    @property
    def records(self) -> list[FileRecord]:
        """What is known about each file, in the order of their names."""
        return [self._records[name] for name in sorted(self._records)]

    def add(self, record: FileRecord) -> None:
        """Note a file, in place of one of the same name."""
        self._put(record)
        self._write()

    def forget(self, guest: str) -> None:
        """Remove all files of a guest: those of another boot would not belong to the new ones."""
        gone = [record.file for record in self._records.values() if record.guest == guest]
        for name in gone:
            (self._folder / name).unlink(missing_ok=True)
            del self._records[name]
        if gone:
            self._write()

    def text(self) -> str:
        """Return the manifest as it is written."""
        files = [asdict(record) for record in self.records]
        content = {"schema_version": SCHEMA_VERSION, **self._about, "files": files}
        return json.dumps(content, indent=1) + "\n"

    def _put(self, record: FileRecord) -> None:
        if Path(record.file).name != record.file:
            raise ValueError(f"no name of a file here: {record.file!r}")
        self._records[record.file] = record

    def _write(self) -> None:
        partial = self._folder / "manifest.partial"
        with partial.open("w") as file:
            file.write(self.text())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._folder / FILE_NAME)
