"""``difffs check STORE``."""

import argparse

from difffs.cli.arguments import filled_path
from difffs.cli.names import printable
from difffs.cli.opening import open_to_read
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.errors import CorruptStore
from difffs.progress import Progress
from difffs.stored_image.check import check_images


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument(
        "--no-payloads",
        action="store_true",
        help="leave out the decoding of every payload and image, which takes most of the time",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Verify the store without changing it; 0 when it is sound, 1 with findings."""
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
