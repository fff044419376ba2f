"""fio's saved state of a verification: what it had written when its trigger killed the daemon."""

from __future__ import annotations

import json
from pathlib import Path

from trial import fio

from outside.suite import Outcome, Run, Suite, last_lines, missing, run_tool
from tests.integration import harness

_ROUNDS = 4


def _obstacle() -> str | None:
    return harness.obstacle() or missing("fio")


def _job(folder: Path, file_folder: Path, round_number: int) -> list[str]:
    return [
        "fio",
        "--name=state",
        f"--directory={file_folder}",
        "--size=256M",
        "--bsrange=4k-32k",
        # every other round through the page cache; every write is durable when it is done
        f"--direct={round_number % 2}",
        "--sync=1",
        "--rw=randwrite",
        "--ioengine=psync",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--buffer_compress_percentage=60",
        "--refill_buffers=1",
        f"--randseed={round_number}",
        f"--aux-path={folder}",
        "--output-format=json",
    ]


def _operations(output: Path, kind: str) -> tuple[int, int]:
    """Return (error number, operations done) of a job's report."""
    text = output.read_text(errors="replace")
    job = json.loads(text[text.index("{") : text.rindex("}") + 1])["jobs"][0]
    return int(job["error"]), int(job[kind]["total_ios"])


def _run(run: Run) -> Outcome:
    outcome = Outcome()
    verified = 0
    with harness.mounted_store() as mounted:
        for number in range(round(_ROUNDS * max(1, run.scale))):
            folder = run.evidence / f"round-{number}"
            folder.mkdir()
            files = mounted.path / f"round-{number}"
            files.mkdir()
            mounted.commit()
            job = _job(folder, files, number)
            trigger = [
                *("--do_verify=0", "--verify_state_save=1", "--trigger-timeout=3"),
                f"--trigger=kill -9 {mounted.process()}",
            ]
            # its exit status says nothing: the file system went away under it
            run_tool([*job, *trigger], folder / "write.json", seconds=120, folder=folder)
            mounted.kill()
            mounted.check()
            mounted.mount()
            _, written = _operations(folder / "write.json", "write")
            status = run_tool(
                [*job, "--verify_only=1", "--verify_state_load=1"],
                folder / "verify.json",
                seconds=300,
                folder=folder,
            )
            error, read = _operations(folder / "verify.json", "read")
            if status or error:
                said = last_lines(folder / "verify.json")
                outcome.failed.append(f"round {number}: status {status}, error {error}: {said}")
            elif read < written - 1 or written < 100:
                outcome.failed.append(f"round {number}: {read} of {written} blocks verified")
            else:
                outcome.passed += 1
                verified += read
    outcome.remarks.append(f"{verified:,} blocks verified after {outcome.passed} kills")
    return outcome


SUITE = Suite(
    "fio-state",
    "fio writes until its trigger kills the daemon, then verifies by its saved state",
    {},
    lambda: _obstacle() or fio.obstacle(),
    _run,
)
