/* Which pages belong together: groups of like pages, with a limit to how far a stretch of pages is scattered.
 *
 * Each page has LIKENESS_FEATURES min-hash features (page_features.h). Pages that share one are sought by
 * sorting. Those that share LIKENESS_STRONG or more are joined to clusters no larger than a group, strongest
 * first (Kruskal), wherever they are. A cluster's place is its first page's; in regions of some stretches,
 * clusters are joined further by what is found in the region, and the lists that come of that are cut into
 * groups. Then each stretch of pages takes pages back from groups, until it is in as many as it may be. */
#ifndef DIFFFS_LIKENESS_H
#define DIFFFS_LIKENESS_H

#include <stdint.h>

#define LIKENESS_FEATURES 16u
#define LIKENESS_WORDS 2u   /* of 8 bytes, in a window of the features */
#define LIKENESS_NEXT 8u     /* pages behind one with the same feature that it is compared with */
#define LIKENESS_PARTNERS 8u /* best of these that are remembered for a page */
#define LIKENESS_STRONG 2u   /* features in common that bind pages wherever they are */
#define LIKENESS_PAGES_MOST 64u
#define LIKENESS_STRETCH_MOST 256u

struct likeness {
    uint32_t count;
    uint32_t capacity;
    uint32_t *features; /* LIKENESS_FEATURES for each page; 0: none */
};

struct likeness_limits {
    uint32_t pages;   /* in a group, LIKENESS_PAGES_MOST at most */
    uint32_t budget;  /* groups that a stretch is in, at most; no less than it needs, and one */
    uint32_t stretch; /* pages in a row, LIKENESS_STRETCH_MOST at most */
    uint32_t region;  /* pages in a row among which clusters are laid by likeness */
};

/* Returns 0, or -1 without memory: 64 bytes a page. */
int likeness_init(struct likeness *likeness, uint32_t capacity);
void likeness_free(struct likeness *likeness);

/* Takes a page; there must be room. */
void likeness_add(struct likeness *likeness, const uint8_t *page);

/* All pages in groups: `order` has them one group behind the other, `ends` where each ends, and has room for
 * as many as there are pages. Returns 0, or -1 without memory: 77 bytes a page. */
int likeness_groups(const struct likeness *likeness, const struct likeness_limits *limits,
                    uint32_t *order, uint32_t *ends, uint32_t *groups);

#endif
