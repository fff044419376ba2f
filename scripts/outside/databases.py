"""SQLite and LMDB on the mount, whose daemon is killed under them."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import lmdb

from outside import database_writers
from outside.database_writers import expected
from outside.suite import Outcome, Run, Suite, SuiteError, missing, run_tool
from tests.integration import harness
from tests.integration.harness import Mounted

_ROUNDS = 3
_JOURNALS = ("delete", "wal", "truncate", "persist")


def _written_until_killed(kind: str, path: Path, mounted: Mounted, run: Run, name: str) -> int:
    """Have transactions made until the daemon is killed; return how many were acknowledged."""
    acknowledged, complaints = run.evidence / f"{name}.out", run.evidence / f"{name}.err"
    command = [sys.executable, database_writers.__file__, kind, str(path)]
    with acknowledged.open("wb") as out, complaints.open("wb") as error:
        process = subprocess.Popen(command, stdout=out, stderr=error)
        try:
            time.sleep(1 + random.Random(name).random() * 2)
            if process.poll() is not None:
                raise SuiteError(f"{name}: {complaints.read_text()[-500:]}")
            mounted.kill()
        finally:
            process.kill()
            process.wait()
    mounted.check()
    mounted.mount()
    return len(
        [line for line in acknowledged.read_text().splitlines(keepends=True) if line[-1:] == "\n"]
    )


def _judge(found: dict[int, bytes], acknowledged: int, name: str, outcome: Outcome) -> None:
    """All acknowledged transactions must be there, and at most one more, wholly."""
    if acknowledged < 10:
        outcome.failed.append(f"{name}: only {acknowledged} transactions: it tried nothing")
    elif found not in (expected(acknowledged), expected(acknowledged + 1)):
        there = [count for count in range(acknowledged) if found == expected(count)]
        what = f"what {there[0]} had written" if there else "what no number of them had written"
        outcome.failed.append(f"{name}: {acknowledged} transactions, but there is {what}")
    else:
        outcome.passed += 1


def _sqlite_contents(path: Path) -> tuple[str, dict[int, bytes]]:
    with closing(sqlite3.connect(path)) as database:
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
        return str(verdict), dict(database.execute("SELECT key, value FROM pairs"))


def _run_sqlite(run: Run) -> Outcome:
    outcome, total = Outcome(), 0
    with harness.mounted_store() as mounted:
        for number in range(round(_ROUNDS * max(1, run.scale))):
            for journal in _JOURNALS:
                name = f"{journal}-{number}"
                path = mounted.path / f"{name}.db"
                count = _written_until_killed(f"sqlite-{journal}", path, mounted, run, name)
                verdict, found = _sqlite_contents(path)
                if verdict != "ok":
                    outcome.failed.append(f"{name}: integrity_check: {verdict}")
                _judge(found, count, name, outcome)
                total += count
    outcome.remarks.append(f"{total:,} transactions acknowledged, SQLite {sqlite3.sqlite_version}")
    return outcome


def _lmdb_contents(path: Path) -> dict[int, bytes]:
    with (
        lmdb.open(str(path), readonly=True, map_size=database_writers.MAP_BYTES) as environment,
        environment.begin() as reading,
    ):
        return {int(key): bytes(value) for key, value in reading.cursor()}


def _run_lmdb(run: Run) -> Outcome:
    outcome, total = Outcome(), 0
    tools: list[Callable[[Path], list[str]]] = [
        lambda path: ["mdb_stat", "-e", "-f", "-a", str(path)],
        lambda path: ["mdb_dump", "-a", str(path)],
    ]
    with harness.mounted_store() as mounted:
        for number in range(round(_ROUNDS * max(1, run.scale))):
            for kind in ("lmdb", "lmdb-writemap"):
                name = f"{kind}-{number}"
                path = mounted.path / name
                path.mkdir()
                count = _written_until_killed(kind, path, mounted, run, name)
                for command in tools:
                    log = run.evidence / f"{name}.{command(path)[0]}"
                    if status := run_tool(command(path), log, seconds=60):
                        outcome.failed.append(f"{name}: {command(path)[0]}: status {status}")
                _judge(_lmdb_contents(path), count, name, outcome)
                total += count
    outcome.remarks.append(f"{total:,} transactions acknowledged, LMDB {lmdb.version()}")
    return outcome


SQLITE = Suite(
    "sqlite",
    "SQLite with each kind of journal, its own integrity_check after the daemon is killed",
    {},
    harness.obstacle,
    _run_sqlite,
)
LMDB = Suite(
    "lmdb",
    "LMDB with and without a writable map, its own tools after the daemon is killed",
    {},
    lambda: harness.obstacle() or missing("mdb_stat", "mdb_dump"),
    _run_lmdb,
)
