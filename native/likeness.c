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

static const uint32_t *features_of(const uint32_t *features, uint32_t page) {
    return features + (size_t)page * LIKENESS_FEATURES;
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

static void find_partners(const uint32_t *features, const uint32_t *pages, uint32_t count,
                          struct keyed *items, struct keyed *spare, struct partners *partners) {
    memset(partners, 0, (size_t)count * sizeof *partners);
    for (unsigned which = 0; which < LIKENESS_FEATURES; which++) {
        uint32_t used = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t feature = features[(size_t)pages[i] * LIKENESS_FEATURES + which];
            if (feature != 0) {
                items[used++] = (struct keyed){feature, i};
            }
        }
        const struct keyed *sorted = sort(items, spare, used);
        for (uint32_t i = 0; i < used; i++) {
            const uint32_t *one = features_of(features, pages[sorted[i].page]);
            for (uint32_t j = i + 1u; j < used && j <= i + LIKENESS_NEXT &&
                                      sorted[j].feature == sorted[i].feature;
                 j++) {
                const uint32_t *other = features_of(features, pages[sorted[j].page]);
                consider(&partners[sorted[j].page], sorted[i].page, votes_of(one, other));
            }
        }
    }
}

/* What making groups takes. Clusters are lists of pages that are joined; a cluster's root is its
 * smallest page, and its place is that one's. */
struct making {
    const uint32_t *features;
    uint32_t count;
    uint32_t *parents; /* of union-find; here and below, one for each page */
    uint32_t *sizes;   /* of a root's cluster */
    uint32_t *tails;   /* the last page in it */
    uint32_t *nexts;   /* in the cluster's list, which begins with the root */
    uint32_t *groups;  /* NONE: in none yet */
    uint8_t *shared;   /* features that others of a page's group have too */
    struct keyed *items;
    struct keyed *spare;
    struct partners *partners;
};

static uint32_t root_of(uint32_t *parents, uint32_t page) {
    while (parents[page] != page) {
        parents[page] = parents[parents[page]];
        page = parents[page];
    }
    return page;
}

static void stand_alone(struct making *making, uint32_t page) {
    making->parents[page] = page;
    making->sizes[page] = 1;
    making->tails[page] = page;
    making->nexts[page] = NONE;
    making->groups[page] = NONE;
}

/* Puts one of two clusters behind the other, if they are no larger than `most` together. */
static void join(struct making *making, uint32_t one, uint32_t other, uint32_t most) {
    uint32_t root = root_of(making->parents, one);
    uint32_t behind = root_of(making->parents, other);
    if (root == behind || making->sizes[root] + making->sizes[behind] > most) {
        return;
    }
    if (root > behind) {
        uint32_t swap = root;
        root = behind;
        behind = swap;
    }
    making->parents[behind] = root;
    making->sizes[root] += making->sizes[behind];
    making->nexts[making->tails[root]] = behind;
    making->tails[root] = making->tails[behind];
}

/* Joins the clusters of some pages by the edges between them, the strongest first. */
static void join_alike(struct making *making, const uint32_t *pages, uint32_t count,
                       unsigned least_votes, uint32_t most) {
    find_partners(making->features, pages, count, making->items, making->spare, making->partners);
    for (unsigned votes = LIKENESS_FEATURES; votes >= least_votes; votes--) {
        for (uint32_t i = 0; i < count; i++) {
            for (unsigned which = 0; which < LIKENESS_PARTNERS; which++) {
                if (making->partners[i].votes[which] == votes) {
                    join(making, pages[i], pages[making->partners[i].pages[which]], most);
                }
            }
        }
    }
}

/* The clusters with a root in [first, end) that are in no group, one behind the other. Returns the number
 * of their pages. */
static uint32_t list(const struct making *making, uint32_t first, uint32_t end, uint32_t *out) {
    uint32_t done = 0;
    for (uint32_t root = first; root < end; root++) {
        if (making->parents[root] == root && making->groups[root] == NONE) {
            for (uint32_t page = root; page != NONE; page = making->nexts[page]) {
                out[done++] = page;
            }
        }
    }
    return done;
}

/* The same, those behind each other that are alike. */
static uint32_t list_alike(struct making *making, uint32_t first, uint32_t end, uint32_t *out) {
    join_alike(making, out, list(making, first, end, out), 1, UINT32_MAX);
    return list(making, first, end, out);
}

static uint32_t smaller(uint32_t one, uint32_t other) { return one < other ? one : other; }

/* Of each of some pages, the features that another has too. */
static void count_shared(const uint32_t *features, const uint32_t *pages, uint32_t count,
                         uint8_t *shared) {
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *own = features_of(features, pages[i]);
        uint32_t found[LIKENESS_FEATURES] = {0};
        for (uint32_t j = 0; j < count; j++) {
            const uint32_t *other = features_of(features, pages[j]);
            if (i != j) {
                for (unsigned which = 0; which < LIKENESS_FEATURES; which++) {
                    found[which] |= own[which] == other[which];
                }
            }
        }
        shared[i] = 0;
        for (unsigned which = 0; which < LIKENESS_FEATURES; which++) {
            shared[i] += found[which] != 0 && own[which] != 0;
        }
    }
}

