"""An obvious twin of native/likeness.c."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from difffs.study import _kernels as study_kernels

FEATURES, WORDS, NEXT, PARTNERS, STRONG = 16, 2, 8, 8, 2


def features(page: bytes) -> list[int]:
    """The min-hash features of a page; 0 where there is none."""
    return list(study_kernels.min_hash_features(page, WORDS, FEATURES))


def _votes(one: list[int], other: list[int]) -> int:
    return sum(a == b != 0 for a, b in zip(one, other, strict=True))


def _edges(known: Sequence[list[int]], pages: Sequence[int]) -> list[tuple[int, int, int]]:
    """(votes, page, partner) between some pages, the strongest first."""
    partners: dict[int, list[tuple[int, int]]] = {page: [] for page in pages}
    for which in range(FEATURES):
        having = defaultdict(list)
        for page in pages:
            if known[page][which]:
                having[known[page][which]].append(page)
        for feature in sorted(having):
            alike = having[feature]
            for at, one in enumerate(alike):
                for other in alike[at + 1 : at + 1 + NEXT]:
                    if all(page != one for _votes_of, page in partners[other]):
                        partners[other].append((_votes(known[one], known[other]), one))
                        # stable: of equals, the one met first stays first
                        partners[other].sort(key=lambda pair: -pair[0])
                        del partners[other][PARTNERS:]
    edges = [(votes, page, one) for page in pages for votes, one in partners[page]]
    return sorted(edges, key=lambda edge: -edge[0])  # stable


class _Clusters:
    """Lists of pages, each found by any of its own."""

    def __init__(self, count: int) -> None:
        self.of = [[page] for page in range(count)]

    def join(self, one: int, other: int, most: int) -> None:
        first, second = sorted((self.of[one], self.of[other]), key=min)
        if first is not second and len(first) + len(second) <= most:
            first.extend(second)
            for page in second:
                self.of[page] = first

    def rooted_in(self, places: Iterable[int]) -> list[int]:
        """The pages of clusters whose smallest page is one of those."""
        return [page for place in places if min(self.of[place]) == place for page in self.of[place]]

    def join_alike(
        self, known: Sequence[list[int]], pages: Sequence[int], least_votes: int, most: int
    ) -> None:
        for votes, one, other in _edges(known, pages):
            if votes >= least_votes:
                self.join(one, other, most)


def _shared(known: Sequence[list[int]], pages: Sequence[int]) -> dict[int, int]:
    """How many features of each page another of them has."""
    having = [Counter(known[page][which] for page in pages) for which in range(FEATURES)]
    return {
        page: sum(
            feature != 0 and having[which][feature] > 1 for which, feature in enumerate(known[page])
        )
        for page in pages
    }


def _taken_back(
    known: Sequence[list[int]],
    stretch: Sequence[int],
    group_of: dict[int, int],
    there: dict[int, int],
    pages: int,
    budget: int,
) -> set[int]:
    """The pages of a stretch that leave their groups."""
    parts = defaultdict(list)
    for page in stretch:
        parts[group_of[page]].append(page)
    here = _shared(known, stretch)

    def loss(group: int) -> tuple[int, int, int]:
        lost = sum(max(0, there[page] - here[page]) for page in parts[group])
        return lost, len(parts[group]), group

    taken: set[int] = set()
    left = len(parts)
    for group in sorted(parts, key=loss):
        if left + (-(-len(taken) // pages) + 1 if taken else 0) <= budget:
            break
        taken.update(parts[group])
        left -= 1
    return taken


def groups(
    known: Sequence[list[int]], pages: int, budget: int, stretch: int, region: int
) -> list[list[int]]:
    """All pages' numbers by group, from their features."""
    count = len(known)
    numbers = range(count)
    clusters = _Clusters(count)
    clusters.join_alike(known, numbers, STRONG, pages)
    order = []
    for first in range(0, count, region):
        places = numbers[first : first + region]
        clusters.join_alike(known, clusters.rooted_in(places), 1, count)
        order += clusters.rooted_in(places)
    made = [order[first : first + pages] for first in range(0, count, pages)]
    group_of = {page: number for number, group in enumerate(made) for page in group}
    there = {page: shared for group in made for page, shared in _shared(known, group).items()}
    stretches = [numbers[first : first + stretch] for first in range(0, count, stretch)]
    taken = [_taken_back(known, each, group_of, there, pages, budget) for each in stretches]
    result: list[list[int]] = [[]]
    for group in made:
        kept = [page for page in group if page not in set().union(*taken)]
        if len(result[-1]) + len(kept) > pages:
            result.append([])
        result[-1] += kept
    back = []
    clusters = _Clusters(count)
    for each in taken:
        clusters.join_alike(known, sorted(each), 1, count)
        back += clusters.rooted_in(sorted(each))
    result += [back[first : first + pages] for first in range(0, len(back), pages)]
    return [group for group in result if group]
