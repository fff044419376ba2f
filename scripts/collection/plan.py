"""What is collected: the corpora, their guests, and how long each works."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from collection.releases import SYSTEMS, System


@dataclass(frozen=True, slots=True)
class Member:
    """A guest of a corpus, and when its images are taken."""

    corpus: str
    name: str
    system_name: str
    work: str
    """A workload of ``scripts/collection/guest-files``."""
    load: int
    """Clients, processes or MiB: see the workload."""
    seed: int
    mebibytes: int = 256
    pauses: tuple[int, ...] = (120,)
    """Seconds of steady work, from its beginning, after which each image is taken."""

    @property
    def system(self) -> System:
        """The disk that it is booted from."""
        return SYSTEMS[self.system_name]

    @property
    def files(self) -> tuple[str, ...]:
        """Its images, relative to the folder of the collection, in the order of taking."""
        if len(self.pauses) == 1:
            return (f"{self.corpus}/{self.name}.mem",)
        return tuple(
            f"{self.corpus}/{self.name}-{number}.mem" for number in range(1, len(self.pauses) + 1)
        )

    @property
    def parameters(self) -> dict[str, int | list[int]]:
        """What tells it from another guest of the same workload."""
        return {
            "load": self.load,
            "seed": self.seed,
            "memory_mib": self.mebibytes,
            "pauses": list(self.pauses),
        }


# The corpora of the paper's evaluation: clones, and two mixtures of systems and workloads.
FULL = (
    Member("ident", "clone-1", "debian-12", "web", load=2, seed=1, pauses=(90,)),
    Member("ident", "clone-2", "debian-12", "web", load=4, seed=2, pauses=(120,)),
    Member("ident", "clone-3", "debian-12", "web", load=8, seed=3, pauses=(150,)),
    Member("ident", "clone-4", "debian-12", "web", load=3, seed=4, pauses=(180,)),
    Member("mixed-1", "debian-13-shop", "debian-13", "shop", load=3, seed=5),
    Member("mixed-1", "debian-12-compile", "debian-12", "compile", load=2, seed=6),
    Member("mixed-1", "debian-11-files", "debian-11", "files", load=3, seed=7),
    Member("mixed-2", "debian-11-scripts", "debian-11", "scripts", load=28, seed=8),
    Member("mixed-2", "debian-12-jvm", "debian-12", "jvm", load=150, seed=9, mebibytes=320),
    Member("mixed-2", "debian-13-text", "debian-13", "text", load=10, seed=10),
    Member("series", "debian-13", "debian-13", "text", load=6, seed=11, pauses=(20, 100, 200, 320)),
)
SMALL = (
    Member("small", "text", "debian-13-small", "text", load=3, seed=1, mebibytes=128, pauses=(10,)),
    Member("small", "perl", "debian-13-small", "perl", load=12, seed=2, mebibytes=128, pauses=(5,)),
)
CORPORA = tuple(dict.fromkeys(member.corpus for member in FULL))


def members(corpora: Iterable[str]) -> list[Member]:
    """Return the guests of some corpora of :data:`FULL`."""
    wanted = set(corpora)
    return [member for member in FULL if member.corpus in wanted]


def systems(of: Iterable[Member]) -> list[System]:
    """Return the systems that guests need, in order of first need."""
    return list({member.system_name: member.system for member in of}.values())
