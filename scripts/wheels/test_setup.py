"""``python -m wheels.test_setup``: what ``scripts/test-setup`` runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from wheels.debian import try_checkout
from wheels.running import WheelError, cache_folder

COMMANDS = ("scripts/demo", "scripts/test")
"""What the README begins with."""


def _say(text: str) -> None:
    print(f"test-setup: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="test-setup", allow_abbrev=False)
    parser.add_argument("--debian", metavar="CODENAME,...", default="bookworm,trixie")
    parser.add_argument("commands", nargs="*", metavar="COMMAND")
    chosen = parser.parse_args(arguments)
    cache = cache_folder()
    try:
        for codename in chosen.debian.split(","):
            log = cache / f"setup-{codename}.log"
            log.unlink(missing_ok=True)
            for command, seconds in try_checkout(
                codename, chosen.commands or COMMANDS, cache, _say, log
            ):
                print(f"Debian {codename}: {command} took {seconds:.0f} s", flush=True)
    except WheelError as error:
        print(f"test-setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
