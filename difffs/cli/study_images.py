"""The images of a study: which there are, and room for what is made of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from difffs.cli.importing import FormatChoice
from difffs.cli.report import printable
from difffs.errors import NO_ROOM, UsageError
from difffs.image import STDIN, ImageReader
from difffs.images.format import Format, NotThisFormat
from difffs.progress import Progress
from difffs.size import format_size
from difffs.standard_streams import output_problem
from difffs.study.corpus import Corpus, Image, Origin, corpus_name, group_by_folder
from difffs.study.guest_memory import take_memory

_SUFFIX = ".mem"
_ROOM = 1.25
"""Scratch room in multiples of the largest corpus: of passes that fill as much, only one runs."""


def find_images(given: Sequence[Path]) -> list[Path]:
    """Return the files that are given, and the images in and below folders. UsageError when there
    is none in one."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob(f"*{_SUFFIX}") if p.is_file())
            if not inside:
                raise UsageError(f"no *{_SUFFIX} in or below {path}: name images")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def prepared(
    paths: Sequence[Path], chosen: Path | None, workers: int, choice: FormatChoice
) -> Iterator[tuple[Path, list[Corpus]]]:
    """Yield a folder with room for stores, for the largest corpus or half of it for each worker,
    and the corpora; of images whose format is known the guest's memory is in the folder. It is
    removed at the end."""
    forms = [(path, _form(path, choice)) for path in paths]
    problem: UsageError | None = None
    for place in [chosen] if chosen else _places():
        try:
            shutil.disk_usage(place)
        except OSError as error:
            if chosen:
                raise UsageError(f"--scratch {place}: {error.strerror}; name a folder") from None
            continue
        with tempfile.TemporaryDirectory(prefix="difffs-study-", dir=place) as own:
            given = [_Given(path, form) for path, form in forms]
            try:
                _take_memories(given, Path(own), workers)
            except _NoRoomError as error:
                problem = error
                continue
            images = _described(given)
            _tell_notes(images)
            yield Path(own), group_by_folder(images)
            return
    raise problem or UsageError("no folder for stores: name one with --scratch")


def _places() -> list[Path]:
    return [Path("/dev/shm"), Path(tempfile.gettempdir())]


class _NoRoomError(UsageError):
    """A scratch folder is too small."""


@dataclass(slots=True)
class _Given:
    """An image as it was given."""

    path: Path
    form: Format | None
    """None: its bytes are the memory."""
    origin: Origin | None = None
    """Of one that has been read, or tried to."""
    memory: Path | None = None
    """Where its memory is then."""

    @property
    def is_pending(self) -> bool:
        """Whether its memory is to be taken out of it yet."""
        return self.form is not None and self.origin is None

    @property
    def size(self) -> int:
        """Bytes of memory; of one that is pending, what its file occupies, which is a guess."""
        try:
            status = os.stat(self.memory or self.path)
        except OSError:
            return 0  # whoever reads it says why
        return min(status.st_size, status.st_blocks * 512) if self.is_pending else status.st_size


def _open(path: Path) -> ImageReader:
    name = str(path)
    return ImageReader.open(os.path.join(os.curdir, name) if name == STDIN else name)


def _form(path: Path, choice: FormatChoice) -> Format | None:
    if not path.is_file():
        return None  # whoever reads it says what it is
    with contextlib.closing(_open(path)) as image:
        return choice.form(image)


def _require_room(given: Sequence[_Given], folder: Path, workers: int) -> None:
    corpora: Counter[str] = Counter()
    for each in given:
        corpora[corpus_name(each.path)] += each.size
    stores = max(corpora.values()) * _ROOM * max(1, workers / 2)
    needed = int(stores) + sum(each.size for each in given if each.is_pending)
    if shutil.disk_usage(folder).free < needed:
        raise _NoRoomError(
            f"no room for stores: {format_size(needed)} are needed; name a folder with --scratch"
        )


def _take_memories(given: Sequence[_Given], folder: Path, workers: int) -> None:
    """Write the memory of images whose format is known into the folder."""
    # Looked at each time: how much memory is in a file shows only when it is read.
    _require_room(given, folder, workers)
    for number, each in enumerate(given):
        if each.form is not None:
            _take_memory(each, each.form, folder / f"memory-{number}{_SUFFIX}")
            _require_room(given, folder, workers)


def _take_memory(each: _Given, form: Format, into: Path) -> None:
    with (
        contextlib.closing(_open(each.path)) as image,
        Progress(f"memory of {printable(each.path.name)}", image.size or 0) as progress,
    ):
        try:
            each.origin = take_memory(image, form, into, progress)
            each.memory = into
        except NotThisFormat as other:
            each.origin = Origin(each.path, notes=(f"{other}; its bytes are studied as they are",))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise output_problem(str(into), error) from None
            raise _NoRoomError(
                f"no room for the memory of {each.path}; name a folder with --scratch"
            ) from None


def _described(given: Sequence[_Given]) -> list[Image]:
    images = []
    with Progress("reading images", len(given), unit="images") as progress:
        for each in given:
            images.append(Image.of(each.memory or each.path, each.origin))
            progress.advance(1)
    return images


def _tell_notes(images: Sequence[Image]) -> None:
    for image in images:
        for note in image.origin.notes:
            print(f"difffs: {printable(str(image.origin.file))}: {note}", file=sys.stderr)
