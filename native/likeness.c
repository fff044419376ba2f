#include "likeness.h"

#include <stdlib.h>
#include <string.h>

#include "page_features.h"

#define DIGIT_BITS 11u
#define DIGITS (1u << DIGIT_BITS)
#define NONE UINT32_MAX

int likeness_init(struct likeness *likeness, uint32_t capacity) {
    likeness->count = 0;
    likeness->capacity = capacity;
    likeness->features = malloc((size_t)capacity * LIKENESS_FEATURES * sizeof(uint32_t));
    return likeness->features == NULL && capacity != 0 ? -1 : 0;
}

void likeness_free(struct likeness *likeness) {
    free(likeness->features);
    likeness->features = NULL;
}

void likeness_add(struct likeness *likeness, const uint8_t *page) {
    uint32_t *features = likeness->features + (size_t)likeness->count * LIKENESS_FEATURES;
    min_hash_features(page, LIKENESS_WORDS, LIKENESS_FEATURES, features);
    likeness->count++;
}

struct keyed {
    uint32_t feature;
    uint32_t page;
};

/* Sorts by feature, stably; `spare` has as much room. Returns which of both holds the result. */
static struct keyed *sort(struct keyed *items, struct keyed *spare, uint32_t count) {
    for (unsigned shift = 0; shift < 32u; shift += DIGIT_BITS) {
        uint32_t starts[DIGITS + 1u];
        memset(starts, 0, sizeof starts);
        for (uint32_t i = 0; i < count; i++) {
            starts[(items[i].feature >> shift & (DIGITS - 1u)) + 1u]++;
        }
        for (uint32_t digit = 0; digit < DIGITS; digit++) {
            starts[digit + 1u] += starts[digit];
        }
        for (uint32_t i = 0; i < count; i++) {
            spare[starts[items[i].feature >> shift & (DIGITS - 1u)]++] = items[i];
        }
        struct keyed *swap = items;
        items = spare;
        spare = swap;
    }
    return items;
}

static unsigned votes_of(const uint32_t *features, const uint32_t *other) {
    unsigned votes = 0;
    for (unsigned i = 0; i < LIKENESS_FEATURES; i++) {
        votes += (features[i] == other[i]) & (features[i] != 0);
    }
    return votes;
}

/* The best earlier pages of each, most votes first. */
struct partners {
    uint32_t pages[LIKENESS_PARTNERS];
    uint8_t votes[LIKENESS_PARTNERS]; /* 0: none */
};

static void consider(struct partners *partners, uint32_t page, unsigned votes) {
    for (unsigned i = 0; i < LIKENESS_PARTNERS; i++) {
        if (partners->votes[i] != 0 && partners->pages[i] == page) {
            return;
        }
    }
    unsigned place = LIKENESS_PARTNERS;
    while (place != 0 && partners->votes[place - 1u] < votes) {
        place--;
    }
    if (place == LIKENESS_PARTNERS) {
        return;
    }
    for (unsigned i = LIKENESS_PARTNERS - 1u; i > place; i--) {
        partners->pages[i] = partners->pages[i - 1u];
        partners->votes[i] = partners->votes[i - 1u];
    }
    partners->pages[place] = page;
    partners->votes[place] = (uint8_t)votes;
}

static void find_partners(const uint32_t *features, uint32_t count, struct keyed *items,
                          struct keyed *spare, struct partners *partners) {
    for (unsigned which = 0; which < LIKENESS_FEATURES; which++) {
        uint32_t used = 0;
        for (uint32_t page = 0; page < count; page++) {
            uint32_t feature = features[(size_t)page * LIKENESS_FEATURES + which];
            if (feature != 0) {
                items[used++] = (struct keyed){feature, page};
            }
        }
        const struct keyed *sorted = sort(items, spare, used);
        for (uint32_t i = 0; i < used; i++) {
            const uint32_t *one = features + (size_t)sorted[i].page * LIKENESS_FEATURES;
            for (uint32_t j = i + 1u; j < used && j <= i + LIKENESS_NEXT &&
                                      sorted[j].feature == sorted[i].feature;
                 j++) {
                const uint32_t *other = features + (size_t)sorted[j].page * LIKENESS_FEATURES;
                consider(&partners[sorted[j].page], sorted[i].page, votes_of(one, other));
            }
        }
    }
}

