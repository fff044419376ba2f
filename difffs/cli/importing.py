"""Making volumes of images: plain ones, and those whose format is known."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from difffs.cli.report import printable
from difffs.engine import Engine
from difffs.errors import DifffsError, UsageError, VolumeExists
from difffs.image import ImageReader
from difffs.images.format import PREFIX_BYTES, Format, NotThisFormat
from difffs.images.formats import (
    FORMAT_NAMES,
    compression_of,
    format_named,
    format_of,
    format_of_size,
)
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.progress import Progress
from difffs.store.failures import explained
from difffs.store.inode import NAME_MAXIMUM, Inode, encode_name
from difffs.store.namespace import Namespace
from difffs.store.page_tables import ZERO

if TYPE_CHECKING:
    # A plain image needs none of what these bring along.
    from difffs.images.source import Source
    from difffs.stored_image.assembly import StoredAssembly

MEMORY_SUFFIX = ".ram"
"""What the name of an image's memory ends with."""

RAW = "raw"

# The holes of a sparse image are pages of zeros like those that it holds as data: the figures must
# not depend on how the image was copied. Page tables of zeros take 1 MB a GiB, which is nothing
# beside an image of memory; a larger file is something else, and keeps its holes.
_LARGEST_DENSE_IMAGE = 1 << 40

_COMMIT_EVERY = 256
"""Changed index pages (some 200 MiB of image) at which a commit is made in between: what waits for
the disk stays small, and the end of a long import is no long wait."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image and the volume that it becomes; all paths begin with a slash."""

    image: str
    path: str


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """What the images are: as their contents say, or as somebody does."""

    detected: bool
    named: Format | None
    """None: plain, where nothing is detected."""
    unpacks: bool
    """Whether compressed images are unpacked."""

    @classmethod
    def of(cls, name: str | None, *, as_is: bool) -> "FormatChoice":
        """What --format and --as-is say. UsageError for an unknown name, or both."""
        if name is None:
            return cls(detected=not as_is, named=None, unpacks=not as_is)
        if as_is:
            raise UsageError("--as-is and --format contradict each other: which one?")
        if name == RAW:
            return cls(detected=False, named=None, unpacks=True)
        if name not in FORMAT_NAMES:
            known = ", ".join([RAW, *FORMAT_NAMES])
            raise UsageError(f"--format {name}: there is no such format; there are {known}")
        return cls(detected=False, named=format_named(name), unpacks=True)

    def form(self, image: ImageReader) -> Format | None:
        """The format of an image, None for a plain one; to be asked before it is read."""
        if not self.unpacks:
            return None
        prefix = image.peek(PREFIX_BYTES)
        compression = compression_of(prefix)
        if compression is not None:
            from difffs.images.packed import packed_format

            return packed_format(compression, self._inside)
        form = self._inside(prefix)
        if self.named is not None and not self.named.is_like(prefix):
            raise UsageError(
                f"image {image.name} is no {self.named.title}, by its first bytes: leave out"
                " --format"
            )
        if form is None and self.detected and image.size and image.read_at is not None:
            return format_of_size(image.size, image.read_at)
        return form

    def _inside(self, prefix: memoryview) -> Format | None:
        return format_of(prefix) if self.detected else self.named


# ---- names -----------------------------------------------------------------------------------


def require_free(names: Namespace, path: str, *, form: Format | None = None) -> None:
    """Raise ``VolumeExists`` or ``UsageError`` when there cannot be a volume of that name; with a
    format, nor one for its memory."""
    if form is not None:
        memory_path(path)
        _require_free(names, path)
        _require_free(names, path + MEMORY_SUFFIX, what=f", the name of {path[1:]}'s memory,")
        return
    _require_free(names, path)


def _require_free(names: Namespace, path: str, what: str = "") -> None:
    if names.exists(path):
        raise VolumeExists(
            f"{path[1:]}{what} is in the store already: choose another name (--as NAME) or remove"
            " it"
        )
    directory = os.path.dirname(path)
    while not names.exists(directory):
        directory = os.path.dirname(directory)
    if not names.lookup(directory).is_directory:
        raise UsageError(
            f"{path[1:]} cannot be made: {directory[1:]} is no directory; choose another name"
        )


