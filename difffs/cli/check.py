"""``difffs check STORE [--repair]``."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from difffs.cli.arguments import filled_path
from difffs.cli.opening import open_to_read, repair
from difffs.cli.report import SCHEMA_VERSION, print_json, printable
from difffs.errors import CorruptStore, UsageError
from difffs.progress import Progress
from difffs.stored_image.check import check_images

if TYPE_CHECKING:
    from difffs.store.repairing import Repaired


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument(
        "--no-payloads",
        action="store_true",
        help="leave out the decoding of every payload and image, which takes most of the time",
    )
    repairing = parser.add_mutually_exclusive_group()
    repairing.add_argument(
        "--repair",
        action="store_true",
        help="save what can be saved in a clean store in STORE's place, and list what is gone;"
        " the damaged store is kept as STORE.damaged",
    )
    repairing.add_argument(
        "--repair-into",
        metavar="DIRECTORY",
        type=filled_path,
        help="the same, but leave STORE where it is and make the clean store in DIRECTORY",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Verify the store without changing it; 0 when it is sound, 1 with findings."""
    if arguments.repair or arguments.repair_into is not None:
        if arguments.no_payloads:
            raise UsageError("a repair decodes every payload: leave --no-payloads out")
        return _repair(arguments)
    findings: list[dict[str, str]] = []
    objects = 0
    try:
        with (
            open_to_read(arguments.store, "check it") as store,
            Progress("check", 0, unit="objects") as progress,
        ):
            objects = store.object_count()
            whole = not arguments.no_payloads
            found = store.check(progress.update, payloads=whole)
            found += check_images(store, whole=whole)
            findings += (
                {"kind": each.kind, "where": each.where, "text": each.text} for each in found
            )
    except CorruptStore as error:
        # So damaged that it cannot even be opened.
        findings.append({"kind": "store", "where": str(arguments.store), "text": str(error)})
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "store": str(arguments.store),
                "objects": objects,
                "clean": not findings,
                "findings": findings,
            }
        )
    else:
        for entry in findings:
            print(printable(f"{entry['kind']}: {entry['where']}: {entry['text']}"))
        if findings:
            print(f"{arguments.store}: {len(findings)} findings")
        else:
            print(f"{arguments.store}: clean, {objects:,} objects")
    return 1 if findings else 0


def _repair(arguments: argparse.Namespace) -> int:
    """Save what can be saved; 0 when nothing is gone, 1 when something is."""
    with Progress("repair", 0, unit="objects") as progress:
        done = repair(arguments.store, arguments.repair_into, progress.update)
    if arguments.json:
        print_json(_as_json(arguments.store, done))
    else:
        for line in _lines(done):
            print(printable(line))
    return 1 if done.repair.has_lost else 0


def _as_json(store: Path, done: "Repaired") -> dict[str, object]:
    found = done.repair
    return {
        "schema_version": SCHEMA_VERSION,
        "store": str(store),
        "clean": found.is_sound,
        "proven": found.is_proven,
        "repaired_store": str(done.store),
        "damaged_store": None if done.damaged is None else str(done.damaged),
        "objects": found.objects,
        "pages": found.pages,
        "lost_pages": found.lost_pages,
        "lost_before": found.lost_before,
        "lost": [
            {"volume": each.name, "pages": each.pages, "runs": each.runs} for each in found.lost
        ],
        "gone": found.gone,
        "renamed": found.moved,
        "damage": found.notes,
    }


def _lines(done: "Repaired") -> Iterator[str]:
    found = done.repair
    if found.is_sound and done.damaged is None and not found.has_lost:
        yield f"{done.store}: clean, {found.objects:,} objects; nothing to repair"
        return
    for text in found.notes:
        yield f"damage: {text}"
    for text in found.moved:
        yield f"renamed: {text}"
    for text in found.gone:
        yield f"gone: {text}"
    for volume in found.lost:
        for first, count in volume.runs:
            pages = f"page {first}" if count == 1 else f"pages {first} to {first + count - 1}"
            yield f"lost: {pages} of volume {volume.name}"
    if not found.is_proven:
        yield (
            "not proven: the index does not agree with its commit, so that some of what was saved"
            " may be of an earlier time"
        )
    yield (
        f"{done.store}: {found.pages:,} pages saved, {found.lost_pages:,} lost now,"
        f" {found.lost_before:,} lost before"
    )
    if done.damaged is not None:
        yield f"{done.damaged}: the damaged store as it was; remove it when you need it no more"
