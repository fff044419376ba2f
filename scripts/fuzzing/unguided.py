"""``python -m fuzzing.unguided``: the process that tries mutations without looking at the code that
they reach: several times as many in the same time."""

import sys
import time
from pathlib import Path

from fuzzing.mutation import Mutator
from fuzzing.targets import target_named
from fuzzing.trying import Trying, begin


def try_mutations(
    trying: Trying, inputs: list[bytes], *, seed: int, runs: int, seconds: float | None = None
) -> None:
    """Tries mutations of the inputs, so many or for so long; the inputs themselves first."""
    mutator = Mutator(inputs, seed)
    end = None if seconds is None else time.monotonic() + seconds
    for data in inputs[:runs]:
        result = trying.run(data)
        if result is not None:
            mutator.begun(data, result)
    for data in mutator.inputs():
        if trying.runs >= runs:
            break
        result = trying.run(data)
        if result is not None:
            mutator.heard(data, result)
        if end is not None and trying.runs % 256 == 0 and time.monotonic() > end:
            break


def main() -> None:
    """Arguments: the target's name, the folder for what comes out, the seed, the runs, the seconds
    (0: without end), and the folders of inputs."""
    name, folder, seed, runs, seconds, *inputs = sys.argv[1:]
    trying = Trying(target_named(name), Path(folder))
    found = [path for each in inputs for path in sorted(Path(each).iterdir())]
    data = [path.read_bytes() for path in found]
    begin(trying.target)
    trying.arm()
    try_mutations(
        trying, data, seed=int(seed), runs=int(runs), seconds=float(seconds) if seconds else None
    )
    trying.write_counts()


if __name__ == "__main__":
    main()
