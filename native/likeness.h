/* Which pages belong together: an order in which like pages are neighbours.
 *
 * Each page has LIKENESS_FEATURES min-hash features (page_features.h). Pages that share one are sought by
 * sorting, pages are joined to a forest by those edges that most features agree on, strongest first
 * (Kruskal), and the order is that of walking each tree, the strongest edge of a page first. */
#ifndef DIFFFS_LIKENESS_H
#define DIFFFS_LIKENESS_H

#include <stdint.h>

#define LIKENESS_FEATURES 16u
#define LIKENESS_WORDS 2u   /* of 8 bytes, in a window of the features */
#define LIKENESS_NEXT 8u     /* pages behind one with the same feature that it is compared with */
#define LIKENESS_PARTNERS 8u /* best of these that are remembered for a page */

struct likeness {
    uint32_t count;
    uint32_t capacity;
    uint32_t *features; /* LIKENESS_FEATURES for each page; 0: none */
};

/* Returns 0, or -1 without memory: 64 bytes a page. */
int likeness_init(struct likeness *likeness, uint32_t capacity);
void likeness_free(struct likeness *likeness);

/* Takes a page; there must be room. */
void likeness_add(struct likeness *likeness, const uint8_t *page);

/* The pages [first, end) in such an order. Returns 0, or -1 without memory: 85 bytes a page. */
int likeness_order(const struct likeness *likeness, uint32_t first, uint32_t end, uint32_t *order);

#endif
