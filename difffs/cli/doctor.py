"""``difffs doctor [STORE-or-MOUNTPOINT]``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from difffs.cli.arguments import filled
from difffs.cli.report import SCHEMA_VERSION, print_json, printable
from difffs.errors import UsageError

if TYPE_CHECKING:
    from difffs.doctor.check import Check, Use

_NAMES = 26
_STATES = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "where",
        metavar="STORE-or-MOUNTPOINT",
        nargs="?",
        type=filled,
        help="look at this store, or at its mount, as well",
    )
    parser.add_argument(
        "--for",
        dest="uses",
        metavar="USE,...",
        help="only what matters for these: guests, swap, images, study (all)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Show what the host offers and lacks; 0 when nothing that matters is missing, 1 if so."""
    from difffs.doctor.diagnosis import diagnose, is_finding
    from difffs.doctor.host import Host

    uses = _uses(arguments.uses)
    subjects = diagnose(Host(), uses, arguments.where)
    checks: list[Check] = []
    for subject in subjects:
        checks += subject.checks
        if not arguments.json:
            print(printable(subject.title))
            for check in subject.checks:
                for line in lines_of(check):
                    print(printable(line))
            print(flush=True)
    findings = [check for check in checks if is_finding(check, uses)]
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "uses": list(uses),
                "place": arguments.where,
                "clean": not findings,
                "findings": [check.name for check in findings],
                "checks": [check.as_json() for check in checks],
            }
        )
    elif findings:
        count = f"{len(findings)} findings" if len(findings) > 1 else "1 finding"
        print(f"{count}: {', '.join(check.name for check in findings)}")
    else:
        print(f"nothing is missing that matters for {', '.join(uses)}")
    return 1 if findings else 0


def _uses(text: str | None) -> tuple[Use, ...]:
    from difffs.doctor.check import USES

    if text is None:
        return USES
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in USES]
    if unknown:
        raise UsageError(f"--for {text}: {unknown[0]!r} is no use; there are {', '.join(USES)}")
    return tuple(use for use in USES if use in words)


def lines_of(check: Check) -> list[str]:
    """Return a check as people read it: what there is, and what to do about it."""
    lines = [f"  {check.state:<{_STATES}}{check.name:<{_NAMES}} {check.found}"]
    if check.remedy:
        uses = f" (for {', '.join(check.matters_for)})" if check.matters_for else ""
        lines.append(f"{'':<{_STATES + 2}}-> {check.remedy}{uses}")
    return lines
