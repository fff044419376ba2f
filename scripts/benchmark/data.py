"""The images that a run works on: given ones, or one that the generator makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.generator import PAGE, Generator
from benchmark.options import Options

_COPY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Images:
    """Raw images, whole pages each."""

    paths: tuple[Path, ...]
    origin: str

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def pages(self) -> int:
        """Pages of all of them."""
        return self.size // PAGE


def generate(path: Path, size: int, seed: int = 1) -> None:
    """Write a generated image."""
    with path.open("wb") as file:
        for batch in Generator(seed).batches(size // PAGE):
            file.write(batch)


def _beginning(image: Path, folder: Path, size: int) -> Path:
    """Return the image, or a copy of its first whole pages where it is too long or ragged."""
    wanted = min(size, image.stat().st_size) // PAGE * PAGE
    if wanted == image.stat().st_size:
        return image.resolve()
    copy = folder / image.name
    with image.open("rb") as source, copy.open("wb") as target:
        while wanted:
            data = source.read(min(wanted, _COPY_BYTES))
            target.write(data)
            wanted -= len(data)
    return copy


def prepare(options: Options, folder: Path) -> Images:
    """Make the images ready, in the page cache."""
    if options.images:
        paths = tuple(_beginning(image, folder, options.size) for image in options.images)
        origin = "given: " + ", ".join(image.name for image in options.images)
    else:
        path = folder / "generated.mem"
        generate(path, options.size)
        paths = (path,)
        origin = "generated, seed 1"
    for path in paths:
        with path.open("rb") as file:
            while file.read(_COPY_BYTES):
                pass
    return Images(paths, origin)
