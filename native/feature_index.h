/* An index from features to the pages that have them, without bounds: what a detector could find
 * if its index were never full. Only the study uses it; the product's table is in tables.h.
 */
#ifndef DIFFFS_FEATURE_INDEX_H
#define DIFFFS_FEATURE_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define FEATURES_MOST 64u
#define PAGES_KEPT_MOST 8u

struct feature_index {
    uint32_t *slots; /* each a feature (0: free) and, behind it, `kept` page numbers plus 1 */
    size_t mask;     /* slots less one */
    size_t features; /* in use */
    size_t pages;    /* page numbers held, of all features */
    unsigned kept;   /* page numbers a feature may have */
    int newest;      /* when there are more: keep the newest, else the first */
};

/* Returns 0, or -1 without memory. */
int feature_index_make(struct feature_index *index, unsigned kept, int newest);
void feature_index_free(struct feature_index *index);

/* Enters page `number` (below 2^32 - 1) under its features, 0s left out.
 * Returns 0, or -1 without memory. */
int feature_index_put(struct feature_index *index, const uint32_t *features, unsigned count,
                      uint32_t number);

/* Writes up to `limit` page numbers, those that most of the features lead to first; among equals
 * the one met first. Returns how many. At most FEATURES_MOST features. */
unsigned feature_index_find(const struct feature_index *index, const uint32_t *features,
                            unsigned count, unsigned limit, uint32_t *numbers);

#endif
