"""``python -m fuzzing.decoders``: builds decoders.c with sanitizers and runs it."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmdb

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests/codec/corpus"
"""Inputs that are kept: the first bytes are the target and the base (decoders.c)."""

_SOURCES = (
    *("page", "codec", "vcdiff", "xbzrle", "page_bsdiff", "bwt", "range_coder", "key_map"),
    *("page_tables", "tables", "number_set", "extents", "lmdb_check", "group_codec", "group_cache"),
)
_FLAGS = (
    *("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I", str(ROOT / "native")),
)
_LMDB_TARGET = 17
_NOTE_HEAD = 16
"""Bytes of `last-input` before the input; the first 8 are its length."""


class NoCompiler(Exception):
    """There is no compiler, or it lacks what this takes; the text says which."""


def build(folder: Path) -> Path:
    """The program, in a folder. NoCompiler where it cannot be built."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("no gcc")
    probe = folder / "probe.c"
    probe.write_text(
        "#include <zstd.h>\n#include <lz4.h>\n#include <lzma.h>\nint main(void) { return 0; }\n"
    )
    tried = subprocess.run(
        [compiler, *_FLAGS, str(probe), "-o", str(folder / "probe"), "-lzstd", "-llz4", "-llzma"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        raise NoCompiler(f"gcc lacks a sanitizer or a library: {tried.stderr.splitlines()[:1]}")
    objects = []
    for name in _SOURCES:  # the driver itself tells of no code that is reached
        objects.append(str(folder / f"{name}.o"))
        traced = "-fsanitize-coverage=trace-pc"
        source = str(ROOT / "native" / f"{name}.c")
        subprocess.run([compiler, *_FLAGS, traced, "-c", source, "-o", objects[-1]], check=True)
    program = folder / "decoders"
    driver = str(Path(__file__).with_suffix(".c"))
    libraries = ("-lzstd", "-llz4", "-llzma", "-lpthread")
    subprocess.run(
        [compiler, *_FLAGS, driver, *objects, "-o", str(program), *libraries], check=True
    )
    return program


def _lmdb_seed(folder: Path) -> Path:
    """An input with a whole LMDB file, of which the encoders make none."""
    path = folder / "lmdb"
    with lmdb.open(str(path), max_dbs=2, map_size=1 << 20, lock=False) as environment:
        database = environment.open_db(b"tables")
        for step in range(3):  # so that pages are free, too
            with environment.begin(write=True) as transaction:
                for key in range(60):
                    transaction.put(bytes([key, step]), bytes(60), db=database)
                transaction.put(b"large", bytes(4080), db=database)
    seed = folder / "lmdb-seed"
    seed.write_bytes(bytes([_LMDB_TARGET, 0]) + (path / "data.mdb").read_bytes())
    return seed


def run(program: Path, executions: int, seed: int, folder: Path) -> tuple[dict[str, int], str]:
    """What was done, and the sanitizers' report: empty when there was none. The input that led to
    one is `folder`/input."""
    kept = sorted(str(path) for path in CORPUS.iterdir())
    kept.append(str(_lmdb_seed(folder)))
    done = subprocess.run(
        [str(program), str(executions), str(seed), str(folder), *kept],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return json.loads(done.stdout), ""
    noted = folder / "last-input"
    if noted.exists():
        data = noted.read_bytes()
        length = int.from_bytes(data[:8], "little")
        (folder / "input").write_bytes(data[_NOTE_HEAD : _NOTE_HEAD + length])
    return {}, done.stderr or f"ended with {done.returncode}"


def main(arguments: list[str]) -> int:
    """Run as a command. 0: nothing found, 1: something, 2: usage, or something is missing."""
    parser = argparse.ArgumentParser(prog="fuzz-decoders")
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=Path, action="append", default=[])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="difffs-fuzz-") as name:
        folder = Path(name)
        try:
            program = build(folder)
        except NoCompiler as error:
            print(f"fuzz-decoders: {error}", file=sys.stderr)
            return 2
        if options.replay:
            command = [str(program), "replay", *map(str, options.replay)]
            return 1 if subprocess.run(command, check=False).returncode else 0
        began = time.monotonic()
        done, report = run(program, options.executions, options.seed, folder)
        if not report:
            seconds = time.monotonic() - began
            print(f"{done['executions']:,} executions in {seconds:,.0f} s, nothing found")
            return 0
        options.findings.mkdir(parents=True, exist_ok=True)
        kept = options.findings / f"decoders-seed-{options.seed}"
        if (folder / "input").exists():
            shutil.copy(folder / "input", kept)
        print(f"{report}\nfuzz-decoders: the input is kept in {os.fspath(kept)}")
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
