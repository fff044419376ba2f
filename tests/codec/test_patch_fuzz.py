"""The patch codecs of our own alone, with sanitizers, on hostile patches: see patch_fuzz.c."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODECS = {"vcdiff": 3000, "page_bsdiff": 600, "xbzrle": 3000}
"""With the pairs that each is fed: the range coder takes its time."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer with all codecs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("fuzz")
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    if subprocess.run([compiler, *flags, str(probe), "-o", str(folder / "probe")]).returncode:
        pytest.skip("the compiler has no address sanitizer")
    built = folder / "patch_fuzz"
    subprocess.run(
        [
            *[compiler, *flags, "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"],
            *["-I", str(ROOT / "native"), *(str(ROOT / "native" / f"{c}.c") for c in CODECS)],
            *[str(Path(__file__).with_name("patch_fuzz.c")), "-o", str(built)],
        ],
        check=True,
    )
    return built


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_is_read_or_written_out_of_bounds(program: Path, codec: str) -> None:
    fuzz = subprocess.run(
        [program, codec, str(CODECS[codec]), "20"], capture_output=True, text=True, check=False
    )
    assert fuzz.returncode == 0, fuzz.stderr
