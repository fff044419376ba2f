"""Writers of databases that tell each transaction once it is committed; ended by whatever happens.

``python database_writers.py KIND PATH`` prints the number of each transaction on stdout. What a
transaction holds is a function of its number, so that the reader knows all of it.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from pathlib import Path

import lmdb

ROWS = 8
MAP_BYTES = 256 << 20


def rows(transaction: int) -> list[tuple[int, bytes]]:
    """Return (key, value) pairs; later transactions overwrite some of the earlier ones' keys."""
    source = random.Random(transaction)
    keys = [source.randrange(transaction * 4 + ROWS) for _ in range(ROWS)]
    return [(key, b"%08d " % transaction + source.randbytes(source.randrange(600))) for key in keys]


def expected(transactions: int) -> dict[int, bytes]:
    """Return what the database holds after so many transactions, numbered from 0."""
    found: dict[int, bytes] = {}
    for transaction in range(transactions):
        found.update(rows(transaction))
    return found


def write_sqlite(path: Path, journal: str) -> None:
    """Commit transactions for ever, or until something fails."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA journal_mode={journal}")
    # FULL would not synchronise the folder after the journal is removed: without that, what was
    # committed last may be rolled back
    database.execute("PRAGMA synchronous=EXTRA")
    database.execute("CREATE TABLE IF NOT EXISTS pairs (key INTEGER PRIMARY KEY, value BLOB)")
    transaction = 0
    while True:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("REPLACE INTO pairs VALUES (?, ?)", rows(transaction))
        database.execute("COMMIT")
        print(transaction, flush=True)
        transaction += 1


def write_lmdb(path: Path, *, write_map: bool) -> None:
    """Commit transactions for ever, or until something fails."""
    environment = lmdb.open(str(path), map_size=MAP_BYTES, writemap=write_map)
    transaction = 0
    while True:
        with environment.begin(write=True) as change:
            for key, value in rows(transaction):
                change.put(b"%08d" % key, value)
        print(transaction, flush=True)
        transaction += 1


def main(kind: str, path: str) -> None:
    """Run as a command."""
    if kind.startswith("sqlite-"):
        write_sqlite(Path(path), kind.removeprefix("sqlite-"))
    else:
        write_lmdb(Path(path), write_map=kind == "lmdb-writemap")


if __name__ == "__main__":
    main(*sys.argv[1:])
