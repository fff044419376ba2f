"""``python -m tests.endurance``: what ``scripts/endurance`` runs."""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.endurance import io_errors, power_cut, sigkill
from tests.endurance.needs import obstacle
from tests.endurance.options import Options, parse
from tests.endurance.report import Report
from tests.stores import memory_folder


def _run(options: Options, report: Report, folder: Path) -> None:
    replay: dict[str, Any] | None = None
    if options.replay is not None:
        replay = json.loads((options.replay / "replay.json").read_text())
    if options.suite == "sigkill":
        rounds = options.rounds or 100
        sigkill.run(
            report,
            folder,
            rounds,
            each_point=options.each_point,
            seconds=options.seconds,
            replay=replay,
        )
    elif options.suite == "io-errors":
        io_errors.run(report, folder, options.rounds, seconds=options.seconds, replay=replay)
    elif options.suite == "power-cut":
        if options.replay is not None:
            power_cut.replay(report, folder, options.replay)
        else:
            power_cut.run(report, folder, options.rounds or 150, seconds=options.seconds)


def main(arguments: list[str]) -> int:
    """Run as a command. 0: the promise was kept, 1: it was not, 2: usage, or something is missing
    here."""
    options = parse(arguments)
    if (reason := obstacle()) is not None:
        print(f"endurance: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts are taken away
    report = Report(
        options.suite,
        options.seed,
        options.keep,
    )
    where = options.scratch or memory_folder()
    with tempfile.TemporaryDirectory(prefix="difffs-endurance-", dir=where) as scratch:
        _run(options, report, Path(scratch))
    print(json.dumps(report.as_json(), indent=1) if options.json else report.text())
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