def memory_path(path: str) -> str:
    """The path of an image's memory. ``UsageError`` when that is too long."""
    name = os.path.basename(path) + MEMORY_SUFFIX
    if len(encode_name(name)) > NAME_MAXIMUM:
        raise UsageError(
            f"{path[1:41]}...{MEMORY_SUFFIX}, its memory's name, is too long: choose a shorter one"
            " with --as NAME"
        )
    return path + MEMORY_SUFFIX


def _make_directories(names: Namespace, path: str, domain: int | None) -> list[str]:
    """Make the directories that are missing, for files of a domain; return them, outermost
    first."""
    made = []
    parts = path.strip("/").split("/") if path.strip("/") else []
    for depth in range(1, len(parts) + 1):
        directory = "/" + "/".join(parts[:depth])
        if not names.exists(directory):
            names.mkdir(directory, 0o755, os.getuid(), os.getgid(), domain)
            made.append(directory)
    return made


@contextlib.contextmanager
def _linked(engine: Engine, links: dict[str, Inode]) -> Iterator[None]:
    """Give orphans their names, and commit after the block; or take everything back."""
    store = engine.store
    made: list[str] = []
    try:
        with store.lock:
            path, inode = next(iter(links.items()))
            made = _make_directories(store.namespace, os.path.dirname(path), inode.domain)
            for path, inode in links.items():
                store.namespace.link(inode.number, path)
        yield
        engine.commit()
    except Exception:
        with contextlib.suppress(DifffsError, OSError), store.lock:
            for path, inode in links.items():
                if inode.nlink:
                    store.namespace.unlink(path)
            for directory in reversed(made):
                store.namespace.rmdir(directory)
        raise


def _give_room_back(engine: Engine) -> None:
    with contextlib.suppress(DifffsError):
        if not engine.store.make_room():
            engine.store.commit()


# ---- importing -------------------------------------------------------------------------------


def import_image(
    engine: Engine, wanted: Wanted, image: ImageReader, form: Format | None, *, guessed: bool
) -> dict[str, Any]:
    """Make what an image becomes, or nothing; return what the report says of it.

    Until it is whole it has no name: whatever happens to this process, the next one that opens the
    store for writing removes it. That holds for a signal too, which can come in the middle of a
    change: nothing is put away then, because that would commit half of it.
    """
    name = wanted.path[1:]
    started = time.monotonic()
    described: dict[str, Any] = {"format": RAW, "title": "plain", "memory": None, "packed": None}
    described["notes"] = notes = []
    # Images imported before may have taken it meanwhile.
    require_free(engine.store.namespace, wanted.path, form=form)
    try:
        with Progress(f"import {printable(name)}", image.size or 0) as progress:
            if form is None:
                size = _import_plain(engine, wanted, image, progress)
            else:
                from difffs.image_source import source_of

                source = source_of(image, progress)
                try:
                    size = _import_formatted(engine, wanted, image, source, form, described)
                except NotThisFormat as other:
                    if not guessed:
                        raise UsageError(
                            f"image {image.name} is {other}: leave out --format"
                        ) from None
                    notes.append(f"{other}; stored as it is")
                    size = _import_rest(engine, wanted, image, source)
    except Exception as error:
        _give_room_back(engine)
        if isinstance(error, OSError):
            raise explained(error, engine.store.path) from error
        raise
    if image.grown:
        print(
            f"difffs: image {image.name} has grown while it was read: the {size:,} bytes that it"
            f" had are imported, {image.grown:,} are not",
            file=sys.stderr,
        )
    seconds = time.monotonic() - started
    return {
        "volume": name,
        "image": wanted.image,
        "size": size,
        **described,
        "seconds": seconds,
        "pages_per_second": size / PAGE_SIZE / max(seconds, 1e-9),
    }


