"""The native data path with its threads, under ThreadSanitizer: a missing lock ends the run, and so
does a page that was not there when it was read."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
SOURCES = (
    "key_map",
    "number_set",
    "page_tables",
    "write_buffer",
    "volume_pages",
    "extents",
    "codec",
    "vcdiff",
    "xbzrle",
    "page_bsdiff",
    "bwt",
    "range_coder",
    "group_codec",
    "group_cache",
)
FLAGS = ("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}")


def built(folder: Path) -> Path:
    compiler = os.environ.get("CC", "gcc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler}")
    empty, sanitized = folder / "empty.c", ("-fsanitize=thread",)
    empty.write_text("int main(void) { return 0; }\n")
    tried = subprocess.run(
        [compiler, *sanitized, str(empty), "-o", str(folder / "empty")],
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"{compiler} has no ThreadSanitizer")
    # Its functions in several versions for several processors are chosen before the sanitizer is
    # there; they are pure.
    page = folder / "page.o"
    subprocess.run([compiler, *FLAGS, "-c", str(NATIVE / "page.c"), "-o", str(page)], check=True)
    program = folder / "stress"
    sources = [Path(__file__).with_name("volume_pages_stress.c")]
    sources += [NATIVE / f"{name}.c" for name in SOURCES]
    subprocess.run(
        [
            *(compiler, *FLAGS, *sanitized, *map(str, sources), str(page)),
            *("-lzstd", "-llz4", "-llzma", "-lpthread", "-o", str(program)),
        ],
        check=True,
    )
    return program


def test_readers_writers_punches_and_rewritten_extents(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(built(tmp_path)), "2"], capture_output=True, text=True, timeout=120, check=False
    )
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run here: vm.mmap_rnd_bits is too large for it")
    assert done.returncode == 0, done.stderr[-4000:]
    reads, _, rewrites = (int(word) for word in done.stdout.split() if word.isdigit())
    assert reads > 100
    assert rewrites > 1
