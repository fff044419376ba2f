"""``manifest.json``: what was collected, written anew after every image."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from collection.plan import Member

SCHEMA_VERSION = 1
PAGE_SIZE = 4096
_BLOCK = 1 << 20
_ZEROS = bytes(PAGE_SIZE)


class ManifestError(Exception):
    """The manifest cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of a guest's memory and where it comes from."""

    file: str
    """Relative to the manifest's folder."""
    corpus: str
    sha256: str
    release: str
    codename: str
    kernel: str
    workload: str
    parameters: dict[str, Any]
    rounds: int
    """Of the workload that the guest had finished."""
    seconds: float
    """That the guest had run when it was paused, its boot included."""
    mebibytes: int
    zero_page_share: float
    accelerator: str
    qemu: str


def read_image(path: Path) -> tuple[str, float]:
    """Return an image's SHA-256, and the share of its pages that hold only zero bytes."""
    digest = hashlib.sha256()
    pages = zeros = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            for at in range(0, len(block), PAGE_SIZE):
                pages += 1
                zeros += block[at : at + PAGE_SIZE] == _ZEROS[: len(block) - at]
    return digest.hexdigest(), zeros / max(1, pages)


class Manifest:
    """The records of a folder, by file name. Threads may add to it."""

    def __init__(self, folder: Path) -> None:
        """Read ``manifest.json`` of ``folder`` when it is there; ManifestError when it is bad."""
        self.path = folder / "manifest.json"
        self._lock = threading.Lock()
        self._records: dict[str, ImageRecord] = {}
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return
        try:
            content = json.loads(text)
            if content["schema_version"] != SCHEMA_VERSION:
                raise ManifestError(
                    f"{self.path} has schema {content['schema_version']}, this program knows "
                    f"{SCHEMA_VERSION}: collect into another folder"
                )
            names = [field.name for field in fields(ImageRecord)]
            for values in content["images"]:
                record = ImageRecord(**{name: values[name] for name in names})
                self._records[record.file] = record
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(
                f"{self.path} is damaged ({error!r}): remove it to collect anew"
            ) from None

    def add(self, records: Iterable[ImageRecord]) -> None:
        """Add records, or replace those of the same files, and write all to disk."""
        with self._lock:
            self._records.update({record.file: record for record in records})
            self._write()

    def remove(self, files: Iterable[str]) -> None:
        """Forget images."""
        with self._lock:
            for file in files:
                self._records.pop(file, None)
            self._write()

    def _write(self) -> None:
        partial = self.path.with_suffix(".partial")
        with partial.open("w") as file:
            file.write(self.text())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def text(self) -> str:
        """Return the manifest as it is written."""
        images = [asdict(self._records[file]) for file in sorted(self._records)]
        return json.dumps({"schema_version": SCHEMA_VERSION, "images": images}, indent=1) + "\n"

    def record(self, file: str) -> ImageRecord | None:
        """Return what is known about an image."""
        return self._records.get(file)

    def has(self, member: Member, verify: bool = False) -> bool:
        """Whether all images of a guest are there, in full, and made as the plan wants them.

        With ``verify`` their contents are read and compared with the recorded sums.
        """
        return all(self._is_there(member, file, verify) for file in member.files)

    def _is_there(self, member: Member, file: str, verify: bool) -> bool:
        record = self._records.get(file)
        if record is None:
            return False
        path = self.path.parent / file
        wanted = (member.system.release, member.work, member.parameters)
        if (record.release, record.workload, record.parameters) != wanted:
            return False
        try:
            if path.stat().st_size != record.mebibytes << 20:
                return False
            return not verify or read_image(path)[0] == record.sha256
        except FileNotFoundError:
            return False