static int compare_keys(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one;
    uint64_t b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* Takes pages of the stretch [first, end) out of their groups until these are no more than the budget,
 * counting those that the pages will need which were taken. Those go together that a group has of the
 * stretch, first where least is lost by it: features that were shared there and will not be here. */
static void keep_budget(struct making *making, uint32_t first, uint32_t end,
                        const struct likeness_limits *limits) {
    uint32_t pages[LIKENESS_STRETCH_MOST];
    uint8_t shared_here[LIKENESS_STRETCH_MOST];
    uint64_t by_group[LIKENESS_STRETCH_MOST];
    uint64_t by_loss[LIKENESS_STRETCH_MOST];
    uint32_t starts[LIKENESS_STRETCH_MOST + 1u];
    uint32_t count = end - first;
    for (uint32_t i = 0; i < count; i++) {
        pages[i] = first + i;
        by_group[i] = (uint64_t)making->groups[first + i] << 32 | (first + i);
    }
    qsort(by_group, count, sizeof *by_group, compare_keys);
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || by_group[i] >> 32 != by_group[i - 1u] >> 32) {
            starts[left++] = i;
        }
    }
    if (left <= limits->budget) {
        return;
    }
    starts[left] = count;
    count_shared(making->features, pages, count, shared_here);
    uint32_t parts = left;
    for (uint32_t part = 0; part < parts; part++) {
        uint64_t loss = 0;
        for (uint32_t i = starts[part]; i < starts[part + 1u]; i++) {
            uint32_t page = (uint32_t)by_group[i];
            unsigned there = making->shared[page];
            unsigned here = shared_here[page - first];
            loss += there > here ? there - here : 0u;
        }
        by_loss[part] = loss << 40 | (uint64_t)(starts[part + 1u] - starts[part]) << 20 | part;
    }
    qsort(by_loss, parts, sizeof *by_loss, compare_keys);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t fresh = taken == 0 ? 0 : (taken + limits->pages - 1u) / limits->pages + 1u;
        if (left + fresh <= limits->budget) {
            break;
        }
        uint32_t part = by_loss[i] & 0xFFFFFu;
        for (uint32_t at = starts[part]; at < starts[part + 1u]; at++) {
            stand_alone(making, (uint32_t)by_group[at]);
            taken++;
        }
        left--;
    }
}

/* Leaves in each group those that were not taken out, and makes one of such groups in a row that fit.
 * Returns the number of pages left. */
static uint32_t close_gaps(const struct making *making, uint32_t pages_most, uint32_t *order,
                           uint32_t *ends, uint32_t *groups) {
    uint32_t done = 0;
    uint32_t start = 0; /* of the group that is being made */
    uint32_t made = 0;
    for (uint32_t first = 0; first < making->count; first += pages_most) {
        uint32_t begin = done;
        uint32_t end = smaller(first + pages_most, making->count);
        for (uint32_t i = first; i < end; i++) {
            if (making->groups[order[i]] != NONE) {
                order[done++] = order[i];
            }
        }
        if (done - start > pages_most) {
            ends[made++] = begin;
            start = begin;
        }
    }
    if (done != start) {
        ends[made++] = done;
    }
    *groups = made;
    return done;
}

static uint32_t make_groups(struct making *making, const struct likeness_limits *limits,
                            uint32_t *order, uint32_t *ends) {
    uint32_t count = making->count;
    for (uint32_t page = 0; page < count; page++) {
        stand_alone(making, page);
        order[page] = page;
    }
    join_alike(making, order, count, LIKENESS_STRONG, limits->pages);
    uint32_t done = 0;
    for (uint32_t first = 0; first < count; first += limits->region) {
        done += list_alike(making, first, smaller(first + limits->region, count), order + done);
    }
    for (uint32_t first = 0; first < count; first += limits->pages) {
        uint32_t size = smaller(limits->pages, count - first);
        uint8_t shared[LIKENESS_PAGES_MOST];
        count_shared(making->features, order + first, size, shared);
        for (uint32_t i = 0; i < size; i++) {
            making->groups[order[first + i]] = first;
            making->shared[order[first + i]] = shared[i];
        }
    }
    for (uint32_t first = 0; first < count; first += limits->stretch) {
        keep_budget(making, first, smaller(first + limits->stretch, count), limits);
    }
    uint32_t groups;
    done = close_gaps(making, limits->pages, order, ends, &groups);
    uint32_t start = done;
    for (uint32_t first = 0; first < count; first += limits->stretch) {
        done += list_alike(making, first, smaller(first + limits->stretch, count), order + done);
    }
    while (start < count) {
        start = smaller(start + limits->pages, count);
        ends[groups++] = start;
    }
    return groups;
}

int likeness_groups(const struct likeness *likeness, const struct likeness_limits *limits,
                    uint32_t *order, uint32_t *ends, uint32_t *groups) {
    size_t room = (size_t)likeness->count + 1u;
    uint32_t *numbers = malloc(5u * room * sizeof *numbers);
    struct making making = {
        .features = likeness->features,
        .count = likeness->count,
        .parents = numbers,
        .shared = malloc(room),
        .items = malloc(room * sizeof *making.items),
        .spare = malloc(room * sizeof *making.spare),
        .partners = malloc(room * sizeof *making.partners),
    };
    int result = -1;
    if (numbers != NULL && making.shared != NULL && making.items != NULL &&
        making.spare != NULL && making.partners != NULL) {
        making.sizes = numbers + room;
        making.tails = numbers + 2u * room;
        making.nexts = numbers + 3u * room;
        making.groups = numbers + 4u * room;
        *groups = make_groups(&making, limits, order, ends);
        result = 0;
    }
    free(numbers);
    free(making.shared);
    free(making.items);
    free(making.spare);
    free(making.partners);
    return result;
}