/* A forest in lists of half edges, those inserted last first. */
struct forest {
    uint32_t *parents; /* of union-find */
    uint32_t *heads;   /* of each page's list */
    uint32_t *nexts;   /* two half edges for each edge */
    uint32_t *pages;   /* where each leads to */
    uint32_t *stack;
    uint32_t edges;
};

static uint32_t root_of(uint32_t *parents, uint32_t page) {
    while (parents[page] != page) {
        parents[page] = parents[parents[page]];
        page = parents[page];
    }
    return page;
}

static void join(struct forest *forest, uint32_t one, uint32_t other) {
    uint32_t root = root_of(forest->parents, one);
    uint32_t other_root = root_of(forest->parents, other);
    if (root == other_root) {
        return;
    }
    forest->parents[root > other_root ? root : other_root] = root > other_root ? other_root : root;
    uint32_t ends[2] = {one, other};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t half = 2u * forest->edges + i;
        forest->pages[half] = ends[1u - i];
        forest->nexts[half] = forest->heads[ends[i]];
        forest->heads[ends[i]] = half;
    }
    forest->edges++;
}

static void walk(const struct forest *forest, uint32_t count, uint32_t first, uint8_t *seen,
                 uint32_t *order) {
    uint32_t done = 0;
    for (uint32_t root = 0; root < count; root++) {
        if (seen[root]) {
            continue;
        }
        uint32_t height = 0;
        seen[root] = 1;
        forest->stack[height++] = root;
        while (height != 0) {
            uint32_t page = forest->stack[--height];
            order[done++] = first + page;
            /* Weak edges were inserted last, come first and so are walked last. */
            for (uint32_t half = forest->heads[page]; half != NONE; half = forest->nexts[half]) {
                if (!seen[forest->pages[half]]) {
                    seen[forest->pages[half]] = 1;
                    forest->stack[height++] = forest->pages[half];
                }
            }
        }
    }
}

int likeness_order(const struct likeness *likeness, uint32_t first, uint32_t end,
                   uint32_t *order) {
    uint32_t count = end - first;
    const uint32_t *features = likeness->features + (size_t)first * LIKENESS_FEATURES;
    struct keyed *items = malloc(((size_t)count + 1u) * sizeof *items);
    struct keyed *spare = malloc(((size_t)count + 1u) * sizeof *spare);
    struct partners *partners = calloc((size_t)count + 1u, sizeof *partners);
    uint32_t *numbers = malloc((7u * (size_t)count + 1u) * sizeof *numbers);
    uint8_t *seen = calloc((size_t)count + 1u, 1);
    int result = -1;
    if (items != NULL && spare != NULL && partners != NULL && numbers != NULL && seen != NULL) {
        find_partners(features, count, items, spare, partners);
        struct forest forest = {
            .parents = numbers,
            .heads = numbers + count,
            .nexts = numbers + 2u * (size_t)count,
            .pages = numbers + 4u * (size_t)count,
            .stack = numbers + 6u * (size_t)count,
        };
        for (uint32_t page = 0; page < count; page++) {
            forest.parents[page] = page;
            forest.heads[page] = NONE;
        }
        for (unsigned votes = LIKENESS_FEATURES; votes != 0; votes--) {
            for (uint32_t page = 0; page < count; page++) {
                for (unsigned i = 0; i < LIKENESS_PARTNERS; i++) {
                    if (partners[page].votes[i] == votes) {
                        join(&forest, page, partners[page].pages[i]);
                    }
                }
            }
        }
        walk(&forest, count, first, seen, order);
        result = 0;
    }
    free(items);
    free(spare);
    free(partners);
    free(numbers);
    free(seen);
    return result;
}
