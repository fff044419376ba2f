"""All probes, subject by subject."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from difffs.doctor import (
    fuse,
    groups,
    guests,
    images,
    memory,
    place,
    process,
    study,
    swapping,
    versions,
)
from difffs.doctor.check import USES, Check, Probe, Use
from difffs.doctor.host import Host

SUBJECTS: tuple[tuple[str, tuple[Probe, ...]], ...] = (
    ("FUSE", fuse.PROBES),
    ("this process", process.PROBES),
    ("control groups", groups.PROBES),
    ("swap", swapping.PROBES),
    ("memory", memory.PROBES),
    ("guests", guests.PROBES),
    ("images", images.PROBES),
    ("study", study.PROBES),
    ("versions", versions.PROBES),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """The checks of one subject."""

    title: str
    checks: tuple[Check, ...]


def diagnose(
    host: Host, uses: Collection[Use] = USES, where: str | None = None
) -> Iterator[Subject]:
    """Look at a host, and at a store or mount point on it.

    With fewer than all uses, only what matters for one of them is looked at.
    """
    subjects = list(SUBJECTS)
    if where is not None:
        subjects.append((where, place.probes_of(host, where)))
    every = set(uses) == set(USES)
    for title, probes in subjects:
        chosen = [each for each in probes if every or set(each.matters_for) & set(uses)]
        if chosen:
            yield Subject(title, tuple(each.check(host) for each in chosen))


def is_finding(check: Check, uses: Collection[Use]) -> bool:
    """Whether something is missing that matters for one of these uses."""
    return check.is_finding and bool(set(check.matters_for) & set(uses))
