#include "overlap.h"

#include <stdlib.h>
#include <string.h>

#include "page_features.h"

struct overlap_window {
    uint64_t hash; /* 0: a free slot */
    uint32_t first, end; /* its members */
    uint64_t seen; /* by the page looked at with that count */
};

struct occurrence {
    uint64_t hash;
    uint32_t member;
};

static int by_hash(const void *left, const void *right) {
    const struct occurrence *a = left, *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return (a->member > b->member) - (a->member < b->member);
}

static struct overlap_window *window_of(const struct overlap *overlap, uint64_t hash) {
    for (size_t place = hash >> 20;; place++) {
        struct overlap_window *window = overlap->table + (place & overlap->mask);
        if (window->hash == 0 || window->hash == hash) {
            return window;
        }
    }
}

static unsigned windows_of_page(const struct overlap *overlap) {
    return FEATURE_PAGE_BYTES / 8u - overlap->words + 1u;
}

/* Sorted occurrences become the table and its members. */
static void enter(struct overlap *overlap, const struct occurrence *occurrences, size_t count) {
    uint32_t used = 0;
    struct overlap_window *window = NULL;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && by_hash(&occurrences[i - 1u], &occurrences[i]) == 0) {
            continue;
        }
        if (window == NULL || window->hash != occurrences[i].hash) {
            window = window_of(overlap, occurrences[i].hash);
            window->hash = occurrences[i].hash;
            window->first = used;
        }
        overlap->members[used++] = occurrences[i].member;
        window->end = used;
    }
}

int overlap_make(struct overlap *overlap, const uint8_t *pages, const uint32_t *numbers,
                 size_t count, unsigned words, unsigned best_count) {
    memset(overlap, 0, sizeof *overlap);
    overlap->words = words;
    overlap->best_count = best_count;
    overlap->sample_count = count;
    overlap->numbers = numbers;
    size_t windows = windows_of_page(overlap);
    size_t slots = 1024;
    while (slots < 2u * count * windows) {
        slots *= 2u;
    }
    overlap->mask = slots - 1u;
    struct occurrence *occurrences = malloc((count * windows + 1u) * sizeof *occurrences);
    overlap->table = calloc(slots, sizeof *overlap->table);
    overlap->members = malloc((count * windows + 1u) * sizeof *overlap->members);
    overlap->common = calloc(count + 1u, sizeof *overlap->common);
    overlap->touched = malloc((count + 1u) * sizeof *overlap->touched);
    overlap->best = calloc(count * best_count + 1u, sizeof *overlap->best);
    if (occurrences == NULL || overlap->table == NULL || overlap->members == NULL ||
        overlap->common == NULL || overlap->touched == NULL || overlap->best == NULL) {
        free(occurrences);
        overlap_free(overlap);
        return -1;
    }
    size_t found = 0;
    for (size_t member = 0; member < count; member++) {
        uint64_t hashes[OVERLAP_WINDOWS_MOST];
        window_hashes(pages + member * FEATURE_PAGE_BYTES, words, hashes);
        for (size_t i = 0; i < windows; i++) {
            if (hashes[i] != 0) {
                occurrences[found++] = (struct occurrence){hashes[i], (uint32_t)member};
            }
        }
    }
    qsort(occurrences, found, sizeof *occurrences, by_hash);
    enter(overlap, occurrences, found);
    free(occurrences);
    return 0;
}

void overlap_free(struct overlap *overlap) {
    free(overlap->table);
    free(overlap->members);
    free(overlap->common);
    free(overlap->touched);
    free(overlap->best);
    memset(overlap, 0, sizeof *overlap);
}

/* Where the members that come after page `number` begin: they are ascending, as their numbers. */
static uint32_t first_after(const struct overlap *overlap, const struct overlap_window *window,
                            uint32_t number) {
    uint32_t low = window->first, high = window->end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2u;
        if (overlap->numbers[overlap->members[middle]] <= number) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

static void remember(struct overlap *overlap, uint32_t member, uint32_t number) {
    struct overlap_best *best = overlap->best + (size_t)member * overlap->best_count;
    unsigned rank = overlap->best_count;
    uint32_t common = overlap->common[member];
    if (common < best[rank - 1u].common) {
        return;
    }
    for (rank--; rank > 0 && best[rank - 1u].common <= common; rank--) {
        best[rank] = best[rank - 1u];
    }
    best[rank] = (struct overlap_best){number, common};
}

void overlap_look(struct overlap *overlap, const uint8_t *page, uint32_t number) {
    uint64_t hashes[OVERLAP_WINDOWS_MOST];
    unsigned windows = windows_of_page(overlap);
    size_t touched = 0;
    window_hashes(page, overlap->words, hashes);
    overlap->looked_at++;
    for (unsigned i = 0; i < windows; i++) {
        __builtin_prefetch(overlap->table + ((hashes[i] >> 20) & overlap->mask));
    }
    for (unsigned i = 0; i < windows; i++) {
        if (hashes[i] == 0) {
            continue;
        }
        struct overlap_window *window = window_of(overlap, hashes[i]);
        if (window->hash == 0 || window->seen == overlap->looked_at) {
            continue;
        }
        window->seen = overlap->looked_at;
        for (uint32_t at = first_after(overlap, window, number); at < window->end; at++) {
            uint32_t member = overlap->members[at];
            if (overlap->common[member]++ == 0) {
                overlap->touched[touched++] = member;
            }
        }
    }
    for (size_t i = 0; i < touched; i++) {
        remember(overlap, overlap->touched[i], number);
        overlap->common[overlap->touched[i]] = 0;
    }
}
