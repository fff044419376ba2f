"""``python -m fuzzing.guided``: the process in which atheris drives a target by what code it
reaches."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["difffs.images", "difffs.stored_image"]):
    from fuzzing.targets import target_named
    from fuzzing.trying import Trying, begin


def main() -> None:
    """Arguments: the target's name, the folder for what comes out, and libFuzzer's own."""
    name, folder, *rest = sys.argv[1:]
    trying = Trying(target_named(name), Path(folder))
    trying.write_counts()
    begin(trying.target)
    trying.arm()

    def one(data: bytes) -> None:
        trying.run(data)

    atheris.Setup([sys.argv[0], *rest], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
