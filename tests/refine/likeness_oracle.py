"""An obvious twin of native/likeness.c."""

from collections import defaultdict

from difffs.study import _kernels as study_kernels

FEATURES, WORDS, NEXT, PARTNERS = 16, 2, 8, 8


def features(page: bytes) -> list[int]:
    """The min-hash features of a page; 0 where there is none."""
    return list(study_kernels.min_hash_features(page, WORDS, FEATURES))


def _votes(one: list[int], other: list[int]) -> int:
    return sum(a == b != 0 for a, b in zip(one, other, strict=True))


def order(pages: list[bytes]) -> list[int]:
    """All pages' numbers: each tree of the forest of strongest edges, strong edges first."""
    known = [features(page) for page in pages]
    partners: list[list[tuple[int, int]]] = [[] for _ in pages]
    for which in range(FEATURES):
        groups = defaultdict(list)
        for number, own in enumerate(known):
            if own[which]:
                groups[own[which]].append(number)
        for feature in sorted(groups):
            alike = groups[feature]
            for at, one in enumerate(alike):
                for other in alike[at + 1 : at + 1 + NEXT]:
                    if all(page != one for _votes_of, page in partners[other]):
                        partners[other].append((_votes(known[one], known[other]), one))
                        # stable: of equals, the one met first stays first
                        partners[other].sort(key=lambda pair: -pair[0])
                        del partners[other][PARTNERS:]
    roots = list(range(len(pages)))

    def root(page: int) -> int:
        while roots[page] != page:
            page = roots[page]
        return page

    edges: list[list[int]] = [[] for _ in pages]
    for votes in range(FEATURES, 0, -1):
        for page, own_partners in enumerate(partners):
            for agreed, other in own_partners:
                if agreed == votes and root(page) != root(other):
                    low, high = sorted((root(page), root(other)))
                    roots[high] = low
                    edges[page].append(other)
                    edges[other].append(page)
    seen: set[int] = set()
    result = []
    for start in range(len(pages)):
        stack = [start] if start not in seen else []
        seen.update(stack)
        while stack:
            page = stack.pop()
            result.append(page)
            for other in reversed(edges[page]):  # weak ones first: they are walked last
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
    return result
