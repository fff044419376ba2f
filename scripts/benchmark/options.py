"""The command line of ``scripts/bench``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from difffs.errors import UsageError
from difffs.refine.tiers import TIERS, tier_named
from difffs.size import parse_size

PARTS = (
    "engine",
    "mount",
    "neighbours",
    "block",
    "swap",
    "guest",
    "guests",
    "scale",
    "costs",
    "cluster",
    "refine",
    "refine_scale",
)

_DEFAULT_RECIPES = "default,fast,difference-engine,identical-only,patch-only,compress-only"


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure; sizes in bytes."""

    images: tuple[Path, ...]
    parts: tuple[str, ...]
    rounds: int
    size: int
    """Of the generator's image, and the most that is used of each given one."""
    job_bytes: int
    """That each fio job moves."""
    neighbour_seconds: float
    hog_bytes: int
    guests: int
    guest_bytes: int
    """RAM of each."""
    guest_rounds: int
    rest_seconds: float
    scale_bytes: tuple[int, ...]
    cost_bytes: tuple[int, ...]
    """Of the volumes whose costs are compared: the first with the last."""
    cost_files: int
    cluster_images: tuple[int, ...]
    """How many: the times of the first and the last are compared."""
    cluster_image_bytes: int
    refine_bytes: tuple[int, ...]
    tiers: tuple[str, ...]
    refine_seconds: int
    """That a pass may take; 0: to its end."""
    recipes: tuple[str, ...]
    folder: Path | None
    json: bool
    check_generator: bool


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_size(word) for word in text.split(","))


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: needs numbers, as in 100,1000") from None


def _tiers(text: str) -> tuple[str, ...]:
    try:
        return tuple(tier_named(word).name for word in text.split(","))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parts(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        if word not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {word!r}; there are {', '.join(PARTS)}")
    return words


def parse(arguments: list[str]) -> Options:
    """Return the options; exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures difffs and its peers side by side on the same data.",
    )
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE",
        help="raw memory images; without any, generated pages are used",
    )
    parser.add_argument("--parts", type=_parts, default=PARTS, help=f"of {','.join(PARTS)} (all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="medians of N (5)")
    parser.add_argument(
        "--size",
        type=_size,
        default="512M",
        help="of generated data, and at most of each image (512M)",
    )
    parser.add_argument("--job-size", type=_size, default="128M", help="moved by a fio job (128M)")
    parser.add_argument(
        "--neighbour-seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="neighbours: of reading beside each (5)",
    )
    parser.add_argument("--hog-size", type=_size, default="512M", help="swap: the program (512M)")
    parser.add_argument("--guests", type=int, default=4, metavar="N", help="guests: how many (4)")
    parser.add_argument(
        "--guest-size", type=_size, default="256M", help="guests: RAM of each (256M)"
    )
    parser.add_argument(
        "--guest-rounds", type=int, default=4, metavar="N", help="guests: rounds of their work (4)"
    )
    parser.add_argument(
        "--rest-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="guests: of rest after it (60)",
    )
    parser.add_argument(
        "--scale-sizes", type=_sizes, default="1G,4G,16G", help="scale: sizes (1G,4G,16G)"
    )
    parser.add_argument(
        "--cost-sizes", type=_sizes, default="1G,512G", help="costs: sizes of volumes (1G,512G)"
    )
    parser.add_argument(
        "--cost-files", type=int, default=20_000, metavar="N", help="costs: files to make (20000)"
    )
    parser.add_argument(
        "--cluster-images",
        type=_counts,
        default="100,1000",
        metavar="N,N",
        help="cluster: how many images (100,1000)",
    )
    parser.add_argument(
        "--cluster-image-size", type=_size, default="16M", help="cluster: of each (16M)"
    )
    parser.add_argument(
        "--refine-sizes",
        type=_sizes,
        default="1G,4G",
        help="refine_scale: of generated pages (1G,4G)",
    )
    parser.add_argument(
        "--refine-seconds",
        type=int,
        default=0,
        metavar="S",
        help="refine_scale: end each pass after so long (0: not before it is done; 16G take hours)",
    )
    parser.add_argument(
        "--tiers", type=_tiers, default=tuple(TIERS), help="refine_scale: of cold,rest (both)"
    )
    parser.add_argument(
        "--recipes",
        default=_DEFAULT_RECIPES,
        help="engine: recipes to measure (all; default and fast come first)",
    )
    parser.add_argument(
        "--folder", type=Path, help="where everything lies (as root a tmpfs of its own)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--check-generator",
        action="store_true",
        help="print the generator's mix beside that of the images, and end",
    )
    found = parser.parse_args(arguments)
    for image in found.images:
        if not image.is_file():
            parser.error(f"no image {image}")
    if found.rounds < 1:
        parser.error("--rounds needs at least 1")
    if found.job_size < 8 << 20:
        parser.error("--job-size needs at least 8M: a MiB for each of eight jobs")
    if not 0 < found.neighbour_seconds <= 3600:
        parser.error("--neighbour-seconds needs more than 0, 3600 at most")
    if found.guests < 1 or found.guest_rounds < 1 or not 2 <= found.rest_seconds <= 3600:
        parser.error("--guests and --guest-rounds need at least 1, --rest-seconds 2 to 3600")
    if found.guest_size < 160 << 20 or found.guest_size % (1 << 20):
        parser.error(
            "--guest-size needs at least 160M, in whole MiB: less has no room for the work"
        )
    if len(found.cost_sizes) < 2 or found.cost_files < 4:
        parser.error("--cost-sizes needs two sizes, --cost-files at least 4")
    if found.refine_seconds < 0:
        parser.error("--refine-seconds needs a number from 0 on")
    if min(found.cluster_images) < 1 or found.cluster_image_size < 1 << 20:
        parser.error("--cluster-images needs numbers from 1 on, --cluster-image-size at least 1M")
    return Options(
        images=tuple(found.images),
        parts=found.parts,
        rounds=found.rounds,
        size=found.size,
        job_bytes=found.job_size,
        neighbour_seconds=found.neighbour_seconds,
        hog_bytes=found.hog_size,
        guests=found.guests,
        guest_bytes=found.guest_size,
        guest_rounds=found.guest_rounds,
        rest_seconds=found.rest_seconds,
        scale_bytes=found.scale_sizes,
        cost_bytes=found.cost_sizes,
        cost_files=found.cost_files,
        cluster_images=found.cluster_images,
        cluster_image_bytes=found.cluster_image_size,
        refine_bytes=found.refine_sizes,
        tiers=found.tiers,
        refine_seconds=found.refine_seconds,
        recipes=tuple(found.recipes.split(",")),
        folder=found.folder,
        json=found.json,
        check_generator=found.check_generator,
    )
