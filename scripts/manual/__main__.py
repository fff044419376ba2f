"""``python -m manual``: what ``scripts/make-manual`` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from manual import files

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Write what differs, or only tell of it."""
    parser = argparse.ArgumentParser(prog="make-manual", allow_abbrev=False)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = files.stale(ROOT)
    for name, content in stale.items():
        print(f"{'not as it would be made' if check else 'made'}: {name}", file=sys.stderr)
        if check:
            continue
        path = ROOT / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
