"""Inputs that are kept: tests/images/corpus has a folder for each target, all in the short form."""

from collections.abc import Iterable
from pathlib import Path

from fuzzing.mutation import key_of
from fuzzing.targets import Target

LONGEST_KEPT = 300
"""Bytes of an input, in the short form."""
KEPT = Path(__file__).parents[2] / "tests/images/corpus"
"""Minimal inputs of each kind, and those by which bugs were found (``found-*``)."""


def kept_inputs(name: str) -> list[bytes]:
    """The inputs of a target in KEPT."""
    folder = KEPT / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def write_inputs(target: Target, folder: Path) -> None:
    """Puts a target's seeds and kept inputs into a folder."""
    for number, data in enumerate([*target.seeds(), *kept_inputs(target.name)]):
        (folder / f"seed-{number:03}").write_bytes(data)


def keep_smallest(target: Target, inputs: Iterable[bytes]) -> int:
    """Keeps in KEPT the smallest input for each thing that is said of one, but for what is said of
    the seeds and of what was kept by hand (``found-*``); returns how many there are."""
    smallest: dict[tuple[str, str], bytes] = {}
    folder = KEPT / target.name
    by_hand = sorted(folder.glob("found-*"))
    known = {key_of(target.run(data)) for data in [*target.seeds(), *map(_read, by_hand)]}
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        if len(data) <= LONGEST_KEPT:
            smallest.setdefault(key_of(target.run(data)), data)
    kept = [data for key, data in smallest.items() if key not in known]
    if folder.is_dir():
        for path in set(folder.iterdir()) - set(by_hand):
            path.unlink()
    if kept:
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(kept):
        (folder / f"{number:02}").write_bytes(data)
    return len(kept)


def _read(path: Path) -> bytes:
    return path.read_bytes()
