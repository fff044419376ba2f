"""Images and records for the tests of the collection."""

from __future__ import annotations

import random
from pathlib import Path

from collection.manifest import ImageRecord, read_image
from collection.plan import Member

PAGE = 4096


def write_image(path: Path, mebibytes: int, zero_pages: int, seed: int = 1) -> None:
    """Write an image with so many zero pages, spread over it."""
    generator = random.Random(seed)
    pages = mebibytes << 20 >> 12
    zeros = set(generator.sample(range(pages), zero_pages))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number in range(pages):
            file.write(bytes(PAGE) if number in zeros else generator.randbytes(PAGE))


def record_of(member: Member, file: str, folder: Path) -> ImageRecord:
    """Describe an image that is there as the collection would."""
    sha256, zeros = read_image(folder / file)
    return ImageRecord(
        file=file,
        corpus=member.corpus,
        sha256=sha256,
        release=member.system.release,
        codename=member.system.codename,
        kernel="6.1.0-1-cloud-amd64",
        workload=member.work,
        parameters=member.parameters,
        rounds=3,
        seconds=101.5,
        mebibytes=(folder / file).stat().st_size >> 20,
        zero_page_share=zeros,
        accelerator="tcg",
        qemu="7.2",
    )
