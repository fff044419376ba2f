"""What is fuzzed, and what must hold whatever comes in."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from difffs.errors import EnvironmentProblem, ImageDamaged, UsageError
from difffs.images import shifted
from difffs.images.assembly import PAGE_SIZE, Assembly
from difffs.images.format import PREFIX_BYTES, Format, NotThisFormat
from difffs.images.formats import FORMAT_NAMES, format_named, format_of
from difffs.images.packed import packed_format
from fuzzing.mending import mended_avml
from fuzzing.oracle import ComparingAssembly, Enough, Violation, WatchedSource
from fuzzing.outcomes import Outcome, Result
from fuzzing.short_form import LONGEST, expand
from fuzzing.stored import HeadTarget, LayoutTarget

COMPRESSIONS = ("gzip", "bzip2", "xz", "zstd", "lzop")

WEIGHTS = {
    "qcow2": 0.6,
    "kdump": 0.6,
    "flattened": 0.6,
    "shifted": 0.2,
    "xen": 1.2,
    "elf": 1.2,
    "lime": 1.2,
    "avml": 1.2,
    # bzip2 fills megabytes for each input, lzop is a process.
    "gzip": 0.3,
    "xz": 0.3,
    "zstd": 0.5,
    "bzip2": 0.03,
    "lzop": 0.0005,
}
"""Shares of the runs, where it is not 1: by what an input costs."""


class Target(Protocol):
    """Something that takes bytes from outside."""

    @property
    def name(self) -> str:
        """As --format takes it."""

    @property
    def weight(self) -> float:
        """Its share of the runs, beside 1 for most."""

    def run(self, data: bytes) -> "Result":
        """Tries it. Any exception is a finding."""

    def seeds(self) -> list[bytes]:
        """Inputs to begin with."""


@dataclass(frozen=True, slots=True)
class ReaderTarget:
    """A reader of a format, fed with images in the short form."""

    form: Format
    longest: int = LONGEST

    @property
    def name(self) -> str:
        """The format's."""
        return self.form.name

    @property
    def weight(self) -> float:
        """By what it costs."""
        return WEIGHTS.get(self.name, 1.0)

    def seeds(self) -> list[bytes]:
        """Images by the tests' writers."""
        from fuzzing.seeds import seeds
        from fuzzing.short_form import shorten

        return [shorten(image) for image in seeds(self.name)]

    def run(self, data: bytes) -> Result:
        """Reads an image."""
        image = expand(data, self.longest)
        if self.name == "avml" and zlib.crc32(image) & 3:
            image = mended_avml(image)
        return read(self.form, image)


def read(form: Format, image: bytes) -> Result:
    """Reads an image and compares what is told of it; how it comes in depends on its content."""
    view = memoryview(image)
    if not form.matches(view[:PREFIX_BYTES]):
        return Outcome.NOT_ITS, ""
    way = zlib.crc32(image)

    def read_at(offset: int, count: int) -> bytes:
        if count > 4 << 20:
            raise Violation(f"reads {count:,} bytes at once")
        return image[offset : offset + count]

    seekable = form.anywhere or bool(way & 8)
    source = WatchedSource(
        iter(()) if form.anywhere else _pieces(image, way),
        size=len(image) if seekable or way & 16 else None,
        read_at=read_at if seekable else None,
    )
    assembly = ComparingAssembly(image, source)
    told: Assembly = assembly
    try:
        form.read(source, told)
    except ImageDamaged as error:
        return Outcome.DAMAGED, str(error)
    except NotThisFormat as error:
        if source.position or source.unpacked is not None:
            raise Violation("says that it is another format after it has taken bytes") from None
        return Outcome.NOT_ITS, str(error)
    except (UsageError, EnvironmentProblem, Enough) as error:
        return Outcome.ELSE, str(error)
    if form.anywhere:
        if source.position:
            raise Violation("takes bytes though it reads anywhere")
    elif not source.at_end:
        raise Violation("leaves bytes behind")
    assembly.finish()
    return Outcome.ACCEPTED, assembly.summary


def _pieces(image: bytes, way: int) -> Iterator[bytes]:
    """The image as it may come from a pipe."""
    if way & 7:
        if image:
            yield image
        return
    first = (way >> 8) % (len(image) + 1)
    for start, end in ((0, first), (first, first + 1), (first + 1, len(image))):
        if image[start:end]:
            yield image[start:end]


def targets() -> list[Target]:
    """All of them."""
    found: list[Target] = []
    for form in map(format_named, FORMAT_NAMES):
        if form is shifted.FORMAT:
            # By its first bytes it knows nothing.
            anything = replace(form, matches=lambda _prefix: True)
            found.append(ShiftedTarget(anything, longest=80 << 10))
        else:
            # Clusters of qcow2 whose L2 entries are extended have 16 KiB.
            longest = 80 << 10 if form.name == "qcow2" else LONGEST
            found.append(ReaderTarget(form, longest=longest))
    found += [ReaderTarget(packed_format_named(name)) for name in COMPRESSIONS]
    from fuzzing.store_target import StoreTarget

    # Shifted memory is none that small; of bzip2 and lzop the packed form is what takes time.
    left_out = {"shifted", "bzip2", "lzop"}
    stored = [
        each for each in found if isinstance(each, ReaderTarget) and each.name not in left_out
    ]
    return [*found, LayoutTarget(), HeadTarget(), StoreTarget(stored)]


@dataclass(frozen=True, slots=True)
class ShiftedTarget(ReaderTarget):
    """Raw memory with shifted pages, which the reader knows by megabytes: by less of them here."""

    def run(self, data: bytes) -> Result:
        """Reads an image of a machine that has its first range of memory within some pages."""
        before = {name: getattr(shifted, name) for name in SMALL}
        try:
            for name, value in SMALL.items():
                setattr(shifted, name, value)
            return read(self.form, expand(data, self.longest))
        finally:
            for name, value in before.items():
                setattr(shifted, name, value)


SMALL = {
    "LOOKAHEAD": PAGE_SIZE,
    "FIRST_RANGE_END": 2 * PAGE_SIZE,
    "LEAST_ENDS": 1,
    "LOOK_EVERY": 3,
}
"""Constants of the reader of shifted memory while it is tried."""


def packed_format_named(name: str) -> Format:
    """The format of images compressed as a whole, as an import finds them."""
    from difffs.images.compression import compression_of

    form = packed_format(name, format_of)
    return Format(form.name, form.title, lambda view: compression_of(view) == name, form.read)


def target_named(name: str) -> Target:
    """The target of that name."""
    return next(each for each in targets() if each.name == name)