def _import_formatted(
    engine: Engine,
    wanted: Wanted,
    image: ImageReader,
    source: "Source",
    form: Format,
    described: dict[str, Any],
) -> int:
    from difffs.stored_image.importing import remove_parts, store_image

    domain = engine.store.namespace.domain_for(wanted.path)
    assembly = store_image(engine, source, form, image.mode, domain)
    memory = wanted.path + MEMORY_SUFFIX
    try:
        with _linked(engine, {wanted.path: assembly.image, memory: assembly.memory_volume}):
            pass
    except Exception:
        remove_parts(engine.store, assembly)
        raise
    described |= _described(assembly, form, memory[1:])
    return assembly.size


def _described(assembly: "StoredAssembly", form: Format, memory: str) -> dict[str, Any]:
    packed = assembly.packed_as
    return {
        "format": assembly.facts.get("format", form.name),
        "title": form.title,
        "details": assembly.facts,
        "memory": {"volume": memory, "size": assembly.memory_volume.size},
        "packed": packed and {"compression": packed["compression"], "size": packed["size"]},
        "notes": assembly.notes,
    }


def _import_plain(engine: Engine, wanted: Wanted, image: ImageReader, progress: Progress) -> int:
    with _new_volume(engine, wanted, image) as inode:
        return _copy(engine, inode, image, progress)


def _import_rest(engine: Engine, wanted: Wanted, image: ImageReader, source: "Source") -> int:
    """Store what only looked like a format; its first bytes have been looked at."""
    from difffs.stored_image.pages import PageWriter

    with _new_volume(engine, wanted, image) as inode:
        _set_size(engine, inode, image.size or 0)
        writer = PageWriter(engine)
        end = 0
        for piece in source.rest():
            if end + len(piece) > inode.size:
                _set_size(engine, inode, end + len(piece))
            writer.write(inode.number, end, piece)
            end += len(piece)
        writer.flush()
        return end


@contextlib.contextmanager
def _new_volume(engine: Engine, wanted: Wanted, image: ImageReader) -> Iterator[Inode]:
    """Yield a volume without a name; it gets it after the block, or is removed."""
    store = engine.store
    with store.lock:
        domain = store.namespace.domain_for(wanted.path)
        inode = store.namespace.create_orphan(image.mode, os.getuid(), os.getgid(), domain)
    try:
        yield inode
        with _linked(engine, {wanted.path: inode}):
            pass
    except Exception:
        with contextlib.suppress(DifffsError, OSError), store.lock:
            store.remove(inode.number)
        raise


def _copy(engine: Engine, inode: Inode, image: ImageReader, progress: Progress) -> int:
    """Copy the image; return its size."""
    # A commit may come at any time, and a volume's pages lie within its size.
    _set_size(engine, inode, image.size or 0)
    keep_holes = (image.size or 0) > _LARGEST_DENSE_IMAGE
    end = 0
    for offset, data in image.batches():
        if not keep_holes:
            _fill_zeros(engine, inode, end, offset)
        tail = len(data) % PAGE_SIZE
        pages: memoryview | bytes = data
        if tail:
            # The volume's last page is kept whole; its size says where it really ends.
            pages = bytes(data) + bytes(PAGE_SIZE - tail)
        first, end = offset // PAGE_SIZE, offset + len(data)
        if end > MAXIMUM_VOLUME_SIZE:
            raise UsageError(f"the image is larger than a volume can be ({MAXIMUM_VOLUME_SIZE})")
        if end > inode.size:
            _set_size(engine, inode, end)
        engine.write(inode.number, range(first, first + len(pages) // PAGE_SIZE), pages)
        if engine.store.uncommitted > _COMMIT_EVERY:
            engine.commit()
        progress.update(end)
    size = image.size or 0
    if not keep_holes:
        _fill_zeros(engine, inode, end, size)
    progress.update(size)
    return size


def _set_size(engine: Engine, inode: Inode, size: int) -> None:
    if size > MAXIMUM_VOLUME_SIZE:
        raise UsageError(f"the image is larger than a volume can be ({MAXIMUM_VOLUME_SIZE})")
    with engine.store.lock:
        engine.store.namespace.set_size(inode, size)


def _fill_zeros(engine: Engine, inode: Inode, start: int, end: int) -> None:
    first, last = -(-start // PAGE_SIZE), -(-end // PAGE_SIZE)
    if last > first:
        engine.store.fill(inode.number, first, last - first, ZERO)
